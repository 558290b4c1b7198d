"""Money moves: invoices charged off session, given back, and what customers pay with. Card data never comes here.

A try is written down before Stripe is asked, with all that Stripe will be told. One idempotency key belongs to each try, so asking again
is the same charge for as long as Stripe remembers it (24 hours); afterwards it is looked for among the customer's payments, never sent.
"""

import logging
import uuid
from typing import Any

from billing.model.delivery import FORGOTTEN_AFTER_MS, Outcome
from billing.model.organization import Organization
from billing.model.payment import NotPayable, Payment, PaymentMethod, PaymentOutcome, PaymentState
from billing.services.lookup import organization
from billing.services.ports import Books, Unit
from billing.services.ports_stripe import NoSuchPaymentMethod, PaymentMethodRefused
from billing.stripe.client import Resource, StripeApi, StripeCallFailed
from billing.stripe.mirror.customers import payment_method
from billing.stripe.mirror.invoices import mirrored, with_lines
from billing.stripe.mirror.payments import ATTEMPT_KEY, INVOICE_KEY, outcome_of
from billing.stripe.objects import ORG_KEY
from metering.model.clock import Clock

log = logging.getLogger(__name__)

_CLOCKS_APART_SECONDS = 300
_NO_METHOD = PaymentOutcome(state=PaymentState.DECLINED, reason="no_payment_method")
_NEVER_THERE = PaymentOutcome(state=PaymentState.DECLINED, reason="never_reached_stripe")


