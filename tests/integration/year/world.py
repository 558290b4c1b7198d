"""A small world for the tests of this folder: real Postgres, the sandbox of Stripe, the jobs that the aggregator runs, and a clock that
goes from day to day."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import ClientSession

from aggregator.overage import cut_overage
from billing.model.invoice import Invoice
from billing.model.plan import Interval, PerUnit, PlanSpec
from billing.services.dunning import Dunning
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.stripe.client import StripeApi
from billing.stripe.deliver import deliver_due
from billing.stripe.mirror.recover import recover
from billing.stripe.mirror.work import work_through
from billing.stripe.payments import StripePayments
from metering.model.clock import FrozenClock, to_datetime, to_ms
from metering.model.meter import Meter
from metering.model.period import period_at
from metering.model.quota import Mode, Quota

YEAR = 2026
METERS = {"api": Meter(name="api", unit="request", title="API Requests")}
SANDBOX_KEY = "sk_test_sandbox"


def pro(price: str) -> PlanSpec:
    return PlanSpec(
        name="pro", title="Pro", price={"usd": D(price)}, quotas=(Quota(meter="api", limit=200_000, mode=Mode.OVERAGE),),
        prices={"api": PerUnit(each=D("0.0003"))},
    )  # fmt: skip


PLANS = {
    spec.name: spec
    for spec in (
        PlanSpec(name="free", title="Free", price={"usd": D(0)}, quotas=(Quota(meter="api", limit=10_000),)),
        PlanSpec(name="starter", title="Starter", price={"usd": D(19)}, quotas=(Quota(meter="api", limit=50_000),)),
        PlanSpec(name="annual", title="Annual", price={"usd": D(490)}, interval=Interval.YEAR),
        pro("49.00"),
    )
}  # fmt: skip


@dataclass
class World:
    billing: Billing
    pool: asyncpg.Pool
    clock: FrozenClock
    api: StripeApi
    payments: StripePayments
    dunning: Dunning | None  # None: Stripe writes the invoices, and charges
    http: ClientSession
    sandbox_url: str
    orgs: dict[str, str] = field(default_factory=dict)
    diary: dict[str, list[Callable[[], Awaitable[Any]]]] = field(default_factory=dict)

    def on(self, day: str, what: Callable[[], Awaitable[Any]]) -> None:
        """Something that happens at midnight of a day, before the jobs run."""
        self.diary.setdefault(day, []).append(what)

    async def live(self) -> None:
        """To 1 January of the next year."""
        first = datetime(YEAR, 1, 1, tzinfo=UTC)
        for number in range(366):
            await self.day(first + timedelta(days=number))

    async def day(self, midnight: datetime) -> None:
        """What people do happens at midnight. Jobs run at one in the morning: usage is rated an hour after its period."""
        self.to(to_ms(midnight))
        for happens in self.diary.get(f"{midnight:%m-%d}" if midnight.year == YEAR else "", ()):
            await happens()
        self.to(to_ms(midnight) + 3_600_001)
        await self.jobs()
        if self.dunning is not None:
            return
        if midnight.day == 1:
            await self.mirror()
        if (midnight + timedelta(days=1)).day == 1:
            self.to(to_ms(midnight) + 86_340_000)  # a minute before the period ends
            await self.jobs()

    def to(self, at_ms: int) -> None:
        self.clock.advance((at_ms - self.clock.now_ms()) / 1000)

    async def jobs(self) -> None:
        """What the aggregator runs."""
        await self.billing.renewals.run_due()
        if self.dunning is not None:
            await self.billing.issuing.late()
            report = await self.billing.issuing.run()
            assert report.faults == {}
            await self.dunning.run_due()
        else:
            await cut_overage(self.pool, self.clock, METERS)
            await deliver_due(self.pool, self.api, self.clock)

    async def mirror(self) -> None:
        """What Stripe has to tell. Nothing is sent to an address here: events are fetched."""
        await recover(PostgresBooks(self.pool), self.api, self.billing.inbox, self.clock)
        await work_through(PostgresBooks(self.pool), self.api, self.billing.entitlements, self.clock)

    # --- what people do ---

    async def join(self, name: str, plan: str, card: str | None = "pm_card_visa") -> None:
        made = await self.billing.orgs.create(name.title(), plan=plan, slug=name, email=f"billing@{name}.example")
        self.orgs[name] = made.org.id
        if card:
            await self.card(name, card)

    async def card(self, name: str, token: str) -> None:
        """Another card, which is charged from now on."""
        await self.payments.setup_url(name, back_to="https://example.com/")  # makes the customer, where there is none
        async with PostgresBooks(self.pool).transaction() as unit:
            customer = await unit.stripe_ids.of("customer", self.orgs[name])
        method = await self.ask("POST", f"/v1/payment_methods/{token}/attach", customer=customer)
        await self.payments.set_default(name, method["id"])

    async def use(self, name: str, units: int, at: datetime | None = None) -> None:
        """What a flush writes: hours, and the period's sum."""
        at = at or to_datetime(self.clock.now_ms())
        org_id = UUID(self.orgs[name])
        anchor = await self.pool.fetchval(
            "SELECT anchor FROM billing.subscriptions WHERE org_id = $1 ORDER BY created_at DESC LIMIT 1", org_id
        )
        start, end = (to_datetime(ms) for ms in period_at(to_ms(anchor), to_ms(at)))
        await self.pool.execute(
            "INSERT INTO billing.usage_hourly VALUES ($1, 'api', date_trunc('hour', $2::timestamptz), $3, 1, 'GET', 1, '{}', 1, $4, 0, 1)"
            " ON CONFLICT (org_id, service, hour, period_start, route_id, method, key_id, dimensions)"
            " DO UPDATE SET quantity = usage_hourly.quantity + EXCLUDED.quantity",
            org_id, at, start, units,
        )  # fmt: skip
        await self.pool.execute(
            "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
            " VALUES ($1, 'api', $2, $3, 1, $4)"
            " ON CONFLICT (org_id, service, period_start) DO UPDATE SET cumulative = usage_period.cumulative + EXCLUDED.cumulative",
            org_id, start, end, units,
        )  # fmt: skip

    # --- what is looked at ---

    async def invoices(self, name: str) -> list[Invoice]:
        """Oldest first."""
        return list(reversed(await self.billing.invoices.page(org_id=self.orgs[name], limit=1000)))

    async def mails(self, name: str, kind: str) -> int:
        """How many of a kind were written to an organization."""
        found: int = await self.pool.fetchval("SELECT count(*) FROM billing.mails WHERE org_id = $1 AND kind = $2", self.orgs[name], kind)
        return found

    async def at_stripe(self, name: str) -> list[dict[str, Any]]:
        """The invoices of the sandbox, oldest first."""
        async with PostgresBooks(self.pool).transaction() as unit:
            customer = await unit.stripe_ids.of("customer", self.orgs[name])
        page = await self.ask("GET", "/v1/invoices", customer=customer, limit="100")
        return list(reversed(page["data"]))

    async def taken(self) -> int:
        """Cents that the sandbox took of everybody, less what it gave back."""
        charges, after = [], None
        while True:
            page = await self.ask("GET", "/v1/charges", limit="100", **({"starting_after": after} if after else {}))
            charges += page["data"]
            if not page["has_more"]:
                return sum(c["amount_captured"] - c["amount_refunded"] for c in charges if c["status"] == "succeeded")
            after = charges[-1]["id"]

    async def ask(self, method: str, path: str, **params: Any) -> dict[str, Any]:
        """Of the sandbox, as a stranger would."""
        where = {"params": params} if method == "GET" else {"data": params}
        async with self.http.request(method, self.sandbox_url + path, headers={"Authorization": f"Bearer {SANDBOX_KEY}"}, **where) as reply:
            body: dict[str, Any] = await reply.json()
            assert reply.status == 200, body
            return body
