"""Subscriptions through their lives, over a real database: what each change costs, what the gateways hear, what happens by itself."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.model.invoice import Issuer
from billing.model.payment import PaymentMethod
from billing.model.plan import Interval, PerUnit, PlanSpec, Rollout
from billing.model.subscription import State, Subscription, TransitionRefused
from billing.model.subscription_terms import Terms
from billing.services.lifecycle import ChangeRefused, NoSuchPlan, TrialRules
from billing.wiring import Invoicing, open_billing
from metering.model.clock import isoformat, to_ms
from metering.model.errors import BadInput
from metering.model.quota import Mode, Quota
from tests.integration.billing.conftest import METERS, Desk

PLANS = {
    spec.name: spec
    for spec in (
        PlanSpec(name="free", title="Free", price={"usd": Decimal(0)}, quotas=(Quota(meter="api", limit=10_000),)),
        PlanSpec(name="starter", title="Starter", price={"usd": Decimal(19)}, quotas=(Quota(meter="api", limit=50_000),)),
        PlanSpec(
            name="pro", title="Pro", price={"usd": Decimal(49)}, quotas=(Quota(meter="api", limit=200_000, mode=Mode.OVERAGE),),
            prices={"api": PerUnit(each=Decimal("0.0003"))},
        ),
        PlanSpec(name="pro-annual", title="Pro", price={"usd": Decimal(490)}, interval=Interval.YEAR),
        PlanSpec(name="enterprise", title="Enterprise", interval=Interval.YEAR),
        PlanSpec(name="europe", title="Europe", price={"eur": Decimal(45)}),
    )
}  # fmt: skip


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


class Shop:
    """The desk, with plans, and an organization whose periods are those of April: 30 days."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.billing = desk, desk.billing

    def at(self, text: str) -> None:
        self.desk.clock.advance((ms(text) - self.desk.clock.now_ms()) / 1000)

    async def now(self) -> Subscription:
        async with self.desk.books.transaction() as unit:
            found = await unit.subscriptions.latest((await unit.orgs.by_slugs(["acme"]))["acme"])
        assert found is not None
        return found

    async def items(self) -> list[tuple[str, str]]:
        rows = await self.desk.pool.fetch("SELECT kind, amount FROM billing.invoice_items ORDER BY id")
        return [(row["kind"], f"{row['amount']:.2f}") for row in rows]

    async def mails(self, state: str = "waiting") -> list[tuple[str, str]]:
        rows = await self.desk.pool.fetch("SELECT kind, due_at FROM billing.mails WHERE state = $1 ORDER BY due_at, id", state)
        return [(row["kind"], f"{row['due_at']:%m-%d}") for row in rows]

    async def allowed(self) -> tuple[str, int | None]:
        """What the gateways were told: plan and quota."""
        told = await self.billing.entitlements.of_org((await self.now()).org_id)
        assert told is not None
        return told.plan, told.quotas[0].limit if told.quotas else None

    async def told(self) -> str:
        rows = await self.desk.pool.fetchrow("SELECT ent_version = published_version AS told FROM billing.organizations")
        return "told" if rows["told"] else "not told"


@pytest.fixture
async def shop(desk: Desk) -> Shop:
    desk.billing = open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, invoicing=Invoicing(issuer=Issuer.WEIGHBRIDGE))
    await desk.billing.plans.apply(PLANS, {})
    shop = Shop(desk)
    shop.at("2026-04-01")
    return shop


async def subscribed(shop: Shop, plan: str = "pro") -> Shop:
    await shop.billing.orgs.create("Acme", plan=plan, email="billing@acme.test")
    return shop


# --- what a change costs -----------------------------------------------------------------------------------------------


