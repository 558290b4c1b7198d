"""Rows that must reach Stripe, and their payloads. Pure; delivered by billing/stripe/deliver.py.

A payload never changes once written, and says all that delivery needs: what a plan was when it was sold.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.customer import ADDRESS_FIELDS, Customer
from billing.model.cycle import said
from billing.model.discount import Coupon
from billing.model.invoice_item import InvoiceItem
from billing.model.money import to_minor
from billing.model.native import plan_at_stripe
from billing.model.organization import Organization
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import State, Subscription
from billing.model.wallet import Grant
from metering.model.clock import isoformat
from metering.model.errors import BadInput
from metering.model.meter import Meter

ENSURE_CUSTOMER, ENSURE_PLAN, ENSURE_SUBSCRIPTION = "ensure_customer", "ensure_plan", "ensure_subscription"
CANCEL_SUBSCRIPTION, UPDATE_SUBSCRIPTION, INVOICE_ITEM = "cancel_subscription", "update_subscription", "invoice_item"
NEXT_PRICE, UPDATE_CUSTOMER, SET_TAX = "next_price", "update_customer", "set_tax"
ADD_DISCOUNT, REMOVE_DISCOUNT, CREDIT = "add_discount", "remove_discount", "credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One thing to tell Stripe. Equal identifiers are the same thing; the second is not written."""

    kind: str
    org_id: str
    identifier: str
    payload: Mapping[str, Any]


def customer_row(org: Organization, email: str | None) -> OutboxRow:
    payload = {"org_id": org.id, "slug": org.slug, "name": org.name, "email": email}
    return OutboxRow(kind=ENSURE_CUSTOMER, org_id=org.id, identifier=f"cust:{org.id}", payload=payload)


def customer_changed_row(customer: Customer, now_ms: int) -> OutboxRow:
    """What somebody changed of it here: contact, address, language; a text that is empty is taken away there too."""
    payload = {
        "name": customer.name, "email": customer.email or "", "phone": customer.phone or "", "language": customer.language,
        "address": {field: getattr(customer.address, field) or "" for field in ADDRESS_FIELDS},
    }  # fmt: skip
    return OutboxRow(kind=UPDATE_CUSTOMER, org_id=customer.org_id, identifier=f"customer:{customer.org_id}:{now_ms}", payload=payload)


def tax_row(org_id: str, told: Mapping[str, object], now_ms: int) -> OutboxRow:
    """How its subscription is taxed, the one that runs and those to come. `told`: billing/model/tax.py, StripeTaxes."""
    return OutboxRow(kind=SET_TAX, org_id=org_id, identifier=f"tax:{org_id}:{now_ms}", payload=dict(told))


def add_discount_row(org_id: str, coupon: Coupon, currency: str, now_ms: int) -> OutboxRow:
    """The coupon as a subscription in that currency has it."""
    payload: dict[str, Any] = {
        "coupon": _at_stripe(coupon, currency), "name": coupon.name or coupon.code, "duration": coupon.duration.value,
        "months": coupon.months,
    }  # fmt: skip
    if coupon.percent_off is not None:
        payload["percent_off"] = format(coupon.percent_off, "f")
    else:
        payload |= {"amount_minor": to_minor(coupon.amount_off[currency], currency), "currency": currency}
    return OutboxRow(kind=ADD_DISCOUNT, org_id=org_id, identifier=f"coupon:{org_id}:{coupon.code[:30]}:{now_ms}", payload=payload)


def remove_discount_row(org_id: str, coupon: Coupon, currency: str, now_ms: int) -> OutboxRow:
    payload = {"coupon": _at_stripe(coupon, currency)}
    return OutboxRow(kind=REMOVE_DISCOUNT, org_id=org_id, identifier=f"uncoupon:{org_id}:{coupon.code[:30]}:{now_ms}", payload=payload)


def credit_row(grant: Grant, amount: Decimal, what: str) -> OutboxRow:
    """Onto the customer's balance, from which its invoices are paid; below zero off it. `what` it is of the grant: given, taken."""
    short = hashlib.sha256(grant.identifier.encode()).hexdigest()[:40]
    payload = {"amount_minor": to_minor(amount, grant.currency), "currency": grant.currency, "description": grant.reason}
    return OutboxRow(kind=CREDIT, org_id=grant.org_id, identifier=f"credit:{what}:{short}", payload=payload)


def _at_stripe(coupon: Coupon, currency: str) -> str:
    """Its id there: a coupon that takes off amounts in several currencies is one for each of them."""
    return coupon.code if len(coupon.amount_off) < 2 else f"{coupon.code}_{currency}"


def cancel_row(org_id: str) -> OutboxRow:
    return OutboxRow(kind=CANCEL_SUBSCRIPTION, org_id=org_id, identifier=f"cancel:{org_id}", payload={"org_id": org_id})


def ended_row(subscription: Subscription) -> OutboxRow:
    """It ended, and its organization lives on: there may be another one day."""
    org_id = subscription.org_id
    return OutboxRow(
        kind=CANCEL_SUBSCRIPTION, org_id=org_id, identifier=f"cancel:{subscription.id}:{subscription.revision}", payload={"org_id": org_id}
    )


