"""Customers and what they pay with."""

from billing.model.payment import PaymentMethod
from billing.services.ports import Unit
from billing.services.ports_stripe import InboxRow
from billing.stripe.client import Resource, StripeApi
from billing.stripe.mirror.handling import Done, Found, NotYet, org_of, reference

STRANGER = Done(ignored="a customer of no organization here")


async def write_customer(unit: Unit, row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """Name, address, default payment method. A customer that was deleted at Stripe is made anew when it is needed again."""
    org_id = await org_of(unit, found or row.object_id, now_ms)
    if found is None:
        return await _deleted(unit, org_id)
    if org_id is None:
        return STRANGER
    if await unit.outbox.waiting(org_id):
        raise NotYet("something of this organization waits to be told to Stripe first")
    await unit.customers.mirror(org_id, name=found.get("name"), email=found.get("email"))
    await unit.payment_methods.set_default(org_id, default_method(found))
    return Done()


async def _deleted(unit: Unit, org_id: str | None) -> Done:
    if org_id is None:
        return STRANGER
    await unit.stripe_ids.forget("customer", org_id)
    await unit.payment_methods.set_default(org_id, None)
    for method in await unit.payment_methods.of_org(org_id):
        await unit.payment_methods.drop(method.id)
    return Done()


def default_method(customer: Found) -> str | None:
    return reference((customer.get("invoice_settings") or {}).get("default_payment_method"))


async def write_payment_method(unit: Unit, row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """One that is attached to nobody is nobody's: it can never be attached again."""
    if found is None or found.get("customer") is None:
        return Done() if await unit.payment_methods.drop(row.object_id) else STRANGER
    org_id = await org_of(unit, found["customer"], now_ms)
    if org_id is None:
        return STRANGER
    await unit.payment_methods.put(payment_method(found, org_id), now_ms)
    return Done()


def payment_method(found: Found, org_id: str) -> PaymentMethod:
    """What of it is shown. Each type has its own fields under its own name."""
    kind = found["type"]
    details = found.get(kind) or {}
    return PaymentMethod(
        id=found["id"],
        org_id=org_id,
        type=kind,
        brand=details.get("brand") or details.get("bank_name") or details.get("bank_code"),
        last4=details.get("last4"),
        exp_month=details.get("exp_month"),
        exp_year=details.get("exp_year"),
    )


async def make_first_default(stripe: StripeApi, row: InboxRow, session: Found) -> Found:
    """A method that came in by Checkout is charged from then on, where the customer has no other default. Returns the customer."""
    customer_id, intent = reference(session.get("customer")), session.get("setup_intent")
    method = reference(intent.get("payment_method")) if isinstance(intent, dict) else None
    customer = await stripe.retrieve(Resource.CUSTOMER, customer_id) if customer_id else None
    if customer is None or method is None or default_method(customer) is not None:
        return customer or {}
    settings = {"invoice_settings": {"default_payment_method": method}}
    return await stripe.update(Resource.CUSTOMER, customer["id"], settings, key=f"wb:default:{row.event_id}", tries=row.attempts)


async def write_checkout(unit: Unit, _row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """`found` is the customer of the session that was completed."""
    org_id = await org_of(unit, found, now_ms)
    if org_id is None or found is None:
        return STRANGER
    await unit.payment_methods.set_default(org_id, default_method(found))
    return Done()
