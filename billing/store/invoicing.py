"""How far usage was billed here, and what stands on every invoice, in Postgres. The SQL is in invoicing.sql."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import asyncpg

from billing.services.ports_invoice import Cursor, HourOfUsage, InvoiceSettings, RatedPeriod
from billing.store.rows import from_jsonb, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "invoicing.sql")
_SETTINGS, _LOGO, _PUT_SETTINGS, _PUT_PREFIX = (_SQL[name] for name in ("settings", "logo", "put_settings", "put_prefix"))
_DUE, _CURSOR, _PUT_CURSOR, _SUBSCRIBED, _FLUSHED = (_SQL[name] for name in ("due", "cursor", "put_cursor", "subscribed_at", "flushed_at"))
_PERIODS, _RATED, _LOCK_RATED, _KEEP_RATED = (_SQL[name] for name in ("periods", "rated", "lock_rated", "keep_rated"))
_TERMS_WITHIN = _SQL["terms_within"]
_CHANGED, _KEEP_TERMS, _TERMS_AT, _HOURS = (_SQL[name] for name in ("changed", "keep_terms", "terms_at", "hours"))


class InvoiceSettingsTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def get(self) -> InvoiceSettings:
        row = await self._connection.fetchrow(_SETTINGS)
        return InvoiceSettings(
            company_name=row["company_name"], company_address=row["company_address"], company_email=row["company_email"],
            company_tax_id=row["company_tax_id"], footer=row["footer"], due_days=row["due_days"], prefix=row["prefix"],
            logo=row["logo"], logo_url=row["logo_url"],
        )  # fmt: skip

    async def logo(self) -> bytes | None:
        found: bytes | None = await self._connection.fetchval(_LOGO)
        return found

    async def put(self, settings: InvoiceSettings, now_ms: int) -> None:
        await self._connection.execute(
            _PUT_SETTINGS, settings.company_name, settings.company_address, settings.company_email, settings.company_tax_id,
            settings.footer, settings.due_days, settings.logo, settings.logo_url, to_datetime(now_ms),
        )  # fmt: skip
        await self._connection.execute(_PUT_PREFIX, settings.prefix)


class InvoicingTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def due(self, now_ms: int, after: str | None, limit: int) -> list[str]:
        return [str(row["org_id"]) for row in await self._connection.fetch(_DUE, to_datetime(now_ms), after, limit)]

    async def cursor(self, org_id: str) -> Cursor | None:
        row = await self._connection.fetchrow(_CURSOR, org_id)
        if row is None:
            return None
        return Cursor(
            org_id=str(row["org_id"]), since_ms=to_ms(row["since"]), billed_until_ms=to_ms(row["billed_until"]),
            next_ms=to_ms(row["next_at"]),
        )  # fmt: skip

    async def put(self, cursor: Cursor) -> None:
        instants = (to_datetime(each) for each in (cursor.since_ms, cursor.billed_until_ms, cursor.next_ms))
        await self._connection.execute(_PUT_CURSOR, cursor.org_id, *instants)

    async def subscribed_ms(self, org_id: str) -> int | None:
        return ms(await self._connection.fetchval(_SUBSCRIBED, org_id))

    async def flushed_ms(self) -> int | None:
        return ms(await self._connection.fetchval(_FLUSHED))

    async def periods(self, org_id: str, since_ms: int, until_ms: int) -> dict[tuple[int, int], dict[str, int]]:
        found: dict[tuple[int, int], dict[str, int]] = {}
        for row in await self._connection.fetch(_PERIODS, org_id, to_datetime(since_ms), to_datetime(until_ms)):
            bounds = to_ms(row["period_start"]), to_ms(row["period_end"])
            found.setdefault(bounds, {})[row["service"]] = row["cumulative"]
        return found

    async def rated(self, org_id: str, start_ms: int, *, lock: bool = False) -> RatedPeriod | None:
        row = await self._connection.fetchrow(_LOCK_RATED if lock else _RATED, org_id, to_datetime(start_ms))
        return _rated(row) if row else None

    async def keep_rated(self, period: RatedPeriod) -> None:
        amounts = {name: str(amount) for name, amount in period.amounts.items()}
        await self._connection.execute(
            _KEEP_RATED, period.org_id, to_datetime(period.start_ms), to_datetime(period.end_ms), period.currency, jsonb(period.terms),
            jsonb(period.used), jsonb(amounts), period.revision, to_datetime(period.rated_ms),
        )  # fmt: skip

    async def changed(self, limit: int) -> list[tuple[str, int]]:
        return [(str(row["org_id"]), to_ms(row["period_start"])) for row in await self._connection.fetch(_CHANGED, limit)]

    async def keep_terms(self, org_id: str, until_ms: int, terms: Mapping[str, Any]) -> None:
        await self._connection.execute(_KEEP_TERMS, org_id, to_datetime(until_ms), jsonb(terms))

    async def terms_at(self, org_id: str, at_ms: int) -> Mapping[str, Any] | None:
        found = await self._connection.fetchval(_TERMS_AT, org_id, to_datetime(at_ms))
        return None if found is None else from_jsonb(found)

    async def terms_within(self, org_id: str, start_ms: int, end_ms: int) -> list[Mapping[str, Any]]:
        found = await self._connection.fetch(_TERMS_WITHIN, org_id, to_datetime(start_ms), to_datetime(end_ms))
        return [from_jsonb(row["terms"]) for row in found]


class EvidenceTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def hours(self, org_id: str, meter: str, period_start_ms: int) -> list[HourOfUsage]:
        found = await self._connection.fetch(_HOURS, org_id, meter, to_datetime(period_start_ms))
        return [HourOfUsage(hour_ms=to_ms(row["hour"]), quantity=row["quantity"], events=row["events"]) for row in found]


def _rated(row: asyncpg.Record) -> RatedPeriod:
    return RatedPeriod(
        org_id=str(row["org_id"]), start_ms=to_ms(row["period_start"]), end_ms=to_ms(row["period_end"]), currency=row["currency"],
        terms=from_jsonb(row["terms"]), used=from_jsonb(row["used"]),
        amounts={name: Decimal(amount) for name, amount in from_jsonb(row["amounts"]).items()}, revision=row["revision"],
        rated_ms=to_ms(row["rated_at"]),
    )  # fmt: skip
