"""What an organization may do now: compiled from its plan, overrides and subscription, and told to the gateways.

`compile_entitlement` is pure. Publication follows every change: it reads what Postgres holds, under a lock that keeps
publications of one organization in order, and remembers the version told, so that one that failed is made up for.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from billing.model.features import words
from billing.model.organization import ApiKey, Organization
from billing.model.plan import PlanSpec
from billing.model.subscription import STANDINGS, Standing
from billing.services.ports import Account, Books, Gateways, GatewaysUnreachable, PlanRow, Unit
from metering.model.apikey import KeyRecord
from metering.model.clock import Clock
from metering.model.entitlement import Entitlement, Override
from metering.model.quota import Mode, Quota
from metering.model.seeding import Seed, begun

log = logging.getLogger(__name__)

_BATCH = 500
ENDED = "The subscription has ended, and there is no default plan."


def compile_entitlement(
    org: Organization,
    plan: PlanSpec | None,
    plan_version: int,
    overrides: Sequence[Override],
    anchor_ms: int,
    version: int,
    now_ms: int,
) -> Entitlement:
    """What the gateway is told. Pure. `plan` None: nothing is allowed (402).

    An overage quota on a meter without a price warns only (up to its stop): there is nothing to charge. Overrides that have ended are
    left out; those that will end carry their instant, and the gateway obeys it by itself.
    """
    prices = plan.prices if plan else {}
    return Entitlement(
        org_id=org.id,
        slug=org.slug,
        name=org.name,
        version=version,
        plan=plan.name if plan else "",
        plan_version=plan_version,
        anchor_ms=anchor_ms,
        quotas=tuple(_chargeable(q, prices) for q in plan.quotas) if plan else (),
        overrides=tuple(
            replace(
                o,
                quotas=tuple(replace(_chargeable(q, prices), source="override") for q in o.quotas),
                rates=tuple(replace(r, source="override") for r in o.rates),
                concurrency=tuple(replace(c, source="override") for c in o.concurrency),
            )
            for o in overrides
            if o.until_ms is None or o.until_ms > now_ms
        ),
        refused=None if plan else ENDED,
        rates=plan.rates if plan else (),
        concurrency=plan.concurrency if plan else (),
        features=words(plan.features) if plan else (),
    )


def _chargeable(quota: Quota, prices: Iterable[str]) -> Quota:
    """One that has a stop keeps its mode: it charges nothing either, and ends there."""
    free = quota.mode is Mode.OVERAGE and quota.meter not in prices and quota.stop_at is None
    return replace(quota, mode=Mode.SOFT) if free else quota


def entitlement_of(account: Account, default: PlanRow | None, now_ms: int) -> Entitlement:
    """The subscription's state decides between what was bought, the default plan, and nothing."""
    org, subscription = account.org, account.subscription
    anchor_ms = subscription.anchor_ms if subscription else org.created_at_ms
    if subscription and STANDINGS[subscription.state] is Standing.PLAN:
        return compile_entitlement(org, account.spec, subscription.plan_version, account.overrides, anchor_ms, org.version, now_ms)
    spec, version = (default.spec, default.version) if default else (None, 0)
    return compile_entitlement(org, spec, version, account.overrides, anchor_ms, org.version, now_ms)


def record_of(key: ApiKey) -> tuple[str, KeyRecord]:
    """A key as the gateways look it up."""
    return key.sha256, KeyRecord(
        key_id=key.id, org_id=key.org_id, expires_at_ms=key.expires_at_ms, test=key.test, kind=key.kind,
        scopes=frozenset(key.grants.scopes), quotas=key.grants.quotas, rates=key.grants.rates,
    )  # fmt: skip


