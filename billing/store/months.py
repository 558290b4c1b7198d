"""Months that are closed, and what must tie out before, in Postgres. The SQL is in months.sql."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import asyncpg

from billing.services.ports_invoice import Untied
from billing.store.rows import jsonb
from metering.model.clock import to_datetime
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "months.sql")
_CLOSED, _FIRST, _HOLD, _CLOSE = _SQL["closed"], _SQL["first"], _SQL["hold"], _SQL["close"]
_NUMBERS = _SQL["numbers"]
_FIGURES = tuple(_SQL[name] for name in ("figures", "money_figures", "credit_figures"))


def _day(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d")


def _sums(row: asyncpg.Record) -> str:
    return (
        f"it says {row['subtotal']} - {row['discount']} + {row['tax']} = {row['total']}, due {row['amount_due']}; "
        f"its lines say {row['lines']} - {row['off']} + {row['taxes']}, credits {row['credits']}"
    )


def _paid(row: asyncpg.Record) -> str:
    return (
        f"{row['status']}, due {row['amount_due']}, paid {row['amount_paid']}, credited {row['credited']}; receipts say {row['received']} "
        f"received and {row['returned']} refunded, credit notes {row['off_due']} let off and {row['refunded']} refunded"
    )


def _changed(row: asyncpg.Record) -> str:
    return (
        f"{row['cumulative']:,} units were used from {_day(row['period_start'])} on, {row['billed']:,} were billed: "
        "late usage is not billed yet"
    )


def _waiting(row: asyncpg.Record) -> str:
    return f"{row['description']} ({row['amount']} {row['currency'].upper()}) stands on no invoice"


def _unequal(row: asyncpg.Record) -> str:
    return f"{row['description']}: {row['amount']} was to be billed, {row['billed']} stands on it"


def _unbilled(row: asyncpg.Record) -> str:
    return f"usage from {_day(row['period_start'])} to {_day(row['period_end'])} was not billed"


# What is asked, where it is, and what is wrong with it.
_CHECKS: tuple[tuple[str, Callable[[asyncpg.Record], str], Callable[[asyncpg.Record], str]], ...] = (
    (_SQL["unbilled_periods"], lambda r: str(r["slug"]), _unbilled),
    (_SQL["changed_usage"], lambda r: f"{r['slug']} {r['service']}", _changed),
    (_SQL["waiting_items"], lambda r: str(r["slug"]), _waiting),
    (_SQL["drafts"], lambda r: str(r["id"]), lambda r: f"a draft for {r['slug']} that is not final"),
    (_SQL["unequal_items"], lambda r: str(r["number"]), _unequal),
    (_SQL["unequal_sums"], lambda r: str(r["number"]), _sums),
    (_SQL["unequal_payments"], lambda r: str(r["number"]), _paid),
)


class MonthTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def closed(self) -> list[str]:
        return [row["month"] for row in await self._connection.fetch(_CLOSED)]

    async def first(self) -> str | None:
        found: str | None = await self._connection.fetchval(_FIRST)
        return found

    async def hold(self) -> None:
        await self._connection.fetch(_HOLD)

    async def untied(self, from_ms: int, to_ms: int) -> list[Untied]:
        bounds = to_datetime(from_ms), to_datetime(to_ms)
        found = [
            Untied(where=where(row), what=what(row))
            for query, where, what in _CHECKS
            for row in await self._connection.fetch(query, *bounds)
        ]
        numbers = await self._connection.fetchrow(_NUMBERS)
        if numbers["last"] != numbers["given"]:
            what = f"{numbers['last']} were given, {numbers['given']} stand on invoices"
            found.append(Untied(where="invoice numbers", what=what))
        return found

    async def figures(self, from_ms: int, to_ms: int) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        for query in _FIGURES:
            for row in await self._connection.fetch(query, to_datetime(from_ms), to_datetime(to_ms)):
                figures = {name: value if isinstance(value, int) else str(value) for name, value in row.items() if name != "currency"}
                found.setdefault(row["currency"], {}).update(figures)
        return found

    async def close(self, month: str, now_ms: int, figures: Mapping[str, Any]) -> None:
        await self._connection.execute(_CLOSE, date.fromisoformat(f"{month}-01"), to_datetime(now_ms), jsonb(figures))