class StripePayments:
    """The port `Payments`, by Stripe. No transaction is open while Stripe is asked."""

    def __init__(self, books: Books, stripe: StripeApi, clock: Clock, *, currency: str = "usd") -> None:
        self._books, self._stripe, self._clock, self._currency = books, stripe, clock, currency

    # --- charge -----------------------------------------------------------------------------------------------------

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        """See `Payments`. Raises NotPayable."""
        if amount_minor <= 0 or attempt <= 0:
            raise NotPayable(f"{amount_minor} {currency} cannot be charged (try {attempt})")
        await self._look_for_a_method(org_id)
        async with self._books.transaction() as unit:
            earlier = await unit.payment_attempts.of_invoice(invoice_id, lock=True)
            standing = _standing(earlier, attempt)
            if standing is None:
                standing = await unit.payment_attempts.begin(await self._new(unit, org_id, invoice_id, amount_minor, currency, attempt))
        if standing.state is not PaymentState.UNKNOWN:
            return standing.outcome
        for before in earlier:
            waits = before.state is PaymentState.NEEDS_ACTION and before.attempt != standing.attempt
            if waits and (outcome := await self._withdrawn(before)).state is PaymentState.PAID:
                await self._settled(standing, PaymentOutcome(state=PaymentState.DECLINED, reason="paid_before"))
                return outcome
        return await self.resolve(standing)

    async def _new(self, unit: Unit, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> Payment:
        """With what Stripe will be told. Without a payment method there is nothing to ask it."""
        customer = await unit.stripe_ids.of("customer", org_id)
        method = await unit.payment_methods.charged(org_id)
        outcome = None if customer and method else _NO_METHOD
        return Payment(
            org_id=org_id, invoice_id=invoice_id, attempt=attempt, amount_minor=amount_minor, currency=currency, customer=customer,
            method=method, begun_ms=self._clock.now_ms(), state=outcome.state if outcome else PaymentState.UNKNOWN,
            reason=outcome.reason if outcome else None,
        )  # fmt: skip

    async def _look_for_a_method(self, org_id: str) -> None:
        """Where none is known: the event that told of it may be on its way still."""
        async with self._books.transaction() as unit:
            customer, method = await unit.stripe_ids.of("customer", org_id), await unit.payment_methods.charged(org_id)
        if customer is not None and method is None:
            try:
                await self._mirrored(org_id, customer)
            except StripeCallFailed as failure:
                log.warning("payment methods stay as they were: %s", failure)

    async def resolve(self, payment: Payment) -> PaymentOutcome:
        """What became of a try that is not known yet: looked for at Stripe, and asked for where it surely counts once."""
        try:
            outcome = await self._at_stripe(payment)
        except StripeCallFailed as failure:
            outcome = _told_by(failure)
        await self._settled(payment, outcome)
        return outcome

    async def _at_stripe(self, payment: Payment) -> PaymentOutcome:
        if payment.payment_id is not None:
            intent = await self._stripe.retrieve(Resource.PAYMENT_INTENT, payment.payment_id)
            return outcome_of(intent) if intent else _NEVER_THERE
        forgotten = self._clock.now_ms() >= payment.begun_ms + FORGOTTEN_AFTER_MS
        if forgotten or payment.reason is not None:  # it was sent before
            if intent := await self._found(payment):
                return outcome_of(intent)
            if forgotten:
                return _NEVER_THERE
        params = {
            "amount": payment.amount_minor, "currency": payment.currency, "customer": payment.customer, "payment_method": payment.method,
            "off_session": True, "confirm": True, "description": f"Invoice {payment.invoice_id}",
            "metadata": {ORG_KEY: payment.org_id, INVOICE_KEY: payment.invoice_id, ATTEMPT_KEY: str(payment.attempt)},
        }  # fmt: skip
        return outcome_of(await self._stripe.create_once(Resource.PAYMENT_INTENT, params, key=_key(payment)))

    async def _found(self, payment: Payment) -> dict[str, Any] | None:
        since = payment.begun_ms // 1000 - _CLOCKS_APART_SECONDS
        async for intent in self._stripe.find(Resource.PAYMENT_INTENT, {"customer": payment.customer, "created": {"gte": since}}):
            metadata = intent.get("metadata") or {}
            if metadata.get(INVOICE_KEY) == payment.invoice_id and metadata.get(ATTEMPT_KEY) == str(payment.attempt):
                return intent
        return None

    async def _withdrawn(self, payment: Payment) -> PaymentOutcome:
        """A try that waits for the customer is taken back before another begins, else both could be paid."""
        assert payment.payment_id is not None
        try:
            key = f"{_key(payment)}:cancel"
            outcome = outcome_of(await self._stripe.act(Resource.PAYMENT_INTENT, payment.payment_id, "cancel", {}, key=key))
        except StripeCallFailed:
            intent = await self._stripe.retrieve(Resource.PAYMENT_INTENT, payment.payment_id)
            outcome = outcome_of(intent) if intent else _NEVER_THERE
        await self._settled(payment, outcome)
        return outcome

    async def _settled(self, payment: Payment, outcome: PaymentOutcome) -> None:
        async with self._books.transaction() as unit:
            await unit.payment_attempts.settle(payment.invoice_id, payment.attempt, outcome, self._clock.now_ms())

    async def resolve_unknown(self, *, older_than_ms: int = 60_000, limit: int = 100) -> list[tuple[Payment, PaymentOutcome]]:
        """A job: tries of which Stripe's answer was lost, and what became of them."""
        async with self._books.transaction() as unit:
            lost = await unit.payment_attempts.unknown(self._clock.now_ms() - older_than_ms, limit)
        return [(payment, await self.resolve(payment)) for payment in lost]

    async def pay_there(self, stripe_id: str) -> PaymentOutcome:
        """See `Payments`. Each asking is a new one: Stripe itself pays an invoice once."""
        try:
            await self._stripe.act(Resource.INVOICE, stripe_id, "pay", {}, key=f"wb:pay-there:{uuid.uuid4()}")
            outcome = PaymentOutcome(state=PaymentState.PAID)
        except StripeCallFailed as failure:
            outcome = _told_by(failure)
        try:
            found = await self._stripe.retrieve(Resource.INVOICE, stripe_id, expand=("payments",))
            if found is not None:
                whole = await with_lines(self._stripe, found)
                async with self._books.transaction() as unit:
                    await mirrored(unit, whole, self._clock.now_ms())
                if found["status"] == "paid":
                    return PaymentOutcome(state=PaymentState.PAID, payment_id=_payment_of(found))
        except StripeCallFailed as failure:
            log.warning("invoice %s stays as it was: %s", stripe_id, failure)
        return outcome

    # --- refund -----------------------------------------------------------------------------------------------------

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        """See `Payments`. Raises NotPayable for more than was paid and not given back yet."""
        async with self._books.transaction() as unit:
            tries = await unit.payment_attempts.of_invoice(invoice_id)
        paid = next((p for p in tries if p.state is PaymentState.PAID), None)
        if paid is None or paid.payment_id is None or not 0 < amount_minor <= paid.amount_minor:
            raise NotPayable(f"{amount_minor} of invoice {invoice_id} cannot be given back: no such payment was taken here")
        params = {"payment_intent": paid.payment_id, "amount": amount_minor, "metadata": {INVOICE_KEY: invoice_id}}
        try:
            made = await self._stripe.create_once(Resource.REFUND, params, key=f"wb:refund:{invoice_id}:{identifier}")
        except StripeCallFailed as failure:
            if failure.outcome is Outcome.REFUSED:
                raise NotPayable(f"Stripe refuses the refund: {failure}") from failure
            return PaymentOutcome(state=PaymentState.UNKNOWN, reason=str(failure))
        await self._note_refunds(paid)
        state = PaymentState.DECLINED if made["status"] in ("failed", "canceled") else PaymentState.PAID
        return PaymentOutcome(state=state, reason=made.get("failure_reason"), payment_id=made["id"])

    async def _note_refunds(self, paid: Payment) -> None:
        """All that was given back of it, as Stripe has it."""
        total = 0
        async for refund in self._stripe.find(Resource.REFUND, {"payment_intent": paid.payment_id}):
            total += refund["amount"] if refund["status"] not in ("failed", "canceled") else 0
        async with self._books.transaction() as unit:
            await unit.payment_attempts.refunded(paid.invoice_id, paid.attempt, total)

    # --- what customers pay with ------------------------------------------------------------------------------------

    async def methods(self, ref: str) -> list[PaymentMethod]:
        """As Stripe has them now, the default first. Raises NoSuchOrganization, StripeCallFailed."""
        org, customer = await self._customer(ref)
        if customer is None:
            return []
        await self._mirrored(org.id, customer)
        async with self._books.transaction() as unit:
            return await unit.payment_methods.of_org(org.id)

    async def _mirrored(self, org_id: str, customer: str) -> None:
        found = [item async for item in self._stripe.find(Resource.PAYMENT_METHOD, {"customer": customer})]
        holder = await self._stripe.retrieve(Resource.CUSTOMER, customer)
        default = ((holder or {}).get("invoice_settings") or {}).get("default_payment_method")
        async with self._books.transaction() as unit:
            here = {item["id"] for item in found}
            for method in await unit.payment_methods.of_org(org_id):
                if method.id not in here:
                    await unit.payment_methods.drop(method.id)
            for item in found:
                await unit.payment_methods.put(payment_method(item, org_id), self._clock.now_ms())
            await unit.payment_methods.set_default(org_id, default)

    async def attach(self, ref: str, token: str) -> PaymentMethod:
        """A method that was made at Stripe. Raises PaymentMethodRefused, NoSuchOrganization, StripeCallFailed."""
        _, customer = await self._known_customer(ref)
        had = await self.methods(ref)
        key = f"wb:attach:{uuid.uuid4()}"  # asked again, a card that was refused may be taken
        try:
            made = await self._stripe.act(Resource.PAYMENT_METHOD, token, "attach", {"customer": customer}, key=key)
        except StripeCallFailed as failure:
            if failure.outcome is not Outcome.REFUSED:
                raise
            raise PaymentMethodRefused(f"Stripe refuses the payment method {token}: {failure}") from failure
        if not had:
            return await self.set_default(ref, made["id"])
        return next(m for m in await self.methods(ref) if m.id == made["id"])

    async def set_default(self, ref: str, method_id: str) -> PaymentMethod:
        """Charged from now on. Raises NoSuchPaymentMethod, NoSuchOrganization, StripeCallFailed."""
        org, customer, _ = await self._owned(ref, method_id)
        settings = {"invoice_settings": {"default_payment_method": method_id}}
        await self._stripe.update(Resource.CUSTOMER, customer, settings, key=f"wb:default:{org.id}:{self._clock.now_ms()}")
        await self._mirrored(org.id, customer)
        return next(m for m in await self.methods(ref) if m.id == method_id)

    async def remove(self, ref: str, method_id: str) -> PaymentMethod:
        """Never charged again. Raises NoSuchPaymentMethod, NoSuchOrganization, StripeCallFailed."""
        org, customer, method = await self._owned(ref, method_id)
        await self._stripe.act(Resource.PAYMENT_METHOD, method_id, "detach", {}, key=f"wb:detach:{method_id}")
        await self._mirrored(org.id, customer)
        return method

    async def _owned(self, ref: str, method_id: str) -> tuple[Organization, str, PaymentMethod]:
        org, customer = await self._customer(ref)
        for method in await self.methods(ref):
            if method.id == method_id and customer is not None:
                return org, customer, method
        raise NoSuchPaymentMethod(f"{org.slug} has no payment method {method_id}; `weighbridge payment list` shows those it has")

    # --- pages at Stripe --------------------------------------------------------------------------------------------

    async def setup_url(self, ref: str, *, back_to: str) -> str:
        """A page at Stripe on which the customer adds a payment method (Checkout, mode setup)."""
        org, customer = await self._known_customer(ref)
        params = {
            "mode": "setup", "customer": customer, "currency": self._currency, "success_url": back_to, "cancel_url": back_to,
            "metadata": {ORG_KEY: org.id},
        }  # fmt: skip
        session = await self._stripe.create(Resource.CHECKOUT_SESSION, params, key=f"wb:setup:{org.id}:{self._clock.now_ms()}")
        return str(session["url"])

    async def portal_url(self, ref: str, *, back_to: str) -> str:
        """The customer's own page at Stripe; good for an hour."""
        org, customer = await self._known_customer(ref)
        params = {"customer": customer, "return_url": back_to}
        session = await self._stripe.create(Resource.PORTAL_SESSION, params, key=f"wb:portal:{org.id}:{self._clock.now_ms()}")
        return str(session["url"])

    async def _known_customer(self, ref: str) -> tuple[Organization, str]:
        org, customer = await self._customer(ref)
        if customer is not None:
            return org, customer
        async with self._books.transaction() as unit:
            email = (await unit.customers.emails([org.id])).get(org.id)
        params: dict[str, Any] = {"name": org.name, "metadata": {ORG_KEY: org.id, "weighbridge_slug": org.slug}}
        params |= {"email": email} if email else {}
        # The key of the outbox's own row: whoever is first makes it, and the other gets the same customer.
        made = await self._stripe.create(Resource.CUSTOMER, params, key=f"wb:customer:{org.id}")
        async with self._books.transaction() as unit:
            await unit.stripe_ids.keep("customer", org.id, made["id"], self._clock.now_ms())
        return org, str(made["id"])

    async def _customer(self, ref: str) -> tuple[Organization, str | None]:
        async with self._books.transaction() as unit:
            org = await organization(unit, ref)
            return org, await unit.stripe_ids.of("customer", org.id)


def _standing(tries: list[Payment], attempt: int) -> Payment | None:
    """The try that answers for this one: itself, one that was paid, or one that is not known yet. None: begin it."""
    for payment in tries:
        if payment.attempt == attempt or payment.state in (PaymentState.PAID, PaymentState.UNKNOWN):
            return payment
    return None


def _payment_of(invoice: dict[str, Any]) -> str | None:
    """The PaymentIntent that paid it."""
    for payment in (invoice.get("payments") or {}).get("data", ()):
        if payment["status"] == "paid":
            intent = payment["payment"].get("payment_intent")
            return str(intent["id"] if isinstance(intent, dict) else intent) if intent else None
    return None


def _told_by(failure: StripeCallFailed) -> PaymentOutcome:
    if failure.outcome is Outcome.REFUSED:
        reason = failure.decline_code or failure.error_code or str(failure)
        needs = "authentication_required" in (failure.error_code, failure.decline_code)
        state = PaymentState.NEEDS_ACTION if needs else PaymentState.DECLINED
        return PaymentOutcome(state=state, reason=reason, payment_id=failure.payment_id)
    return PaymentOutcome(state=PaymentState.UNKNOWN, reason=str(failure))


def _key(payment: Payment) -> str:
    return f"wb:pay:{payment.invoice_id}:{payment.attempt}"