def update_row(subscription: Subscription, *, next_spec: PlanSpec | None = None) -> OutboxRow:
    """When it ends, whether it is paused, when its trial is over: all of it, as it is after a change. `next_spec` is the plan that comes
    with the next period: where that costs nothing, Stripe's subscription ends at the turn, and not a month later."""
    ends_ms, trial = subscription.ends_at_ms, subscription.trial
    if ends_ms is None:
        ends_ms = free_from(subscription, next_spec)
    return OutboxRow(
        kind=UPDATE_SUBSCRIPTION,
        org_id=subscription.org_id,
        identifier=f"update:{subscription.id}:{subscription.revision}",
        payload={
            "org_id": subscription.org_id,
            "cancel_at": None if ends_ms is None else isoformat(ends_ms),
            "paused": subscription.state is State.PAUSED,
            "trial_end": isoformat(trial.end_ms) if trial else None,
        },
    )


def free_from(subscription: Subscription, next_spec: PlanSpec | None) -> int | None:
    """When it moves to a plan that costs nothing, and so ends at Stripe; None where it does not."""
    if subscription.awaited is None or next_spec is None or next_spec.is_paid or subscription.period is None:
        return None
    return subscription.period[1]


def next_price_rows(
    subscription: Subscription, spec: PlanSpec, version: int, meters: Mapping[str, Meter], *, stands: PlanSpec
) -> tuple[OutboxRow, ...]:
    """The base price of the period to come, told before Stripe charges it: that of the plan that is awaited, or, where a change is taken
    back, of the one that stands (`stands`). None for another interval: Stripe would begin it at once."""
    if (spec.interval, spec.interval_count) != (stands.interval, stands.interval_count):
        return ()
    org_id, what = subscription.org_id, f"{spec.name}:{version}"
    return (
        OutboxRow(
            kind=ENSURE_PLAN, org_id=org_id, identifier=f"plan:{org_id}:{what}",
            payload=plan_payload(spec, version, subscription.currency, meters),
        ),
        OutboxRow(
            kind=NEXT_PRICE, org_id=org_id, identifier=f"next:{subscription.id}:{what}:{subscription.revision}",
            payload={"org_id": org_id, "plan": spec.name, "version": version},
        ),
    )  # fmt: skip


def invoice_item_row(item: InvoiceItem) -> OutboxRow:
    """A line that Stripe does not charge itself, for the next invoice that it writes."""
    payload = {
        "org_id": item.org_id,
        "amount_minor": to_minor(item.amount, item.currency),
        "currency": item.currency,
        "description": item.description,
        "meter": item.meter,
        "kind": item.kind.value,
        "quantity": format(item.quantity, "f"),
        "period_start": isoformat(item.period_start_ms),
        "period_end": isoformat(item.period_end_ms),
        "line": item.identifier,
    }
    short = hashlib.sha256(item.identifier.encode()).hexdigest()[:40]  # an identifier has at most 100 characters, a meter's name 63
    return OutboxRow(kind=INVOICE_ITEM, org_id=item.org_id, identifier=f"item:{short}", payload=payload)


def subscription_rows(
    subscription: Subscription, spec: PlanSpec, meters: Mapping[str, Meter], *, effective_ms: int | None = None
) -> tuple[OutboxRow, OutboxRow]:
    """The plan version as sold, then the subscription to it: of a change, since when. Raises what `plan_payload` raises."""
    org_id, what = subscription.org_id, f"{subscription.plan}:{subscription.plan_version}"
    trial, revision = subscription.trial, f":{subscription.revision}" if subscription.revision else ""
    payload: dict[str, Any] = {
        "org_id": org_id,
        "plan": subscription.plan,
        "version": subscription.plan_version,
        "anchor": isoformat(subscription.anchor_ms),
        "trial_days": subscription.trial_days,
        "trial_end": isoformat(trial.end_ms) if trial else None,
    }
    if effective_ms is not None:
        payload["effective"] = isoformat(effective_ms)
    return (
        OutboxRow(
            kind=ENSURE_PLAN,
            org_id=org_id,
            identifier=f"plan:{org_id}:{what}",
            payload=plan_payload(spec, subscription.plan_version, subscription.currency, meters),
        ),
        OutboxRow(kind=ENSURE_SUBSCRIPTION, org_id=org_id, identifier=f"sub:{org_id}:{what}{revision}", payload=payload),
    )


def plan_payload(spec: PlanSpec, version: int, currency: str, meters: Mapping[str, Meter]) -> dict[str, Any]:
    """What Stripe must know of a plan version: the base price, and the meters that it charges itself. What is rated here comes as
    items to invoices; where nothing else is sold, a base price of nothing makes the subscription that they go to.

    Raises BadInput for a priced meter that nobody counts, NoPriceInCurrency.
    """
    unknown = sorted(set(spec.prices) - set(meters))
    if unknown:
        raise BadInput(f"plan {spec.name} prices {', '.join(unknown)}, which meters.yaml does not name")
    if spec.interval not in (Interval.MONTH, Interval.YEAR) or spec.interval_count != 1:
        every = said(spec.interval, spec.interval_count)
        raise BadInput(f"plan {spec.name} is due every {every}; where Stripe writes the invoices (issuer), that is a month or a year")
    native = {name: at.terms for name, at in plan_at_stripe(spec, meters, currency).items() if at.terms is not None}
    return {
        "plan": spec.name,
        "version": version,
        "title": spec.title or spec.name,
        "interval": spec.interval.value,
        "currency": currency,
        "amount_minor": to_minor(spec.price[currency], currency) if currency in spec.price else None if native else 0,
        "meters": [_meter_payload(meters[name], native[name]) for name in sorted(native)],
    }


def _meter_payload(meter: Meter, terms: Mapping[str, Any]) -> dict[str, Any]:
    """`terms` say what a report unit costs, in major units: see Price.at_stripe."""
    return {
        "meter": meter.name,
        "title": meter.title or meter.name,
        "report": meter.report or meter.unit,
        "report_size": meter.report_size,
        **terms,
    }
