"""Invoices charged off session against the sandbox: what a bank says, answers that are lost, money given back. Never twice."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from billing.model.payment import NotPayable, PaymentOutcome, PaymentState
from billing.services.ports_stripe import NoSuchPaymentMethod, PaymentMethodRefused
from billing.store.books import PostgresBooks
from billing.stripe.payments import StripePayments
from metering.model.clock import to_datetime

INTENTS = "/v1/payment_intents"
DAY = 86_400


@dataclass
class Till:
    """An organization with a customer at the sandbox."""

    payments: StripePayments
    books: PostgresBooks
    running: Any
    org_id: str
    customer: str
    pool: Any

    async def card(self, token: str = "pm_card_visa") -> str:
        _, method = await self.running.call("POST", f"/v1/payment_methods/{token}/attach", {"customer": self.customer})
        return str(method["id"])

    async def charge(self, attempt: int = 1, invoice: str = "in_1", amount: int = 4900) -> PaymentOutcome:
        return await self.payments.charge(self.org_id, invoice, amount, "usd", attempt)

    async def taken(self) -> list[int]:
        """What the customer really paid."""
        _, page = await self.running.call("GET", INTENTS, {"customer": self.customer, "limit": "100"})
        return [intent["amount"] for intent in page["data"] if intent["status"] == "succeeded"]


@pytest.fixture
async def till(pool, clock, running, stripe) -> Till:
    org_id = "aaaaaaaa-0000-4000-8000-000000000001"
    now = to_datetime(clock.now_ms())
    await pool.execute("INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, 'acme', 'Acme', $2)", org_id, now)
    await pool.execute("INSERT INTO billing.customers (org_id, name, currency, created_at) VALUES ($1, 'Acme', 'usd', $2)", org_id, now)
    _, customer = await running.call("POST", "/v1/customers", {"name": "Acme", "metadata[weighbridge_org]": org_id})
    books = PostgresBooks(pool)
    async with books.transaction() as unit:
        await unit.stripe_ids.keep("customer", org_id, customer["id"], clock.now_ms())
    return Till(StripePayments(books, stripe, clock), books, running, org_id, customer["id"], pool)


async def test_an_invoice_is_charged_and_asking_again_is_the_same_charge(till: Till) -> None:
    await till.card()
    first = await till.charge()
    again = [await till.charge(attempt) for attempt in (1, 2, 3)]  # what is paid is not tried again
    assert (first.state, {o.payment_id for o in again}, await till.taken()) == (PaymentState.PAID, {first.payment_id}, [4900])


async def test_charges_of_one_invoice_at_once_are_one_charge(till: Till) -> None:
    await till.card()
    await asyncio.gather(*(till.charge(attempt) for attempt in (1, 1, 2, 2, 3)))
    assert await till.taken() == [4900]


async def test_without_a_payment_method_stripe_is_not_asked(till: Till) -> None:
    outcome = await till.charge()
    assert (outcome.state, outcome.reason, await till.running.requests(INTENTS)) == (PaymentState.DECLINED, "no_payment_method", [])


async def test_a_decline_carries_the_banks_reason_and_the_next_try_may_succeed(till: Till) -> None:
    method = await till.card()
    await till.running.ask("POST", "/_sandbox/cards", json={"payment_method": method, "fails": "insufficient_funds", "times": 1})
    declined = await till.charge(1)
    assert (declined.state, declined.reason) == (PaymentState.DECLINED, "insufficient_funds")
    assert (await till.charge(1)).state is PaymentState.DECLINED
    assert ((await till.charge(2)).state, await till.taken()) == (PaymentState.PAID, [4900])


async def test_a_card_that_wants_its_owner_needs_action_and_is_taken_back_before_the_next_try(till: Till) -> None:
    first = await till.card("pm_card_authenticationRequired")
    waiting = await till.charge(1)
    assert waiting.state is PaymentState.NEEDS_ACTION
    second = await till.card()
    await till.payments.remove("acme", first)
    await till.payments.set_default("acme", second)
    assert (await till.charge(2)).state is PaymentState.PAID
    _, intent = await till.running.call("GET", f"{INTENTS}/{waiting.payment_id}")
    assert (intent["status"], await till.taken()) == ("canceled", [4900])


@pytest.mark.parametrize("kind", ["timeout_after", "stored_error_after"])
async def test_a_charge_whose_answer_was_lost_is_unknown_and_then_found(kind: str, till: Till, clock) -> None:
    await till.card()
    await till.running.fault(kind, path=INTENTS)
    assert (await till.charge(1)).state is PaymentState.UNKNOWN
    clock.advance(61)
    ((_, outcome),) = await till.payments.resolve_unknown()
    assert (outcome.state, await till.taken(), await till.payments.resolve_unknown()) == (PaymentState.PAID, [4900], [])


@pytest.mark.parametrize("kind", ["timeout_before", "server_error", "rate_limit"])
async def test_a_charge_that_did_not_reach_stripe_is_asked_for_again_under_its_key(kind: str, till: Till, clock) -> None:
    await till.card()
    await till.running.fault(kind, path=INTENTS)
    assert (await till.charge(1)).state is PaymentState.UNKNOWN
    assert (await till.charge(2)).state is PaymentState.PAID  # another try waits for the first, and tells what became of it
    keys = {request["idempotency_key"] for request in await till.running.requests(INTENTS)}
    assert (await till.taken(), keys) == ([4900], {"wb:pay:in_1:1"})


async def test_a_lost_charge_is_never_sent_again_once_stripe_may_have_forgotten_it(till: Till, clock) -> None:
    await till.card()
    await till.running.fault("timeout_before", path=INTENTS)
    await till.charge(1)
    sent = len(await till.running.requests(INTENTS))
    clock.advance(DAY)
    ((_, outcome),) = await till.payments.resolve_unknown()
    assert (outcome.state, outcome.reason) == (PaymentState.DECLINED, "never_reached_stripe")
    assert (len(await till.running.requests(INTENTS)), await till.taken()) == (sent, [])
    assert ((await till.charge(2)).state, await till.taken()) == (PaymentState.PAID, [4900])


async def test_a_lost_charge_that_was_made_is_found_a_day_later(till: Till, clock) -> None:
    await till.card()
    await till.running.fault("timeout_after", path=INTENTS)
    await till.charge(1)
    clock.advance(DAY)
    assert ((await till.charge(2)).state, await till.taken()) == (PaymentState.PAID, [4900])


async def test_a_repetition_says_what_was_said_first_though_the_default_changed(till: Till, clock) -> None:
    first = await till.card()
    await till.payments.set_default("acme", first)
    await till.running.fault("timeout_after", path=INTENTS)
    await till.charge(1)
    await till.payments.set_default("acme", await till.card("pm_card_mastercard"))
    assert ((await till.charge(1)).state, await till.taken()) == (PaymentState.PAID, [4900])


@pytest.mark.parametrize("amount", [0, -1])
async def test_nothing_is_no_charge(till: Till, amount: int) -> None:
    with pytest.raises(NotPayable):
        await till.charge(amount=amount)


async def test_part_of_a_payment_is_given_back_once(till: Till) -> None:
    await till.card()
    await till.charge()
    for _ in range(2):
        assert (await till.payments.refund("in_1", 1900, "note-1")).state is PaymentState.PAID
    assert await till.pool.fetchval("SELECT refunded_minor FROM billing.payment_attempts") == 1900
    assert (await till.payments.refund("in_1", 3000, "note-2")).state is PaymentState.PAID
    for amount in (1, 4901):
        with pytest.raises(NotPayable):
            await till.payments.refund("in_1", amount, f"note-{amount}")
    assert await till.pool.fetchval("SELECT refunded_minor FROM billing.payment_attempts") == 4900


async def test_what_was_never_paid_is_not_given_back(till: Till) -> None:
    with pytest.raises(NotPayable):
        await till.payments.refund("in_1", 1, "note")


async def test_payment_methods_are_listed_chosen_and_removed(till: Till) -> None:
    visa, other = await till.card(), await till.card("pm_card_mastercard")
    chosen = await till.payments.set_default("acme", other)
    assert (chosen.title, [m.id for m in await till.payments.methods("acme")]) == ("MC ending in 4444", [other, visa])
    assert (await till.payments.remove("acme", other)).title == "MC ending in 4444"
    assert [(m.id, m.default) for m in await till.payments.methods("acme")] == [(visa, False)]
    with pytest.raises(NoSuchPaymentMethod):
        await till.payments.set_default("acme", other)


async def test_another_organizations_payment_method_is_not_found(till: Till, pool, clock) -> None:
    visa = await till.card()
    now = to_datetime(clock.now_ms())
    await pool.execute(
        "INSERT INTO billing.organizations (id, slug, name, created_at)"
        " VALUES ('bbbbbbbb-0000-4000-8000-000000000001', 'bolt', 'Bolt', $1)",
        now,
    )
    with pytest.raises(NoSuchPaymentMethod):
        await till.payments.remove("bolt", visa)


async def test_a_method_made_at_stripe_is_the_customers_and_the_first_is_the_default(till: Till) -> None:
    first = await till.payments.attach(till.org_id, "pm_card_visa")
    second = await till.payments.attach(till.org_id, "pm_card_mastercard")
    assert (first.title, first.default, second.title, second.default) == ("Visa ending in 4242", True, "MC ending in 4444", False)
    assert [method.id for method in await till.payments.methods(till.org_id)] == [first.id, second.id]
    with pytest.raises(PaymentMethodRefused):
        await till.payments.attach(till.org_id, "pm_nobody")


async def test_an_invoice_that_stripe_wrote_is_paid_there_and_its_mirror_follows(till: Till) -> None:
    about = {"customer": till.customer}
    await till.running.call("POST", "/v1/invoiceitems", {**about, "amount": "4900", "currency": "usd"})
    _, made = await till.running.call(
        "POST", "/v1/invoices", {**about, "auto_advance": "false", "pending_invoice_items_behavior": "include"}
    )
    await till.running.call("POST", f"/v1/invoices/{made['id']}/finalize", {"auto_advance": "false"})
    assert (await till.payments.pay_there(made["id"])).state is PaymentState.DECLINED  # there is no card yet
    await till.payments.attach(till.org_id, "pm_card_visa")
    outcome = await till.payments.pay_there(made["id"])
    assert (outcome.state, str(outcome.payment_id).startswith("pi_")) == (PaymentState.PAID, True)
    async with till.books.transaction() as unit:
        mirror = await unit.invoices.get(made["id"])
        receipts = await unit.receipts.of_invoice(mirror.id)
    assert (mirror.state, [(str(r.amount), r.method) for r in receipts]) == ("paid", [("49.00", "Visa ending in 4242")])
    assert (await till.payments.pay_there(made["id"])).payment_id == outcome.payment_id  # once
    assert len(await till.taken()) == 1
