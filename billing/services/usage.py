"""What an organization has used of its quotas now: the counters that decide, and the ledger where they are silent."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model.aggregation import hours_between
from billing.model.alert import Rule, warn_percent
from billing.model.organization import Organization
from billing.model.pricing import NoPriceInCurrency, PerUnit
from billing.model.rating import Bill, estimate
from billing.model.subscription import sold
from billing.model.usage import LimitUse, MeterUse, Source, TenantUse, UsageReport, shown_quotas
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import Account, Books, Gateways, GatewaysUnreachable, Unit
from metering.model import keys
from metering.model.clock import Clock
from metering.model.entitlement import Entitlement
from metering.model.ledger import TEST
from metering.model.meter import Meter
from metering.model.period import period_at, window_at
from metering.model.quota import Quota, Window


@dataclass(frozen=True, slots=True)
class _Figures:
    """`live` by counter name, None where the store does not hold it; `stored` by meter and window."""

    live: Mapping[str, int | None]
    stored: Mapping[str, Mapping[Window, int]]

    def used(self, counter: str, meter: str, window: Window) -> tuple[int, Source]:
        count = self.live.get(counter)
        if count is not None:
            return count, Source.LIVE
        return self.stored.get(meter, {}).get(window, 0), Source.STORED


@dataclass(frozen=True, slots=True)
class _Facts:
    """What Postgres knows, read in one transaction."""

    account: Account
    entitlement: Entitlement
    stored: Mapping[str, Mapping[Window, int]]
    means: Mapping[str, int]  # of levels: what they come to in the period so far
    rules: Mapping[str, Rule]
    now_ms: int
    start_ms: int
    end_ms: int


class Usage:
    """`meters` is what is counted, in the order to show."""

    def __init__(self, books: Books, gateways: Gateways, entitlements: Entitlements, clock: Clock, *, meters: Mapping[str, Meter]) -> None:
        self._books, self._gateways, self._entitlements, self._clock, self._meters = books, gateways, entitlements, clock, meters

    async def report(self, org_ref: str) -> UsageReport:
        """By id or slug. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            facts = await self._facts(unit, await lookup.organization(unit, org_ref))
        return await self._compose(facts)

    async def tenants(self, org_ref: str) -> list[TenantUse]:
        """What each tenant used in the present period, who used most of the first meter first. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
            (account,) = await unit.orgs.accounts([org.id])
            anchor_ms = (await self._entitlements.compiled(unit, account)).anchor_ms
            found = await unit.usage.of_tenants(org.id, period_at(anchor_ms, self._clock.now_ms())[0])
        order = [meter.name for meter in self.meters(found.values())]
        uses = [TenantUse(tenant=tenant, used=used) for tenant, used in found.items()]
        return sorted(uses, key=lambda use: (*(-use.used.get(name, 0) for name in order), use.tenant))

    def meters(self, used: Iterable[Mapping[str, int]] = ()) -> list[Meter]:
        """Those that are counted, then what was used under a name that the files no longer hold."""
        return self._shown((), {name for each in used for name in each})

    async def report_of(self, org_id: str) -> UsageReport:
        """For a request of this organization: read so that nothing of another is in reach. Raises NoSuchOrganization."""
        async with self._books.transaction(org=org_id) as unit:
            facts = await self._facts(unit, await lookup.organization(unit, org_id))
        return await self._compose(facts)

    async def _facts(self, unit: Unit, org: Organization) -> _Facts:
        now_ms = self._clock.now_ms()
        (account,) = await unit.orgs.accounts([org.id])
        entitlement = await self._entitlements.compiled(unit, account)
        start_ms, end_ms = period_at(entitlement.anchor_ms, now_ms)
        period = await unit.usage.of_period(org.id, start_ms)
        hour, day, month = (window_at(w, entitlement.anchor_ms, now_ms)[0] for w in (Window.HOUR, Window.DAY, Window.MONTH))
        windows = await unit.usage.of_windows(org.id, hour, day, month)
        held = await unit.events.levels(org.id)
        stored = {m: {**windows.get(m, {}), Window.PERIOD: held.get(m, period.get(m, 0))} for m in {*period, *windows, *held}}
        means = {m: period.get(m, 0) for m in held}
        rules = await unit.alerts.of_org(org.id)
        return _Facts(account, entitlement, stored, means, rules, now_ms, start_ms, end_ms)

    async def _compose(self, facts: _Facts) -> UsageReport:
        quotas = facts.entitlement.quotas_at(facts.now_ms)
        meters = self._shown(quotas, facts.stored)
        figures = _Figures(await self._counters(facts, meters, quotas), facts.stored)
        account = facts.account
        priced = account.spec.prices if account.spec else {}
        found = (_meter_use(facts, meter, shown_quotas(quotas, meter.name), figures) for meter in meters)
        uses = tuple(use for use in found if use.used or use.limits or use.meter.name in priced)
        return UsageReport(
            prices=prices_beyond(account, self._meters),
            currency=account.subscription.currency if account.subscription else "usd",
            org=account.org,
            plan=facts.entitlement.plan,
            plan_title=account.spec.title or account.spec.name if account.spec else facts.entitlement.plan,
            plan_version=facts.entitlement.plan_version,
            start_ms=facts.start_ms,
            end_ms=facts.end_ms,
            now_ms=facts.now_ms,
            meters=uses,
            bill=self._bill(facts, quotas, {use.meter.name: facts.means.get(use.meter.name, use.used) for use in uses}),
        )

    def _shown(self, quotas: tuple[Quota, ...], stored: Iterable[str]) -> list[Meter]:
        """Every configured meter, then what is limited or was used under a name that the files no longer hold."""
        others = sorted({*(q.meter for q in quotas), *stored} - set(self._meters))
        return [*self._meters.values(), *(self._other(name) for name in others)]

    def _other(self, name: str) -> Meter:
        """What calls with test keys used stands beside the meter itself, under a name of its own."""
        tested = self._meters.get(name.removeprefix(TEST)) if name.startswith(TEST) else None
        return replace(tested, name=name, title=f"{tested.title or tested.name} (test keys)") if tested else Meter(name=name, unit=name)

    async def _counters(self, facts: _Facts, meters: list[Meter], quotas: tuple[Quota, ...]) -> dict[str, int | None]:
        names = [_counter(facts, meter.name, Window.PERIOD) for meter in meters]
        names += [_counter(facts, q.meter, q.window) for meter in meters for q in shown_quotas(quotas, meter.name)]
        names = list(dict.fromkeys(names))
        try:
            return dict(zip(names, await self._gateways.counters(names), strict=True))
        except GatewaysUnreachable:
            return {}  # the figures then say that they are the ledger's

    def _bill(self, facts: _Facts, quotas: tuple[Quota, ...], used: Mapping[str, int]) -> Bill | None:
        account = facts.account
        if account.subscription is None or account.spec is None:
            return None
        subscription = account.subscription
        hours = hours_between(facts.start_ms, facts.end_ms)
        return estimate(subscription.amount, account.spec.prices, quotas, used, self._meters, subscription.currency, hours=hours)


def prices_beyond(account: Account, meters: Mapping[str, Meter]) -> dict[str, Decimal]:
    """Of a display unit beyond the quota, as this customer has it; meters whose price is not by the unit are left out."""
    if account.spec is None or account.subscription is None:
        return {}
    currency, found = account.subscription.currency, {}
    for name, price in sold(account.spec, account.subscription).prices.items():
        with contextlib.suppress(NoPriceInCurrency):
            one = price.in_currency(currency)
            if isinstance(one, PerUnit) and name in meters:
                found[name] = one.each * meters[name].show_size / one.per_unit_size
    return found


def _counter(facts: _Facts, meter: str, window: Window) -> str:
    start_ms, _ = window_at(window, facts.entitlement.anchor_ms, facts.now_ms)
    return keys.counter(facts.entitlement.org_id, meter, keys.scope(route_id=None, key_id=None), window, start_ms)


def _meter_use(facts: _Facts, meter: Meter, quotas: tuple[Quota, ...], figures: _Figures) -> MeterUse:
    used, source = figures.used(_counter(facts, meter.name, Window.PERIOD), meter.name, Window.PERIOD)
    limits, warn = [], warn_percent(facts.rules, meter.name)
    for quota in quotas:
        start_ms, reset_at_ms = window_at(quota.window, facts.entitlement.anchor_ms, facts.now_ms)
        count, origin = figures.used(_counter(facts, meter.name, quota.window), meter.name, quota.window)
        limits.append(LimitUse(quota=quota, used=count, source=origin, start_ms=start_ms, reset_at_ms=reset_at_ms, warn_percent=warn))
    return MeterUse(meter=meter, used=used, source=source, limits=tuple(limits))
