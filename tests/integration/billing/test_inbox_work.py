"""The inbox is worked through: what stands at a scripted Stripe stands here, whatever order its events come in, and however often."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest

from billing.model.delivery import Outcome
from billing.model.payment import Payment, PaymentState
from billing.model.webhook import Status, event_of
from billing.stripe.client import Resource, StripeApi, StripeCallFailed
from billing.stripe.mirror.recover import recover
from billing.stripe.mirror.work import MOST_ATTEMPTS, InboxReport, work_through
from billing.stripe.objects import ORG_KEY
from metering.model.clock import to_datetime

from .conftest import Desk


@dataclass
class ScriptedStripe:
    """What stands there, and what it was asked."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    undelivered: list[dict[str, Any]] = field(default_factory=list)
    changes: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    failures: list[StripeCallFailed] = field(default_factory=list)

    async def retrieve(self, _resource: Resource, object_id: str, *, expand: Sequence[str] = ()) -> dict[str, Any] | None:
        if self.failures:
            raise self.failures.pop(0)
        found = self.objects.get(object_id)
        expanded = {name: self.objects.get(found[name], found[name]) for name in expand if found and found.get(name)}
        return dict(found) | expanded if found else None

    async def update(self, _resource: Resource, object_id: str, params: Mapping[str, Any], *, key: str, tries: int = 1) -> dict[str, Any]:
        self.changes.append((object_id, params))
        self.objects[object_id] |= params
        return self.objects[object_id]

    async def find(self, _resource: Resource, params: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for item in self.undelivered if "delivery_success" in params else self.events:
            if item["created"] >= params.get("created", {}).get("gte", 0):
                yield item


@dataclass
class Post:
    """Brings events, in the order they are sent."""

    desk: Desk
    stripe: ScriptedStripe
    number: int = 0

    def event(self, kind: str, object_id: str) -> dict[str, Any]:
        self.number += 1
        return {"id": f"evt_{self.number}", "type": kind, "created": self.number, "data": {"object": {"id": object_id}}}

    async def bring(self, *events: Mapping[str, Any]) -> None:
        for event in events:
            await self.desk.billing.inbox.take_in([event_of(event)])

    async def work(self) -> InboxReport:
        billing = self.desk.billing
        return await work_through(
            self.desk.books, cast(StripeApi, self.stripe), billing.entitlements, self.desk.clock, jitter=lambda: 0.0
        )  # fmt: skip

    async def status(self, event_id: str) -> str:
        return (await self.desk.billing.inbox.show(event_id)).status.value


@pytest.fixture
def post(sold: Desk) -> Post:
    return Post(sold, ScriptedStripe())


def customer(org_id: str, **changes: Any) -> dict[str, Any]:
    fixed = {"id": "cus_1", "name": "Acme", "email": "a@acme.test", "metadata": {ORG_KEY: org_id}}
    return fixed | {"invoice_settings": {"default_payment_method": None}} | changes


def card(number: int, owner: str | None = "cus_1") -> dict[str, Any]:
    details = {"brand": "visa", "last4": f"424{number}", "exp_month": number, "exp_year": 2030}
    return {"id": f"pm_{number}", "type": "card", "customer": owner, "card": details}


def invoice(state: str, **changes: Any) -> dict[str, Any]:
    line = {
        "id": "il_1", "amount": 4900, "description": "Pro", "quantity": 1, "period": {"start": 1, "end": 2},
        "parent": {"type": "subscription_item_details", "subscription_item_details": {"proration": False}},
        "pricing": {"unit_amount_decimal": "4900", "price_details": {"price": "price_1"}},
    }  # fmt: skip
    paid = 4900 if state == "paid" else 0
    stands = {"finalized_at": 10 if state != "draft" else None, "paid_at": 20 if paid else None}
    return {
        "id": "in_1", "customer": "cus_1", "currency": "usd", "status": state, "subtotal": 4900, "total": 4900, "amount_due": 4900,
        "amount_paid": paid, "period_start": 1, "period_end": 2, "created": 3, "status_transitions": stands,
        "number": "ACME-0001" if state != "draft" else None, "lines": {"data": [line], "has_more": False},
    } | changes  # fmt: skip


async def acme(post: Post) -> str:
    return (await post.desk.billing.orgs.create("Acme", plan="free", email="first@acme.test")).org.id


async def rows(desk: Desk) -> dict[str, Any]:
    """All that the mirror writes."""
    customers = await desk.pool.fetch("SELECT org_id, name, email, default_payment_method FROM billing.customers ORDER BY org_id")
    methods = await desk.pool.fetch("SELECT id, org_id, brand, last4, exp_month FROM billing.payment_methods ORDER BY id")
    ids = await desk.pool.fetch("SELECT kind, key, stripe_id FROM billing.stripe_objects ORDER BY 1, 2")
    invoices = await desk.pool.fetch(
        "SELECT i.id, i.org_id, i.status, i.number, i.total, i.amount_paid, i.attempt_count, count(l) AS lines"
        " FROM billing.invoices i LEFT JOIN billing.invoice_lines l ON l.invoice_id = i.id GROUP BY i.id ORDER BY i.id"
    )
    receipts = await desk.pool.fetch("SELECT invoice_id, amount FROM billing.receipts ORDER BY id")
    money = {"invoices": [*map(tuple, invoices)], "receipts": [*map(tuple, receipts)]}
    return money | {"customers": [*map(tuple, customers)], "methods": [*map(tuple, methods)], "ids": [*map(tuple, ids)]}


async def test_a_customer_is_mirrored_as_it_is_now(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects["cus_1"] = customer(org_id, name="Acme LLC", email="new@acme.test")
    await post.bring(post.event("customer.created", "cus_1"))
    report = await post.work()
    row = await post.desk.pool.fetchrow("SELECT name, email FROM billing.customers")
    assert (row["name"], row["email"], report.outcomes["customer.created", "success"]) == ("Acme LLC", "new@acme.test", 1)
    assert await post.desk.pool.fetchval("SELECT stripe_id FROM billing.stripe_objects WHERE key = $1", org_id) == "cus_1"


async def test_a_customer_of_somebody_else_is_left_alone(post: Post) -> None:
    await acme(post)
    before = await rows(post.desk)
    post.stripe.objects["cus_9"] = customer("11111111-1111-4111-8111-111111111111", id="cus_9")
    await post.bring(post.event("customer.created", "cus_9"))
    await post.work()
    assert (await post.status("evt_1"), await rows(post.desk)) == ("ignored", before)


async def test_a_second_customer_that_claims_an_organization_does_not_get_it(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {"cus_1": customer(org_id), "cus_2": customer(org_id, id="cus_2", email="thief@x.test")}
    await post.bring(post.event("customer.created", "cus_1"), post.event("customer.created", "cus_2"))
    await post.work()
    assert await post.desk.pool.fetchval("SELECT email FROM billing.customers") == "a@acme.test"


async def test_a_card_comes_becomes_the_default_and_goes(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {"cus_1": customer(org_id), "pm_1": card(1)}
    await post.bring(post.event("customer.created", "cus_1"), post.event("payment_method.attached", "pm_1"))
    await post.work()
    post.stripe.objects["cus_1"]["invoice_settings"] = {"default_payment_method": "pm_1"}
    await post.bring(post.event("customer.updated", "cus_1"))
    await post.work()
    async with post.desk.books.transaction() as unit:
        (method,) = await unit.payment_methods.of_org(org_id)
    assert (method.title, method.default, method.exp_month) == ("Visa ending in 4241", True, 1)
    post.stripe.objects["pm_1"] = card(1, None)
    await post.bring(post.event("payment_method.detached", "pm_1"))
    await post.work()
    assert (await rows(post.desk))["methods"] == []


async def test_a_card_that_came_in_by_checkout_becomes_the_default_where_there_is_none(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {
        "cus_1": customer(org_id), "cs_1": {"id": "cs_1", "customer": "cus_1", "setup_intent": "seti_1"},
        "seti_1": {"id": "seti_1", "payment_method": "pm_1"},
    }  # fmt: skip
    for _ in range(2):
        await post.bring(post.event("checkout.session.completed", "cs_1"))
        await post.work()
    assert post.stripe.changes == [("cus_1", {"invoice_settings": {"default_payment_method": "pm_1"}})]
    assert (await rows(post.desk))["customers"][0][3] == "pm_1"


async def test_a_deleted_customer_is_forgotten_and_made_anew_when_it_is_needed(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {"cus_1": customer(org_id), "pm_1": card(1)}
    await post.bring(post.event("customer.created", "cus_1"), post.event("payment_method.attached", "pm_1"))
    await post.work()
    del post.stripe.objects["cus_1"], post.stripe.objects["pm_1"]
    await post.bring(post.event("customer.deleted", "cus_1"))
    await post.work()
    found = await rows(post.desk)
    assert (found["ids"], found["methods"]) == ([], [])


async def test_a_charge_of_ours_is_settled_by_its_event(post: Post) -> None:
    org_id = await acme(post)
    now = post.desk.clock.now_ms()
    payment = Payment(
        org_id=org_id, invoice_id="in_1", attempt=2, amount_minor=4900, currency="usd", customer="cus_1", method="pm_1", begun_ms=now
    )  # fmt: skip
    async with post.desk.books.transaction() as unit:
        await unit.payment_attempts.begin(payment)
    metadata = {"weighbridge_invoice": "in_1", "weighbridge_attempt": "2"}
    post.stripe.objects |= {
        "pi_1": {"id": "pi_1", "status": "succeeded", "metadata": metadata}, "pi_2": {"id": "pi_2", "status": "succeeded", "metadata": {}},
    }  # fmt: skip
    await post.bring(post.event("payment_intent.succeeded", "pi_1"), post.event("payment_intent.succeeded", "pi_2"))
    await post.work()
    async with post.desk.books.transaction() as unit:
        (settled,) = await unit.payment_attempts.of_invoice("in_1")
    assert (settled.state, settled.payment_id, await post.status("evt_2")) == (PaymentState.PAID, "pi_1", "ignored")


async def test_an_invoice_of_stripes_is_mirrored_with_its_lines_and_what_was_paid(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {"cus_1": customer(org_id), "in_1": invoice("open")}
    await post.bring(post.event("invoice.finalized", "in_1"))  # before its customer was heard of
    await post.work()
    async with post.desk.books.transaction() as unit:
        found = await unit.invoices.get("in_1")
    assert found is not None
    assert (found.org_id, found.state.value, found.remaining, [line.description for line in found.lines]) == (
        org_id, "open", Decimal(49), ["Pro"],
    )  # fmt: skip
    post.stripe.objects["in_1"] = invoice("paid")
    for _ in range(2):
        await post.bring(post.event("invoice.paid", "in_1"))
        await post.work()
    assert (await rows(post.desk))["receipts"] == [("in_1", Decimal(49))]


def subscription(org_id: str, state: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "sub_1", "customer": "cus_1", "status": state, "metadata": {ORG_KEY: org_id}, "cancel_at": None, "canceled_at": None,
        "ended_at": None, "cancel_at_period_end": False, "trial_end": None, "pause_collection": None,
        "items": {"data": [{"current_period_end": 1_772_366_400}]},
    } | changes  # fmt: skip


async def on_pro(post: Post) -> str:
    """With a subscription whose making was told to Stripe."""
    org_id = (await post.desk.billing.orgs.create("Acme", plan="pro", email="first@acme.test")).org.id
    await post.desk.pool.execute("UPDATE billing.outbox SET state = 'delivered'")
    post.stripe.objects |= {"cus_1": customer(org_id), "sub_1": subscription(org_id, "active")}
    return org_id


async def standing(post: Post, org_id: str) -> tuple[str, str]:
    """What Postgres says of the subscription, and which plan the gateways were told."""
    state = await post.desk.pool.fetchval("SELECT status FROM billing.subscriptions WHERE org_id = $1", org_id)
    told = await post.desk.billing.entitlements._gateways.standing([org_id])
    return state, told[org_id].plan


async def test_a_subscription_that_goes_unpaid_at_stripe_falls_to_the_default_plan_and_returns(post: Post) -> None:
    org_id = await on_pro(post)
    for state, plan in (("past_due", "pro"), ("unpaid", "free"), ("active", "pro"), ("canceled", "free")):
        post.stripe.objects["sub_1"] = subscription(org_id, state, ended_at=1_769_900_000 if state == "canceled" else None)
        await post.bring(post.event("customer.subscription.updated", "sub_1"))
        await post.work()
        assert await standing(post, org_id) == (state, plan)
    assert await post.desk.pool.fetchval("SELECT ended_at FROM billing.subscriptions") == to_datetime(1_769_900_000_000)


async def test_a_cancellation_at_the_periods_end_is_mirrored_and_taken_back(post: Post) -> None:
    org_id = await on_pro(post)
    ends = {"cancel_at_period_end": True, "canceled_at": 1_769_870_000}
    for changes, expected in ((ends, to_datetime(1_772_366_400_000)), ({}, None)):
        post.stripe.objects["sub_1"] = subscription(org_id, "active", **changes)
        await post.bring(post.event("customer.subscription.updated", "sub_1"))
        await post.work()
        assert await post.desk.pool.fetchval("SELECT cancel_at FROM billing.subscriptions") == expected
    assert await standing(post, org_id) == ("active", "pro")


async def test_while_a_change_of_ours_was_not_told_stripes_older_word_waits(post: Post) -> None:
    org_id = await on_pro(post)
    await post.desk.pool.execute("UPDATE billing.outbox SET state = 'pending' WHERE kind = 'ensure_subscription'")
    post.stripe.objects["sub_1"] = subscription(org_id, "unpaid")
    await post.bring(post.event("customer.subscription.updated", "sub_1"))
    for _ in range(20):
        await post.work()
        post.desk.clock.advance(10)
    assert (await standing(post, org_id), await post.status("evt_1")) == (("active", "pro"), "received")
    await post.desk.pool.execute("UPDATE billing.outbox SET state = 'delivered'")
    await post.work()
    assert (await standing(post, org_id), await post.status("evt_1")) == (("unpaid", "free"), "success")


async def test_a_subscription_beside_the_organizations_own_changes_nothing(post: Post) -> None:
    org_id = await on_pro(post)
    await post.bring(post.event("customer.subscription.created", "sub_1"))
    await post.work()
    post.stripe.objects["sub_2"] = subscription(org_id, "canceled", id="sub_2", ended_at=1_769_900_000)
    await post.bring(post.event("customer.subscription.deleted", "sub_2"))
    await post.work()
    assert (await standing(post, org_id), await post.status("evt_2")) == (("active", "pro"), "ignored")


@pytest.mark.parametrize("seed", range(4))
async def test_states_of_a_subscription_in_any_order_end_in_the_last(post: Post, seed: int) -> None:
    org_id, chance = await on_pro(post), random.Random(seed)
    under_way: list[dict[str, Any]] = []
    for state in ("active", "past_due", "unpaid", "past_due", "active", "past_due"):
        post.stripe.objects["sub_1"] = subscription(org_id, state)
        under_way += [post.event("customer.subscription.updated", "sub_1")] * chance.choice([1, 2])
        chance.shuffle(under_way)
        if chance.random() < 0.5:
            await post.bring(under_way.pop())
            await post.work()
    post.stripe.objects["sub_1"] = subscription(org_id, "active")
    await post.bring(*under_way, post.event("customer.subscription.updated", "sub_1"))
    await post.work()
    assert await standing(post, org_id) == ("active", "pro")


async def test_a_type_that_nobody_handles_is_closed_and_named(post: Post) -> None:
    await post.bring(post.event("radar.early_fraud_warning.created", "issfr_1"))
    report = await post.work()
    assert (report.outcomes["other", "ignored"], await post.status("evt_1")) == (1, "ignored")


async def test_while_stripe_is_away_an_event_waits_and_is_done_once_it_answers(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects["cus_1"] = customer(org_id, name="Later")
    post.stripe.failures = [StripeCallFailed("503", Outcome.AMBIGUOUS), StripeCallFailed("429", Outcome.NOT_ACCEPTED)]
    await post.bring(post.event("customer.updated", "cus_1"), post.event("customer.updated", "cus_1"))
    await post.work()
    assert [await post.status("evt_1"), await post.status("evt_2")] == ["received", "received"]
    for _ in range(3):
        post.desk.clock.advance(10)
        await post.work()
    assert [await post.status("evt_1"), await post.status("evt_2")] == ["success", "success"]


async def test_an_event_that_cannot_be_worked_through_is_given_up_in_time_and_lets_the_next_pass(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects |= {"cus_1": customer(org_id), "pm_1": {"id": "pm_1", "customer": "cus_1"}}  # of no type
    await post.bring(
        post.event("customer.created", "cus_1"),
        post.event("payment_method.attached", "pm_1"),
        post.event("payment_method.attached", "pm_1"),
    )
    for _ in range(MOST_ATTEMPTS):
        await post.work()
        post.desk.clock.advance(3600)
    row = await post.desk.billing.inbox.show("evt_2")
    assert (row.status, "cannot be read" in (row.last_error or "")) == (Status.FAILED, True)
    post.stripe.objects["pm_1"] = card(1)
    await post.work()
    assert await post.status("evt_3") == "success"
    await post.desk.billing.inbox.again("evt_2")
    await post.work()
    assert await post.status("evt_2") == "success"


async def test_an_attempt_that_was_overtaken_writes_nothing(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects["cus_1"] = customer(org_id, name="Old")
    await post.bring(post.event("customer.created", "cus_1"))

    class Slow(ScriptedStripe):
        async def retrieve(self, _resource: Resource, object_id: str, *, expand: Sequence[str] = ()) -> dict[str, Any] | None:
            found = dict(self.objects[object_id])
            post.stripe.objects["cus_1"] = customer(org_id, name="New")
            post.desk.clock.advance(3600)  # the claim runs out, and another worker comes
            await post.work()
            return found

    slow = Slow(dict(post.stripe.objects))
    await work_through(post.desk.books, cast(StripeApi, slow), post.desk.billing.entitlements, post.desk.clock)
    assert await post.desk.pool.fetchval("SELECT name FROM billing.customers") == "New"


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_and_any_repetition_of_events_ends_in_the_same_rows(post: Post, seed: int) -> None:
    org_id = await acme(post)
    chance, stripe = random.Random(seed), post.stripe
    history: list[tuple[str, str, dict[str, Any]]] = [
        ("customer.created", "cus_1", customer(org_id)),
        ("payment_method.attached", "pm_1", card(1)),
        ("customer.updated", "cus_1", customer(org_id, invoice_settings={"default_payment_method": "pm_1"})),
        ("payment_method.attached", "pm_2", card(2)),
        ("customer.updated", "cus_1", customer(org_id, name="Acme LLC", invoice_settings={"default_payment_method": "pm_2"})),
        ("invoice.created", "in_1", invoice("draft")),
        ("payment_method.detached", "pm_1", card(1, None)),
        ("invoice.finalized", "in_1", invoice("open")),
        ("invoice.payment_failed", "in_1", invoice("open", attempt_count=1)),
        ("invoice.paid", "in_1", invoice("paid", attempt_count=2)),
        ("payment_method.updated", "pm_2", card(2) | {"card": {"brand": "visa", "last4": "4242", "exp_month": 9, "exp_year": 2033}}),
    ]
    under_way: list[dict[str, Any]] = []
    for kind, object_id, state in history:  # events are late by chance, and worked through in between
        stripe.objects[object_id] = state
        under_way += [post.event(kind, object_id)] * chance.choice([1, 1, 2, 3])
        chance.shuffle(under_way)
        while under_way and chance.random() < 0.4:
            await post.bring(under_way.pop())
        if chance.random() < 0.5:
            await post.work()
    await post.bring(*under_way)
    await post.work()
    assert await rows(post.desk) == {
        "customers": [(await org_uuid(post), "Acme LLC", "a@acme.test", "pm_2")],
        "methods": [("pm_2", await org_uuid(post), "visa", "4242", 9)],
        "ids": [("customer", org_id, "cus_1")],
        "invoices": [("in_1", await org_uuid(post), "paid", "ACME-0001", Decimal(49), Decimal(49), 2, 1)],
        "receipts": [("in_1", Decimal(49))],
    }


async def org_uuid(post: Post) -> Any:
    return await post.desk.pool.fetchval("SELECT id FROM billing.organizations")


async def test_what_never_arrived_is_fetched_and_what_did_is_not_done_again(post: Post) -> None:
    org_id = await acme(post)
    post.stripe.objects["cus_1"] = customer(org_id, name="Missed")
    came, missed, failed = (post.event("customer.updated", "cus_1") for _ in range(3))
    other = post.event("charge.updated", "ch_1")
    for event, created in ((came, 1000), (missed, 900), (other, 950), (failed, 3)):
        event["created"] = created
    await post.bring(came)
    post.stripe.events, post.stripe.undelivered = [came, missed, other], [failed]
    again = await recover(post.desk.books, cast(StripeApi, post.stripe), post.desk.billing.inbox, post.desk.clock)
    assert again == ["evt_3", "evt_2"]  # in the order in which they happened; of a type that means nothing, none
    assert await recover(post.desk.books, cast(StripeApi, post.stripe), post.desk.billing.inbox, post.desk.clock) == []
    await post.work()
    assert await post.desk.pool.fetchval("SELECT name FROM billing.customers") == "Missed"
