"""Limits of one organization in place of its plan's: from the files as a set, or one by one by API, which is stronger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import API, FILE, Books, Cut, LimitRow, QuotaRow, Unit, cut_nothing
from metering.model.clock import Clock
from metering.model.errors import BadInput
from metering.model.quota import Concurrency, Quota, Rate


class OverrideTerms(Protocol):
    """One organization over its plan, as the files say it."""

    @property
    def quotas(self) -> tuple[Quota, ...]: ...
    @property
    def rates(self) -> tuple[Rate, ...]: ...
    @property
    def concurrency(self) -> tuple[Concurrency, ...]: ...
    @property
    def until_ms(self) -> int | None: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideChange:
    """`what` is set, changed or removed."""

    slug: str
    what: str


class Overrides:
    """What the command line and the API set."""

    def __init__(self, books: Books, entitlements: Entitlements, clock: Clock, *, cut: Cut = cut_nothing) -> None:
        self._books, self._entitlements, self._clock, self._cut = books, entitlements, clock, cut

    async def put(
        self,
        org_ref: str,
        quotas: Sequence[Quota] = (),
        *,
        rates: Sequence[Rate] = (),
        concurrency: Sequence[Concurrency] = (),
        reason: str,
        until_ms: int | None,
    ) -> bool:
        """In place of the plan's, and of what the files say, on the same meter and window. True once the gateways know.

        Raises NoSuchOrganization, BadInput without a reason.
        """
        if not reason.strip():
            raise BadInput("an override needs a reason")
        org_id = await self._cut_for(org_ref)
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_id, lock=True)
            for quota in quotas:
                await unit.quotas.put(_row(org.id, quota, reason, until_ms, API), self._clock.now_ms())
            for limit in _both(rates, concurrency):
                await unit.limits.put(_limit_row(org.id, limit, reason, until_ms, API), self._clock.now_ms())
            await unit.orgs.raise_versions([org.id])
        return await self._entitlements.tell([org.id])

    async def reset(self, org_ref: str) -> bool:
        """Remove what `put` set; those of the files stay. True once the gateways know. Raises NoSuchOrganization."""
        org_id = await self._cut_for(org_ref)
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_id, lock=True)
            await unit.quotas.replace([org.id], API, [], self._clock.now_ms())
            await unit.limits.replace([org.id], API, [], self._clock.now_ms())
            await unit.orgs.raise_versions([org.id])
        return await self._entitlements.tell([org.id])

    async def _cut_for(self, org_ref: str) -> str:
        """What it owes by the quotas that still stand; returns its id."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
        await self._cut([org.id])
        return org.id


async def apply_overrides(
    unit: Unit, wanted: Mapping[str, OverrideTerms], now_ms: int, touched: set[str]
) -> tuple[tuple[OverrideChange, ...], tuple[str, ...]]:
    """Make the files' overrides those of `wanted` (by slug), as part of a larger transaction; adds to `touched`.

    Returns what changed, and the slugs that no organization has.
    """
    ids = await unit.orgs.by_slugs(sorted(wanted))
    new = {ids[slug]: _rows(ids[slug], terms) for slug, terms in wanted.items() if slug in ids}
    old: dict[str, set[QuotaRow | LimitRow]] = {}
    stored: list[QuotaRow | LimitRow] = [*await unit.quotas.managed(FILE), *await unit.limits.managed(FILE)]
    for row in stored:
        old.setdefault(row.org_id, set()).add(row)
    differing = sorted(org_id for org_id in {*old, *new} if old.get(org_id, set()) != new.get(org_id, set()))
    if differing:
        await unit.orgs.raise_versions(differing)
        rows = [row for org_id in differing for row in new.get(org_id, ())]
        quotas, limits = [r for r in rows if isinstance(r, QuotaRow)], [r for r in rows if isinstance(r, LimitRow)]
        await unit.quotas.replace(differing, FILE, sorted(quotas, key=lambda r: (r.org_id, r.quota.name)), now_ms)
        await unit.limits.replace(differing, FILE, sorted(limits, key=lambda r: (r.org_id, r.limit.name)), now_ms)
        touched.update(differing)
    slugs = await unit.orgs.by_ids(differing)
    changes = [OverrideChange(slug=slugs[i].slug, what="set" if i not in old else "changed" if i in new else "removed") for i in differing]
    return tuple(sorted(changes, key=lambda c: c.slug)), tuple(sorted(set(wanted) - set(ids)))


def _rows(org_id: str, terms: OverrideTerms) -> set[QuotaRow | LimitRow]:
    rows: set[QuotaRow | LimitRow] = {_row(org_id, quota, terms.reason, terms.until_ms, FILE) for quota in terms.quotas}
    return rows | {_limit_row(org_id, limit, terms.reason, terms.until_ms, FILE) for limit in _both(terms.rates, terms.concurrency)}


def _row(org_id: str, quota: Quota, reason: str, until_ms: int | None, managed_by: str) -> QuotaRow:
    quota = replace(quota, source="override")
    return QuotaRow(org_id=org_id, quota=quota, reason=reason.strip(), until_ms=until_ms, managed_by=managed_by)


def _limit_row(org_id: str, limit: Rate | Concurrency, reason: str, until_ms: int | None, managed_by: str) -> LimitRow:
    limit = replace(limit, source="override")
    return LimitRow(org_id=org_id, limit=limit, reason=reason.strip(), until_ms=until_ms, managed_by=managed_by)


def _both(rates: Sequence[Rate], concurrency: Sequence[Concurrency]) -> list[Rate | Concurrency]:
    return [*rates, *concurrency]
