"""Quota rollover: what a period's plan gave and was not used is carried into the next, as an override that ends with it.

`carry` runs after each flush. What is carried follows from what Postgres holds of the period before, and is computed anew each time:
usage that arrives late takes back what it used. A period is begun to be counted once the plan carries units (or changes to one that
does), so the first period after that carries nothing yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from billing.model.rollover import Period, carried, raised, rolling
from billing.model.subscription import STANDINGS, Standing
from billing.services.entitlements import Entitlements
from billing.services.ports import ROLLOVER, Account, Books, Cut, QuotaRow, Unit, cut_nothing
from metering.model.clock import Clock
from metering.model.period import period_at

_PAGE = 500
_SETTLE_MS = 5_000  # what was used before a period ended is settled within this


@dataclass(slots=True)
class RolloverReport:
    """How many organizations were looked at, and for how many something changed."""

    looked: int = 0
    changed: int = 0


class Rollovers:
    def __init__(self, books: Books, entitlements: Entitlements, clock: Clock, *, cut: Cut = cut_nothing) -> None:
        self._books, self._entitlements, self._clock, self._cut = books, entitlements, clock, cut

    async def carry(self) -> RolloverReport:
        """Bring every organization's override up to what the period before left it."""
        report, last = RolloverReport(), None
        while True:
            async with self._books.transaction() as unit:
                ids = await unit.periods.rolling(last, _PAGE)
                changed = await self._differing(unit, ids)
            if changed:
                await self._write(changed)
            report.looked += len(ids)
            report.changed += len(changed)
            if len(ids) < _PAGE:
                return report
            last = ids[-1]

    async def _write(self, changed: Mapping[str, set[QuotaRow]]) -> None:
        """What they owe by the quotas that still stand is cut before: the period that ended had its own."""
        org_ids = sorted(changed)
        await self._cut(org_ids)
        async with self._books.transaction() as unit:
            await unit.orgs.raise_versions(org_ids)
            for org_id in org_ids:
                rows = sorted(changed[org_id], key=lambda row: row.quota.meter)
                await unit.quotas.replace([org_id], ROLLOVER, rows, self._clock.now_ms())
        await self._entitlements.tell(org_ids)

    async def _differing(self, unit: Unit, org_ids: Sequence[str]) -> dict[str, set[QuotaRow]]:
        """Whose override must change, and to what; the running period's units are written down."""
        if not org_ids:
            return {}
        now_ms, flushed_ms = self._clock.now_ms(), await unit.periods.flushed_at_ms() or 0
        accounts = {a.org.id: a for a in await unit.orgs.accounts(org_ids) if not a.deleted}
        now = {org_id: period_at(_anchor(a), now_ms) for org_id, a in accounts.items()}
        due = {org_id: start for org_id, (start, _) in now.items() if flushed_ms >= start + _SETTLE_MS}
        before = {org_id: period_at(_anchor(accounts[org_id]), start - 1)[0] for org_id, start in due.items()}
        counted, used = await unit.periods.carried(before), await unit.periods.used(before)
        periods = {i: _periods(accounts[i], counted.get(i, {}), used.get(i, {})) for i in due}
        await unit.periods.carry(due, periods)
        standing = await unit.periods.overrides(list(due))
        changed = {}
        for org_id in due:
            wanted = _rows(accounts[org_id], periods[org_id], now[org_id][1])
            if wanted != {row for row in standing.get(org_id, ()) if row.managed_by == ROLLOVER}:
                changed[org_id] = wanted
        return changed


def _anchor(account: Account) -> int:
    return account.subscription.anchor_ms if account.subscription else account.org.created_at_ms


def _bounds(account: Account) -> Mapping[str, int]:
    subscription = account.subscription
    if subscription is None or account.spec is None or STANDINGS[subscription.state] is not Standing.PLAN:
        return {}
    return account.spec.rollover


def _periods(account: Account, before: Mapping[str, Period], used: Mapping[str, int]) -> dict[str, Period]:
    """The running period of each meter that carries units."""
    bounds = _bounds(account)
    quotas = rolling(account.spec.quotas, bounds) if account.spec else {}
    found = {}
    for meter, quota in quotas.items():
        units = carried(before[meter], used.get(meter, 0), bounds[meter]) if meter in before else 0
        found[meter] = Period(base=quota.limit or 0, carried=units)
    return found


def _rows(account: Account, periods: Mapping[str, Period], until_ms: int) -> set[QuotaRow]:
    assert account.spec is not None or not periods  # there is no period of a plan that is not there
    quotas = rolling(account.spec.quotas, periods) if account.spec else {}
    return {
        QuotaRow(
            org_id=account.org.id, quota=raised(quotas[meter], period.carried), until_ms=until_ms, managed_by=ROLLOVER,
            reason=f"{period.carried:,} units carried over",
        )
        for meter, period in periods.items() if period.carried > 0
    }  # fmt: skip
