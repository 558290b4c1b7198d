"""One quota of one organization, and the price beyond it, in the units that people see: set, and given back to the plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model.pricing import PerUnit
from billing.model.subscription_terms import Terms
from billing.model.usage import NoSuchService, units_of
from billing.services import lookup
from billing.services.lifecycle import NoSubscription
from billing.services.overrides import Overrides
from billing.services.ports import API, FILE, Account, Books, QuotaRow
from billing.services.subscriptions import Subscriptions
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota, Then, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWish:
    """`limit` is in the meter's display unit, None for unlimited; `rate` the price of such a unit beyond it; `then` the slower limit a
    throttle falls to, in the same unit, and its window."""

    service: str
    limit: Decimal | None
    mode: Mode
    window: Window = Window.PERIOD
    rate: Decimal | None = None
    then: tuple[Decimal, Window] | None = None
    reason: str = ""
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSet:
    """`before`: it was set so once already, and is otherwise now. `rate` is the price of a display unit beyond it, where one holds."""

    account: Account
    meter: Meter
    quota: Quota
    before: bool
    rate: Decimal | None
    told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaReset:
    """`of_files` are those that stay, as files set them."""

    account: Account
    removed: tuple[str, ...]
    of_files: tuple[str, ...]
    told: bool


class QuotaSettings:
    def __init__(self, books: Books, overrides: Overrides, subscriptions: Subscriptions, *, meters: Mapping[str, Meter]) -> None:
        self._books, self._overrides, self._subscriptions, self._meters = books, overrides, subscriptions, meters

    async def set(self, org_ref: str, wish: QuotaWish) -> QuotaSet:
        """It holds at once. Raises NoSuchOrganization, NoSuchService, NoSubscription, BadInput."""
        meter = self._meter(wish.service)
        quota = _quota(wish, meter)
        account, standing = await self._account(org_ref)
        rate = await self._priced(account, meter, wish)
        told = await self._overrides.put(account.org.id, [quota], reason=wish.reason or "set by hand", until_ms=wish.until_ms)
        before = any(row.managed_by == API and row.quota.name == quota.name for row in standing)
        return QuotaSet(account=account, meter=meter, quota=quota, before=before, rate=rate, told=told)

    async def reset(self, org_ref: str) -> QuotaReset:
        """What was set by hand goes, prices beyond quotas too; what files set stays. Raises NoSuchOrganization."""
        account, standing = await self._account(org_ref)
        subscription = account.subscription
        if subscription is not None and subscription.terms is not None and subscription.terms.prices:
            terms = replace(subscription.terms, prices={})
            await self._subscriptions.negotiate(account.org.id, terms if terms else None)
        told = await self._overrides.reset(account.org.id)
        by = {owner: tuple(row.quota.name for row in standing if row.managed_by == owner) for owner in (API, FILE)}
        return QuotaReset(account=account, removed=by[API], of_files=by[FILE], told=told)

    async def _priced(self, account: Account, meter: Meter, wish: QuotaWish) -> Decimal | None:
        """The price of a display unit beyond the quota, which is negotiated first where one is named."""
        subscription = account.subscription
        if wish.rate is not None:
            if subscription is None:
                raise NoSubscription(f"{account.org.slug} has no subscription, so that nothing can be charged beyond a quota")
            if wish.rate < 0:
                raise BadInput(f"{wish.rate} is no price: write 0 or more")
            before = subscription.terms or Terms()
            price = PerUnit(each=wish.rate, per_unit_size=meter.show_size)
            of_plan = account.spec.prices.get(meter.name) if account.spec is not None else None
            if before.prices.get(meter.name, of_plan) != price:
                await self._subscriptions.negotiate(account.org.id, replace(before, prices={**before.prices, meter.name: price}))
            return wish.rate
        if wish.mode is not Mode.OVERAGE:
            return None
        held = subscription.terms.prices if subscription is not None and subscription.terms is not None else {}
        known = held.get(meter.name) or (account.spec.prices.get(meter.name) if account.spec is not None else None)
        if known is None:
            plan = account.spec.name if account.spec is not None else "no plan"
            raise BadInput(f"plan {plan} has no price for {meter.name} beyond a quota: name one (--overage-rate)", service=meter.name)
        return known.each if isinstance(known, PerUnit) else None

    async def _account(self, org_ref: str) -> tuple[Account, list[QuotaRow]]:
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
            (account,) = await unit.orgs.accounts([org.id])
            return account, await unit.quotas.of_org(org.id)

    def _meter(self, name: str) -> Meter:
        if name not in self._meters:
            raise NoSuchService(f"there is no service {name!r}; there are: {', '.join(self._meters)}", service=name)
        return self._meters[name]


def _quota(wish: QuotaWish, meter: Meter) -> Quota:
    """Raises BadInput."""
    limit = None if wish.limit is None else units_of(wish.limit, meter)
    if limit is None and wish.mode is not Mode.SOFT:
        raise BadInput("what is unlimited neither blocks nor charges: say mode soft")
    if wish.rate is not None and wish.mode is not Mode.OVERAGE:
        raise BadInput(f"a price beyond the quota goes with mode overage, not {wish.mode}")
    if (wish.mode is Mode.THROTTLE) != (wish.then is not None):
        raise BadInput("mode throttle, and it alone, says what may pass once the quota is used up (then)")
    if meter.kind is Kind.LEVEL and (wish.window is not Window.PERIOD or wish.mode is Mode.THROTTLE):
        raise BadInput(f"{meter.name} is held, not used up: its quota has no window and does not throttle")
    if wish.then is not None and wish.then[1] is wish.window:
        raise BadInput(f"a throttle falls to a quota of another window; this one is of the same, {wish.window}")
    then = None if wish.then is None else Then(limit=units_of(wish.then[0], meter), window=wish.then[1])
    return Quota(meter=meter.name, limit=limit, window=wish.window, mode=wish.mode, then=then, source="override")