async def test_a_subscription_is_charged_in_advance_and_renewed_once_a_period(shop: Shop) -> None:
    await subscribed(shop)
    assert await shop.items() == [("base", "49.00")]
    shop.at("2026-07-02")  # three periods were missed
    assert await shop.billing.renewals.run_due() == 3
    assert await shop.billing.renewals.run_due() == 0
    assert await shop.items() == [("base", "49.00")] * 4
    starts = await shop.desk.pool.fetch("SELECT period_start FROM billing.invoice_items ORDER BY id")
    assert [f"{row['period_start']:%m-%d}" for row in starts] == ["04-01", "05-01", "06-01", "07-01"]


async def test_a_subscription_that_starts_before_its_anchor_pays_for_the_days_until_then(shop: Shop) -> None:
    shop.at("2026-08-10")
    await shop.billing.plans.apply({**PLANS, "fifty": PlanSpec(name="fifty", price={"usd": Decimal(50)})}, {})
    await shop.billing.orgs.create("Acme", plan="fifty", anchor_ms=ms("2026-09-01"))
    assert await shop.items() == [("base", "35.48")]


async def test_in_a_zone_with_summer_time_a_period_begins_at_the_local_time_of_its_anchor(shop: Shop) -> None:
    shop.at("2026-10-09T22:00")  # midnight in Berlin
    await shop.billing.orgs.create("Acme", plan="pro", zone="Europe/Berlin")
    assert (await shop.now()).period == (ms("2026-10-09T22:00"), ms("2026-11-09T23:00"))
    with pytest.raises(BadInput, match="no time zone 'Berlin'"):
        await shop.billing.orgs.create("Other", plan="pro", zone="Berlin")


async def test_an_upgrade_is_prorated_by_the_second_and_costs_what_was_shown(shop: Shop) -> None:
    await subscribed(shop, "starter")
    shop.at("2026-04-16")
    shown = await shop.billing.subscriptions.change_plan("acme", "pro", preview=True)
    assert (shown.credit, shown.charge, shown.net) == (Decimal("-9.50"), Decimal("24.50"), Decimal("15.00"))
    assert await shop.items() == [("base", "19.00")]
    changed = await shop.billing.subscriptions.change_plan("acme", "pro")
    assert (changed.credit, changed.charge) == (shown.credit, shown.charge)
    assert await shop.items() == [("base", "19.00"), ("proration", "-9.50"), ("proration", "24.50")]
    assert await shop.allowed() == ("pro", 200_000)
    assert await shop.told() == "told"
    assert (await shop.now()).period == (ms("2026-04-01"), ms("2026-05-01"))