class Entitlements:
    """Tell the gateways what changed. `default_plan` is what a subscription that ended falls back to."""

    def __init__(self, books: Books, gateways: Gateways, clock: Clock, *, default_plan: str | None) -> None:
        self._books, self._gateways, self._clock, self._default_plan = books, gateways, clock, default_plan

    async def of_org(self, org_id: str) -> Entitlement | None:
        """What `org_id` may do now, by Postgres; None for one that does not exist (any more)."""
        async with self._books.transaction() as unit:
            for account in await unit.orgs.accounts([org_id]):
                if not account.deleted:
                    return await self.compiled(unit, account)
        return None

    async def compiled(self, unit: Unit, account: Account) -> Entitlement:
        """`entitlement_of`, now, with the default plan as it stands."""
        return entitlement_of(account, await self._default(unit), self._clock.now_ms())

    async def publish(self, org_ids: Sequence[str], *, all_revoked: bool = False) -> None:
        """Bring the gateways up to date about these. Raises GatewaysUnreachable, and then stays due."""
        for start in range(0, len(org_ids), _BATCH):
            async with self._books.transaction() as unit:
                await self._publish(unit, org_ids[start : start + _BATCH], all_revoked)

    async def tell(self, org_ids: Sequence[str]) -> bool:
        """`publish` after a change that is stored already: False, and a warning, where the gateways are out of reach;
        control makes up for it (`publish_due`)."""
        try:
            await self.publish(org_ids)
        except GatewaysUnreachable as exc:
            log.warning("stored, but the gateways could not be told yet: %s", exc, extra={"orgs": len(org_ids)})
            return False
        return True

    async def publish_due(self) -> int:
        """What a failed publication left behind; returns how many organizations."""
        told = 0
        while True:
            async with self._books.transaction() as unit:
                due = await unit.orgs.unpublished(_BATCH)
                await self._publish(unit, due, False)
            told += len(due)
            if len(due) < _BATCH:
                return told

    async def publish_all(self) -> int:
        """Everything again: for a store that forgot, or fell back behind a revocation. Returns how many organizations."""
        told, last = 0, None
        while True:
            async with self._books.transaction() as unit:
                ids = await unit.orgs.ids_after(last, _BATCH)
            await self.publish(ids, all_revoked=True)
            told += len(ids)
            if len(ids) < _BATCH:
                return told
            last = ids[-1]

    async def answer(self, asked: Sequence[str]) -> None:
        """Write what gateways missed ("key <sha256>", "org <id>", "slug <slug>"), and say so; or say that there is no such thing."""
        wanted = [(kind, what) for kind, _, what in (entry.partition(" ") for entry in dict.fromkeys(asked)) if what]
        hashes = [what for kind, what in wanted if kind == "key"]
        org_ids = [what for kind, what in wanted if kind == "org"]
        slugs = [what for kind, what in wanted if kind == "slug"]
        async with self._books.transaction() as unit:
            owners = await unit.keys.owners(hashes, self._clock.now_ms())
            named = await unit.orgs.by_slugs(slugs) if slugs else {}
            known = await self._publish(unit, sorted({*owners.values(), *org_ids, *named.values()}), False)
        await self._gateways.announce(
            [f"key {sha}" if sha in owners else f"nokey {sha}" for sha in hashes]
            + [f"org {org_id}" if org_id in known else f"noorg {org_id}" for org_id in org_ids]
            + [f"slug {slug}" if named.get(slug) in known else f"noslug {slug}" for slug in slugs]
        )

    async def _publish(self, unit: Unit, org_ids: Sequence[str], all_revoked: bool) -> set[str]:
        if not org_ids:
            return set()
        now_ms, default = self._clock.now_ms(), await self._default(unit)
        accounts = await unit.orgs.accounts(org_ids, lock=True, all_revoked=all_revoked)
        living = [a for a in accounts if not a.deleted]
        await self._gateways.withdraw_keys([sha for a in living for sha in a.revoked])
        told = [(entitlement_of(a, default, now_ms), [record_of(k) for k in a.active]) for a in living]
        await self._gateways.publish(told, await self._seeds(unit, [entitlement for entitlement, _ in told], now_ms))
        for account in accounts:
            if account.deleted:
                await self._gateways.withdraw_org(account.org.id, account.org.slug, account.revoked)
        await unit.orgs.mark_published({a.org.id: a.org.version for a in accounts}, now_ms)
        return {a.org.id for a in living}

    async def _seeds(self, unit: Unit, told: Sequence[Entitlement], now_ms: int) -> dict[str, list[Seed]]:
        """What counters must begin with that begin with what is told now: a plan may bring a quota in another window."""
        standing = await self._gateways.standing([e.org_id for e in told])
        begin = [b for e in told if e.org_id in standing for b in begun(standing[e.org_id], e, now_ms)]
        seeds: dict[str, list[Seed]] = {}
        for one, offset in zip(begin, await unit.usage.offsets(begin) if begin else [], strict=True):
            seeds.setdefault(one.org_id, []).append(Seed(one, offset))
        return seeds

    async def _default(self, unit: Unit) -> PlanRow | None:
        return await unit.plans.get(self._default_plan) if self._default_plan else None
