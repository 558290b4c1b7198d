"""Caps on what an organization spends beyond its base price: the plan's, the operator's in its place, and a lower one of its own.

`check` runs after each flush: where what the running period costs by now reaches the cap, every charged quota gets a stop for the rest
of the period, written as an override that the gateways are told; where it does not (the cap was raised, the plan changed) the stops go.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model.mail import Mail
from billing.model.mailing import spend_cap_reached
from billing.model.money import round_amount, to_minor
from billing.model.plan import PlanSpec
from billing.model.pricing import NoPriceInCurrency, Price
from billing.model.spend_cap import Caps, spent, still_stand, stops
from billing.model.subscription import STANDINGS, Standing, State, Subscription, sold
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import CAP, Account, Books, QuotaRow, Unit
from billing.services.ports_wallet import CUSTOMER, OPERATOR, CapRow
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict
from metering.model.meter import Meter
from metering.model.period import period_at
from metering.model.quota import Quota, replace_quotas

log = logging.getLogger(__name__)

_PAGE = 500


class NothingToCap(Conflict):
    """The organization has no subscription whose spending could be capped."""

    code = "nothing_to_cap"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapView:
    """How spending beyond the base price stands in the running period."""

    caps: Caps
    currency: str
    spent: Decimal
    reached: bool


@dataclass(slots=True)
class CapReport:
    """How many organizations were looked at, whose overage was ended now, and whose goes on again."""

    looked: int = 0
    ended: int = 0
    lifted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """One organization in its running period, with what its use costs by now."""

    account: Account
    subscription: Subscription
    spec: PlanSpec
    prices: Mapping[str, Price]
    period: tuple[int, int]
    caps: Caps
    quotas: tuple[Quota, ...]
    used: Mapping[str, int]
    spent: Decimal
    held: tuple[QuotaRow, ...]

    @property
    def reached(self) -> bool:
        cap = self.caps.effective
        return cap is not None and self.spent >= cap


class SpendCaps:
    def __init__(self, books: Books, entitlements: Entitlements, clock: Clock, *, meters: Mapping[str, Meter]) -> None:
        self._books, self._entitlements, self._clock, self._meters = books, entitlements, clock, meters

    async def set(self, org_ref: str, amount: Decimal, *, by: str) -> CapView:
        """`by` OPERATOR: in place of the plan's. `by` CUSTOMER: its own, not above what the operator allows. It holds at once.

        Raises NoSuchOrganization, NothingToCap, AmountNotWhole, BadInput.
        """
        async with self._books.transaction() as unit:
            found = await self._one(unit, org_ref)
            currency, offered = found.subscription.currency, found.caps.offered
            if to_minor(amount, currency) < 0:
                raise BadInput(f"{amount} {currency.upper()} is no cap: write 0 or more")
            if by == CUSTOMER and offered is not None and amount > offered:
                raise BadInput(f"spending is capped at {offered} {currency.upper()}: choose that or less", cap=str(offered))
            await unit.spend_caps.put(found.account.org.id, by, amount, currency, self._clock.now_ms())
        return await self._now(found.account.org.id)

    async def lift(self, org_ref: str) -> CapView:
        """The plan's cap does not hold for this organization; its own still does. Raises NoSuchOrganization, NothingToCap."""
        async with self._books.transaction() as unit:
            found = await self._one(unit, org_ref)
            await unit.spend_caps.put(found.account.org.id, OPERATOR, None, found.subscription.currency, self._clock.now_ms())
        return await self._now(found.account.org.id)

    async def remove(self, org_ref: str, *, by: str) -> CapView:
        """What `by` had said does not hold any more. Raises NoSuchOrganization, NothingToCap."""
        async with self._books.transaction() as unit:
            found = await self._one(unit, org_ref)
            await unit.spend_caps.remove(found.account.org.id, by)
        return await self._now(found.account.org.id)

    async def show(self, org_ref: str) -> CapView:
        """Raises NoSuchOrganization, NothingToCap."""
        async with self._books.transaction() as unit:
            return _view(await self._one(unit, org_ref, lock=False))

    async def check(self) -> CapReport:
        """All that have a cap, by what Postgres holds of their use."""
        report, last = CapReport(), None
        while True:
            async with self._books.transaction() as unit:
                ids = await unit.spend_caps.capped(last, _PAGE)
            await self._check(ids, report)
            if len(ids) < _PAGE:
                return report
            last = ids[-1]

    async def _now(self, org_id: str) -> CapView:
        await self._check([org_id], CapReport())
        return await self.show(org_id)

    async def _check(self, org_ids: Sequence[str], report: CapReport) -> None:
        if not org_ids:
            return
        changed = []
        async with self._books.transaction() as unit:
            for found in await self._standing(unit, org_ids):
                report.looked += 1
                if await self._hold(unit, found, report):
                    changed.append(found.account.org.id)
            for org_id in await self._left_over(unit, org_ids):
                await unit.quotas.replace([org_id], CAP, [], self._clock.now_ms())
                changed.append(org_id)
            if changed:
                await unit.orgs.raise_versions(changed)
        if changed:
            await self._entitlements.tell(changed)

    async def _hold(self, unit: Unit, found: _Standing, report: CapReport) -> bool:
        """End overage, or let it go on again; False where all is as it should be."""
        org_id, now_ms, until_ms = found.account.org.id, self._clock.now_ms(), found.period[1]
        wanted = stops(found.prices, found.quotas, found.used) if found.reached else ()
        if not wanted and not found.held:
            return False
        in_time = all(row.until_ms == until_ms for row in found.held)
        if in_time and still_stand(wanted, [row.quota for row in found.held]):
            return False
        reason = f"spend cap of {found.caps.effective} {found.subscription.currency.upper()} reached"
        rows = [QuotaRow(org_id=org_id, quota=quota, reason=reason, until_ms=until_ms, managed_by=CAP) for quota in wanted]
        await unit.quotas.replace([org_id], CAP, rows, now_ms)
        if rows:
            report.ended += 1
            await unit.mails.add([self._mail(found)], now_ms)
        else:
            report.lifted += 1
        return True

    def _mail(self, found: _Standing) -> Mail:
        assert found.caps.effective is not None  # it was reached
        return spend_cap_reached(
            org_id=found.account.org.id, plan=found.spec.title or found.spec.name, cap=found.caps.effective, spent=found.spent,
            currency=found.subscription.currency, period=found.period, now_ms=self._clock.now_ms(),
        )  # fmt: skip

    async def _one(self, unit: Unit, org_ref: str, *, lock: bool = True) -> _Standing:
        org = await lookup.organization(unit, org_ref, lock=lock)
        for found in await self._standing(unit, [org.id]):
            return found
        raise NothingToCap(f"{org.slug} has no subscription whose spending could be capped", org=org.slug)

    async def _standing(self, unit: Unit, org_ids: Sequence[str]) -> list[_Standing]:
        """Of those whose subscription entitles to its plan."""
        now_ms, meters = self._clock.now_ms(), self._meters
        accounts = [a for a in await unit.orgs.accounts(org_ids) if _entitled(a)]
        periods = {a.org.id: period_at(a.subscription.anchor_ms, now_ms) for a in accounts if a.subscription}
        used = await unit.periods.used({org_id: start_ms for org_id, (start_ms, _) in periods.items()})
        overrides = await unit.periods.overrides(list(periods))
        own = await unit.spend_caps.of_orgs(list(periods))
        found = []
        for account in accounts:
            org_id, subscription, spec = account.org.id, account.subscription, account.spec
            assert subscription is not None  # it is entitled
            assert spec is not None
            rows = [row for row in overrides.get(org_id, ()) if row.until_ms is None or now_ms < row.until_ms]
            quotas = _in_force(spec, rows)
            try:
                prices = {} if subscription.state is State.TRIALING else sold(spec, subscription).prices
                costs = spent(prices, quotas, used.get(org_id, {}), meters, subscription.currency)
            except NoPriceInCurrency:
                log.warning("%s cannot be rated in %s: its cap is not looked at", account.org.slug, subscription.currency)
                continue
            found.append(
                _Standing(
                    account=account, subscription=subscription, spec=spec, prices=prices, period=periods[org_id], quotas=quotas,
                    spent=costs,
                    caps=_caps(spec, own.get(org_id, ()), subscription.currency), used=used.get(org_id, {}),
                    held=tuple(row for row in overrides.get(org_id, ()) if row.managed_by == CAP),
                )
            )  # fmt: skip
        return found

    async def _left_over(self, unit: Unit, org_ids: Sequence[str]) -> list[str]:
        """Who is held back though its subscription entitles to nothing any more."""
        gone = [a.org.id for a in await unit.orgs.accounts(org_ids) if not _entitled(a)]
        overrides = await unit.periods.overrides(gone) if gone else {}
        return [org_id for org_id, rows in overrides.items() if any(row.managed_by == CAP for row in rows)]


def _entitled(account: Account) -> bool:
    subscription = account.subscription
    return subscription is not None and account.spec is not None and STANDINGS[subscription.state] is Standing.PLAN


def _in_force(spec: PlanSpec, rows: Sequence[QuotaRow]) -> tuple[Quota, ...]:
    """The plan's, with the overrides in their place, but for the stops of a cap."""
    quotas = spec.quotas
    for row in rows:
        if row.managed_by != CAP:
            quotas = replace_quotas(quotas, (replace(row.quota, source="override"),))
    return quotas


def _caps(spec: PlanSpec, own: Sequence[CapRow], currency: str) -> Caps:
    by = {row.set_by: row.amount for row in own if row.currency == currency}
    said = {"plan": spec.spend_cap.get(currency), OPERATOR: by.get(OPERATOR), CUSTOMER: by.get(CUSTOMER)}
    amounts = {who: round_amount(amount, currency) for who, amount in said.items() if amount is not None}
    return Caps(**amounts, lifted=OPERATOR in by and by[OPERATOR] is None)


def _view(found: _Standing) -> CapView:
    return CapView(caps=found.caps, currency=found.subscription.currency, spent=found.spent, reached=found.reached)