async def test_a_downgrade_waits_for_the_end_of_the_period(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    changed = await shop.billing.subscriptions.change_plan("acme", "starter", at_end=True)
    assert (isoformat(changed.effective_ms), changed.items, changed.spec_after.name) == ("2026-05-01T00:00:00Z", (), "starter")
    assert await shop.allowed() == ("pro", 200_000)
    view = await shop.billing.subscriptions.show("acme")
    assert (view.awaited and view.awaited.name, view.next_amount) == ("starter", Decimal(19))
    shop.at("2026-05-01")
    assert await shop.billing.renewals.run_due() == 1
    assert await shop.allowed() == ("starter", 50_000)
    assert await shop.items() == [("base", "49.00"), ("base", "19.00")]


async def test_a_downgrade_now_gives_back_what_was_not_used(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    changed = await shop.billing.subscriptions.change_plan("acme", "starter")
    assert (changed.credit, changed.charge) == (Decimal("-24.50"), Decimal("9.50"))


async def test_changes_to_and_fro_within_a_second_are_each_charged(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    for plan in ("starter", "pro", "starter"):
        await shop.billing.subscriptions.change_plan("acme", plan)
    assert sum(Decimal(amount) for _, amount in await shop.items()) == Decimal("49") - Decimal("24.50") + Decimal("9.50")


async def test_another_interval_starts_a_whole_period_and_the_usage_period_anew(shop: Shop) -> None:
    await subscribed(shop)
    org_id = (await shop.now()).org_id
    await shop.desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', '2026-04-01Z', '2026-05-01Z', 1, 7)", org_id,
    )  # fmt: skip
    shop.at("2026-04-16")
    changed = await shop.billing.subscriptions.change_plan("acme", "pro-annual")
    assert (changed.credit, changed.charge) == (Decimal("-24.50"), Decimal("490.00"))
    after = await shop.now()
    assert (after.anchor_ms, after.period) == (ms("2026-04-16"), (ms("2026-04-16"), ms("2027-04-16")))
    ended = await shop.desk.pool.fetchval("SELECT period_end FROM billing.usage_period")
    assert ended == datetime(2026, 4, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("plan", "error", "says"),
    [
        ("gold", NoSuchPlan, "gold does not exist; there are: enterprise, europe, free, pro, pro-annual, starter"),
        ("europe", BadInput, "sold in eur, and this subscription is billed in usd; a currency stays"),
        ("enterprise", BadInput, "sold by agreement; say its price in usd"),
        ("pro", ChangeRefused, "acme is on pro already"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_in_a_sentence(shop: Shop, plan: str, error: type[Exception], says: str) -> None:
    await subscribed(shop)
    with pytest.raises(error, match=says):
        await shop.billing.subscriptions.change_plan("acme", plan)
    assert await shop.items() == [("base", "49.00")]


async def test_negotiated_terms_belong_to_the_subscription(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    terms = Terms(price=Decimal(30), prices={"api": PerUnit(each=Decimal("0.0001"))})
    changed = await shop.billing.subscriptions.negotiate("acme", terms)
    assert (changed.credit, changed.charge) == (Decimal("-24.50"), Decimal("15.00"))
    view = await shop.billing.subscriptions.show("acme")
    assert (view.subscription.terms, view.spec.prices["api"], view.next_amount) == (terms, PerUnit(each=Decimal("0.0001")), Decimal(30))
    shop.at("2026-05-01")
    await shop.billing.renewals.run_due()
    assert (await shop.items())[-1] == ("base", "30.00")
    await shop.billing.subscriptions.change_plan("acme", "enterprise", terms=Terms(price=Decimal(12_000)))
    assert (await shop.now()).amount == 12_000


async def test_a_price_edit_for_everybody_at_once_is_prorated(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    dearer = replace(PLANS["pro"], price={"usd": Decimal(59)}, rollout=Rollout.NOW)
    await shop.billing.plans.apply({**PLANS, "pro": dearer}, {})
    assert (await shop.items())[1:] == [("proration", "-24.50"), ("proration", "29.50")]


async def test_where_stripe_writes_invoices_it_hears_of_every_change_and_nothing_is_due_here(shop: Shop) -> None:
    shop.billing = open_billing(shop.desk.pool, shop.desk.redis, shop.desk.clock, meters=METERS)
    await subscribed(shop, "starter")
    use, first = shop.billing.subscriptions, ["ensure_customer", "ensure_plan", "ensure_subscription"]
    for change, kinds in (
        (lambda: use.change_plan("acme", "pro"), ["ensure_plan", "ensure_subscription", "update_subscription"]),
        (lambda: use.cancel("acme"), ["update_subscription"]),
        (lambda: use.reactivate("acme"), ["update_subscription"]),
        (lambda: use.pause("acme"), ["update_subscription"]),
        (lambda: use.cancel("acme", now=True), ["cancel_subscription"]),
        (lambda: use.change_plan("acme", "pro"), ["ensure_subscription", "update_subscription"]),  # of this version it knows
    ):
        known = await shop.desk.outbox()
        await change()
        assert [kind for kind, _ in (await shop.desk.outbox())[len(known) :]] == kinds
    assert [kind for kind, _ in (await shop.desk.outbox())[:3]] == first
    assert await shop.items() == []


# --- its end -------------------------------------------------------------------------------------------------------------


async def test_canceled_at_its_end_it_runs_out_keeps_the_reason_and_is_offered_to_come_back(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    changed = await shop.billing.subscriptions.cancel("acme", reason="too expensive")
    assert isoformat(changed.effective_ms) == "2026-05-01T00:00:00Z"
    assert await shop.allowed() == ("pro", 200_000)
    shop.at("2026-05-03")
    assert await shop.billing.renewals.run_due() == 1
    after = await shop.now()
    assert (after.state, after.cancel_reason, after.ended_at_ms) == (State.CANCELED, "too expensive", ms("2026-05-01"))
    assert await shop.allowed() == ("free", 10_000)
    assert await shop.items() == [("base", "49.00")]
    assert await shop.mails() == [("win_back_offer", "05-08")]
    await shop.billing.subscriptions.change_plan("acme", "starter")  # and they do
    assert await shop.mails() == []
    assert await shop.allowed() == ("starter", 50_000)


async def test_a_cancellation_is_taken_back(shop: Shop) -> None:
    await subscribed(shop)
    await shop.billing.subscriptions.cancel("acme", reason="too expensive")
    with pytest.raises(ChangeRefused, match="ends on 2026-05-01T00:00:00Z; reactivate it first"):
        await shop.billing.subscriptions.change_plan("acme", "starter")
    await shop.billing.subscriptions.reactivate("acme")
    shop.at("2026-05-01")
    assert await shop.billing.renewals.run_due() == 1
    assert (await shop.now()).state is State.ACTIVE
    with pytest.raises(ChangeRefused, match="is not canceled"):
        await shop.billing.subscriptions.reactivate("acme")


async def test_canceled_now_it_ends_without_a_refund(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    await shop.billing.subscriptions.cancel("acme", now=True, reason="other")
    assert ((await shop.now()).state, await shop.allowed(), await shop.items()) == (State.CANCELED, ("free", 10_000), [("base", "49.00")])


async def test_without_auto_renewal_it_ends_with_its_period(shop: Shop) -> None:
    await subscribed(shop)
    await shop.billing.subscriptions.set_auto_renewal("acme", False)
    shop.at("2026-05-01")
    await shop.billing.renewals.run_due()
    assert (await shop.now()).state is State.CANCELED


async def test_a_pause_gives_back_the_rest_and_resuming_charges_what_is_left(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    await shop.billing.subscriptions.pause("acme")
    assert await shop.allowed() == ("free", 10_000)
    with pytest.raises(TransitionRefused, match="paused cannot change its plan"):
        await shop.billing.subscriptions.change_plan("acme", "starter")
    shop.at("2026-06-16")
    await shop.billing.subscriptions.resume("acme")
    assert await shop.items() == [("base", "49.00"), ("proration", "-24.50"), ("proration", "24.50")]
    assert await shop.allowed() == ("pro", 200_000)


# --- when it is billed ---------------------------------------------------------------------------------------------------


async def test_aligned_to_a_day_the_period_ends_there_and_the_rest_is_given_back(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-10")
    changed = await shop.billing.subscriptions.align("acme", ms("2026-04-16"))
    assert (changed.net, isoformat(changed.effective_ms)) == (Decimal("-24.50"), "2026-04-16T00:00:00Z")
    shop.at("2026-04-16")
    await shop.billing.renewals.run_due()
    after = await shop.now()
    assert (after.anchor_ms, after.period) == (ms("2026-04-16"), (ms("2026-04-16"), ms("2026-05-16")))
    assert (await shop.items())[-1] == ("base", "49.00")


async def test_another_billing_day_makes_the_period_longer_and_is_kept_on_the_31st(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    with pytest.raises(BadInput, match="can start after now and until 2026-06-01"):
        await shop.billing.subscriptions.align("acme", ms("2026-07-01"))
    changed = await shop.billing.subscriptions.set_anchor_day("acme", 15)
    assert (isoformat(changed.effective_ms), changed.net) == ("2026-05-15T00:00:00Z", Decimal("22.13"))  # 14 of May's 31 days
    shop.at("2026-05-20")
    await shop.billing.renewals.run_due()
    await shop.billing.subscriptions.set_anchor_day("acme", 31)
    shop.at("2026-07-02")
    await shop.billing.renewals.run_due()
    assert (await shop.now()).period == (ms("2026-06-30"), ms("2026-07-31"))


async def test_the_usage_period_under_way_ends_where_another_anchor_begins(shop: Shop) -> None:
    await subscribed(shop)
    org_id = (await shop.now()).org_id
    await shop.billing.subscriptions.align("acme", ms("2026-04-16"))
    await shop.desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', '2026-04-01Z', '2026-05-01Z', 1, 7)", org_id,
    )  # fmt: skip
    before = await shop.billing.entitlements.of_org(org_id)
    shop.at("2026-04-16")
    await shop.billing.renewals.run_due()
    after = await shop.billing.entitlements.of_org(org_id)
    assert [told.anchor_ms for told in (before, after) if told] == [ms("2026-04-01"), ms("2026-04-16")]
    assert await shop.desk.pool.fetchval("SELECT period_end FROM billing.usage_period") == datetime(2026, 4, 16, tzinfo=UTC)
    assert await shop.told() == "told"


async def test_a_usage_period_that_ended_early_is_billed_as_one_and_the_next_begins_there(shop: Shop) -> None:
    await subscribed(shop)
    org_id = (await shop.now()).org_id
    await shop.billing.issuing.run()
    await shop.billing.subscriptions.align("acme", ms("2026-04-16"))
    await shop.desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', '2026-04-01Z', '2026-05-01Z', 1, 210000)", org_id,
    )  # fmt: skip
    for day in ("2026-04-16T00:01", "2026-04-16T02:00", "2026-05-16T02:00"):
        shop.at(day)
        await shop.billing.renewals.run_due()
        await shop.billing.issuing.run()
    invoices = reversed(await shop.billing.invoices.page(limit=1000))
    assert [[(line.kind.value, str(line.amount)) for line in invoice.lines] for invoice in invoices] == [
        [("base", "49.00")], [("base", "49.00"), ("proration", "-24.50"), ("overage", "3.00")], [("base", "49.00")],
    ]  # fmt: skip
    rated = await shop.desk.pool.fetch("SELECT period_start, period_end FROM billing.rated_periods ORDER BY 1")
    assert [(f"{row['period_start']:%m-%d}", f"{row['period_end']:%m-%d}") for row in rated] == [("04-01", "04-16"), ("04-16", "05-16")]


# --- trials --------------------------------------------------------------------------------------------------------------


async def test_a_reverse_trial_falls_back_to_the_plan_before_it(shop: Shop) -> None:
    await subscribed(shop, "free")
    changed = await shop.billing.trials.start("acme", "pro", 14)
    assert (changed.after.state, await shop.allowed()) == (State.TRIALING, ("pro", 200_000))
    assert await shop.mails() == [
        ("trial_welcome", "04-01"), ("trial_feature", "04-04"), ("trial_stories", "04-08"), ("trial_ending", "04-12"),
        ("trial_last_day", "04-14"),
    ]  # fmt: skip
    with pytest.raises(ChangeRefused, match="is trying pro already, until 2026-04-15"):
        await shop.billing.trials.start("acme", "pro")
    shop.at("2026-04-15")
    assert await shop.billing.renewals.run_due() == 1
    after = await shop.now()
    assert (after.state, after.plan, after.anchor_ms, after.period) == (
        State.ACTIVE, "free", ms("2026-04-01"), (ms("2026-04-15"), ms("2026-05-01")),
    )  # fmt: skip
    assert (await shop.allowed(), await shop.items()) == (("free", 10_000), [])
    assert await shop.mails() == [("trial_ended", "04-15"), ("trial_offer", "04-16")]
    with pytest.raises(ChangeRefused, match="has had its trial"):
        await shop.billing.trials.start("acme", "pro")


async def test_who_buys_during_a_trial_pays_from_then_on(shop: Shop) -> None:
    await subscribed(shop, "free")
    await shop.billing.trials.start("acme", "pro", 14)
    shop.at("2026-04-11")
    await shop.billing.subscriptions.change_plan("acme", "pro")
    assert await shop.items() == [("base", "32.67")]  # 20 of 30 days
    assert ((await shop.now()).state, await shop.mails()) == (State.ACTIVE, [])


async def tried(shop: Shop, *, card: bool, auto_downgrade: bool = True) -> Subscription:
    """A new organization whose plan begins with a trial, after it."""
    desk = shop.desk
    invoicing = Invoicing(issuer=Issuer.WEIGHBRIDGE, charges=True)
    shop.billing = open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, trials=TrialRules(), invoicing=invoicing)
    await shop.billing.trials.set_auto_downgrade(auto_downgrade)
    await shop.billing.plans.apply({**PLANS, "pro": replace(PLANS["pro"], trial_days=14)}, {})
    await subscribed(shop)
    assert (await shop.items(), (await shop.now()).state) == ([], State.TRIALING)
    if card:
        async with desk.books.transaction() as unit:
            method = PaymentMethod(
                id="pm_1", org_id=(await shop.now()).org_id, type="card", brand="visa", last4="4242", exp_month=12, exp_year=2028
            )
            await unit.payment_methods.put(method, desk.clock.now_ms())
    shop.at("2026-04-15")
    await shop.billing.renewals.run_due()
    return await shop.now()


async def test_with_a_card_a_trial_becomes_a_paid_subscription_counted_from_its_end(shop: Shop) -> None:
    after = await tried(shop, card=True)
    assert (after.state, after.anchor_ms, after.period) == (State.ACTIVE, ms("2026-04-15"), (ms("2026-04-15"), ms("2026-05-15")))
    assert (await shop.items(), await shop.allowed()) == ([("base", "49.00")], ("pro", 200_000))


async def test_without_a_card_a_trial_lapses_to_the_default_plan(shop: Shop) -> None:
    after = await tried(shop, card=False)
    assert (after.state, after.ended_at_ms, await shop.allowed()) == (State.CANCELED, ms("2026-04-15"), ("free", 10_000))
    with pytest.raises(ChangeRefused, match="needs a payment method"):
        await shop.billing.trials.start("acme", "pro")


async def test_without_auto_downgrade_a_trial_without_a_card_waits_for_one(shop: Shop) -> None:
    after = await tried(shop, card=False, auto_downgrade=False)
    assert (after.state, await shop.allowed()) == (State.PAUSED, ("free", 10_000))
    shop.at("2026-04-30")
    await shop.billing.subscriptions.resume("acme")
    assert await shop.items() == [("proration", "24.50")]


# --- payments ------------------------------------------------------------------------------------------------------------


async def test_who_does_not_pay_falls_to_the_default_plan_and_is_back_on_payment(shop: Shop) -> None:
    await subscribed(shop)
    org_id = (await shop.now()).org_id
    await shop.billing.subscriptions.payment_failed(org_id)
    assert ((await shop.now()).state, await shop.allowed()) == (State.PAST_DUE, ("pro", 200_000))
    await shop.billing.subscriptions.gave_up(org_id)
    assert ((await shop.now()).state, await shop.allowed()) == (State.UNPAID, ("free", 10_000))
    assert await shop.billing.subscriptions.gave_up(org_id) is None
    shop.at("2026-05-17")  # May was not charged
    await shop.billing.subscriptions.payment_succeeded(org_id)
    assert (await shop.allowed(), await shop.items()) == (("pro", 200_000), [("base", "49.00"), ("proration", "23.71")])


# --- at once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plans", "owed"), [(("pro-annual", "starter"), "43.50"), (("starter", "pro-annual"), "514.50")])
async def test_two_changes_within_a_second_are_both_charged(shop: Shop, plans: tuple[str, str], owed: str) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    for plan in plans:
        await shop.billing.subscriptions.change_plan("acme", plan)
    assert sum(Decimal(amount) for _, amount in await shop.items()) == Decimal(owed)


async def test_two_changes_at_once_follow_one_another(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-04-16")
    await asyncio.gather(*(shop.billing.subscriptions.change_plan("acme", plan) for plan in ("starter", "pro-annual")))
    items = await shop.items()
    after = await shop.now()
    assert len(items) == 5
    expected = {"starter": "43.50", "pro-annual": "514.50"}  # a year that is given back whole, or half a month of each before it
    assert sum(Decimal(amount) for _, amount in items) == Decimal(expected[after.plan])


async def test_renewed_by_several_at_once_a_period_is_charged_once(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-06-02")
    done = await asyncio.gather(*(shop.billing.renewals.run_due() for _ in range(4)))
    assert sum(done) == 2
    assert await shop.items() == [("base", "49.00")] * 3


async def test_a_subscription_that_cannot_go_on_holds_up_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    await subscribed(shop)
    await shop.billing.orgs.create("Bolt", plan="starter")
    await shop.desk.pool.execute(
        """UPDATE billing.plan_versions SET spec = jsonb_set(spec, '{prices,api,model}', '"lost"') WHERE plan = 'pro'"""
    )
    shop.at("2026-05-01")
    assert await shop.billing.renewals.run_due() == 1
    assert "no pricing model 'lost'" in caplog.text


async def test_a_renewal_that_dies_before_its_end_leaves_nothing_behind_and_is_made_up_for(shop: Shop) -> None:
    await subscribed(shop)
    await shop.billing.subscriptions.change_plan("acme", "starter", at_end=True)
    shop.at("2026-05-01")
    await shop.desk.pool.execute("ALTER TABLE billing.invoice_items ADD CHECK (amount <> 19) NOT VALID")
    with pytest.raises(Exception, match="invoice_items"):
        await shop.billing.renewals.run_due()
    assert (await shop.now()).plan == "pro"
    await shop.desk.pool.execute("ALTER TABLE billing.invoice_items DROP CONSTRAINT invoice_items_amount_check")
    assert await shop.billing.renewals.run_due() == 1
    assert await shop.items() == [("base", "49.00"), ("base", "19.00")]


async def test_an_item_tells_what_it_comes_from(shop: Shop) -> None:
    await subscribed(shop, "starter")
    shop.at("2026-04-16")
    await shop.billing.subscriptions.change_plan("acme", "pro")
    rows = await shop.desk.pool.fetch("SELECT description, evidence FROM billing.invoice_items ORDER BY id")
    assert [row["description"] for row in rows] == [
        "Starter Plan (Monthly)", "Unused time on Starter Plan after 2026-04-16", "Remaining time on Pro Plan after 2026-04-16",
    ]  # fmt: skip
    evidence = json.loads(rows[2]["evidence"])
    assert (evidence["price"], evidence["seconds"], evidence["period_seconds"]) == ("49", 15 * 86_400, 30 * 86_400)


async def test_the_log_names_changes_and_no_renewals(shop: Shop) -> None:
    await subscribed(shop)
    shop.at("2026-05-01")
    await shop.billing.renewals.run_due()
    await shop.billing.subscriptions.cancel("acme", reason="other")
    entries = [e for e in await shop.billing.audit.entries() if e.action.startswith("subscription.")]
    assert [(e.action, e.after and e.after.get("cancel_reason")) for e in entries] == [
        ("subscription.created", None), ("subscription.changed", "other"),
    ]  # fmt: skip
