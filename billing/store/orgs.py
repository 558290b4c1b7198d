"""Organizations in Postgres. The SQL is in orgs.sql."""

from collections.abc import Mapping, Sequence

import asyncpg

from billing.model import plan as plans
from billing.model.organization import ApiKey, Organization, is_uuid
from billing.model.plan import PlanSpec
from billing.model.subscription import Subscription, sold
from billing.services.ports import Account
from billing.store import rows
from metering.model.clock import to_datetime
from metering.model.entitlement import Override
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "orgs.sql")
_INSERT, _FIND, _FIND_LOCKED, _LIVING = _SQL["insert"], _SQL["find"], _SQL["find_locked"], _SQL["living"]
_BY_SLUGS, _BY_IDS, _RAISE, _DELETE = _SQL["by_slugs"], _SQL["by_ids"], _SQL["raise_versions"], _SQL["mark_deleted"]
_ACCOUNTS, _LOCK, _KEYS, _QUOTAS = _SQL["accounts"], _SQL["lock"], _SQL["account_keys"], _SQL["account_quotas"]
_LIMITS = _SQL["account_limits"]
_UNPUBLISHED, _IDS_AFTER = _SQL["unpublished"], _SQL["ids_after"]
_MARK_PUBLISHED, _MARK_WITHDRAWN = _SQL["mark_published"], _SQL["mark_withdrawn"]


class OrgTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, org: Organization) -> bool:
        created_at = to_datetime(org.created_at_ms)
        return await self._connection.fetchval(_INSERT, org.id, org.slug, org.name, created_at) is not None

    async def find(self, ref: str, *, lock: bool = False) -> Organization | None:
        sql = _FIND_LOCKED if lock else _FIND
        row = await self._connection.fetchrow(sql, ref if is_uuid(ref) else None, ref)
        return rows.organization(row) if row else None

    async def living(self, limit: int | None = None, after_slug: str | None = None) -> list[tuple[Organization, Subscription | None]]:
        found = await self._connection.fetch(_LIVING, limit, after_slug)
        return [(rows.organization(row, created="org_created_at"), rows.subscription(row, "subscription_id")) for row in found]

    async def by_slugs(self, slugs: Sequence[str]) -> dict[str, str]:
        return {row["slug"]: str(row["id"]) for row in await self._connection.fetch(_BY_SLUGS, list(slugs))}

    async def by_ids(self, org_ids: Sequence[str]) -> dict[str, Organization]:
        return {str(row["id"]): rows.organization(row) for row in await self._connection.fetch(_BY_IDS, list(org_ids))}

    async def raise_versions(self, org_ids: Sequence[str]) -> None:
        await self._connection.execute(_RAISE, list(org_ids))

    async def mark_deleted(self, org_id: str, now_ms: int) -> None:
        await self._connection.execute(_DELETE, org_id, to_datetime(now_ms))

    async def accounts(self, org_ids: Sequence[str], *, lock: bool = False, all_revoked: bool = False) -> list[Account]:
        ids = [org_id for org_id in org_ids if is_uuid(org_id)]
        if lock:
            # A statement of its own: what follows reads as of after the wait, not before it.
            await self._connection.fetch(_LOCK, ids)
        found = await self._connection.fetch(_ACCOUNTS, ids)
        keys = rows.grouped(await self._connection.fetch(_KEYS, ids, all_revoked), rows.api_key)
        quotas = rows.grouped(await self._connection.fetch(_QUOTAS, ids), rows.override)
        limits = rows.grouped(await self._connection.fetch(_LIMITS, ids), rows.limit_override)
        specs = {text: plans.from_json(rows.from_jsonb(text)) for text in {row["spec"] for row in found if row["spec"]}}
        return [
            _account(row, specs.get(row["spec"]), keys.get(org_id, []), [*quotas.get(org_id, []), *limits.get(org_id, [])])
            for row, org_id in ((row, str(row["id"])) for row in found)
        ]

    async def unpublished(self, limit: int) -> list[str]:
        return [str(row["id"]) for row in await self._connection.fetch(_UNPUBLISHED, limit)]

    async def ids_after(self, org_id: str | None, limit: int) -> list[str]:
        return [str(row["id"]) for row in await self._connection.fetch(_IDS_AFTER, org_id, limit)]

    async def mark_published(self, versions: Mapping[str, int], now_ms: int) -> None:
        await self._connection.execute(_MARK_PUBLISHED, list(versions), list(versions.values()))
        await self._connection.execute(_MARK_WITHDRAWN, list(versions), to_datetime(now_ms))


def _account(row: asyncpg.Record, spec: PlanSpec | None, keys: Sequence[ApiKey], overrides: Sequence[Override]) -> Account:
    subscription = rows.subscription(row, "subscription_id")
    return Account(
        org=rows.organization(row, created="org_created_at"),
        deleted=row["deleted_at"] is not None,
        subscription=subscription,
        spec=sold(spec, subscription) if spec and subscription else spec,
        overrides=tuple(overrides),
        active=tuple(key for key in keys if key.revoked_at_ms is None),
        revoked=tuple(key.sha256 for key in keys if key.revoked_at_ms is not None),
    )
