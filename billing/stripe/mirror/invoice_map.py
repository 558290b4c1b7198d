"""An invoice of Stripe's in our form. Pure: the same invoice gives the same rows, cent for cent.

`parent` and `pricing` are where Stripe keeps what a line is of since 2025; sums are in minor units there, in major units here.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.model.invoice import Invoice, Issuer, Line, LineKind, State, Totals
from billing.model.money import from_minor, minor_digits

Found = Mapping[str, Any]
ZERO = Decimal(0)


def price_of(line: Found) -> str | None:
    """The id of the price that a line charges."""
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
    return price.get("id") if isinstance(price, Mapping) else price


def invoice_of(found: Found, org_id: str, meters: Mapping[str, str]) -> Invoice:
    """`meters`: price -> the meter that it charges, for those that charge one. Raises KeyError, ValueError for what is no invoice."""
    currency = found["currency"]
    minor = _Minor(currency)
    taxes = found.get("total_taxes") or []
    inclusive = bool(taxes) and all(tax.get("tax_behavior") == "inclusive" for tax in taxes)
    tax = minor(sum(each["amount"] for each in taxes))
    discount = minor(sum(each["amount"] for each in found.get("total_discount_amounts") or []))
    total, due = minor(found["total"]), minor(found["amount_due"])
    credit = max(ZERO, total - due) if total > 0 else ZERO
    when = found.get("status_transitions") or {}
    lines = [_line(each, minor, meters) for each in found["lines"]["data"]]
    return Invoice(
        id=found["id"],
        org_id=org_id,
        issuer=Issuer.STRIPE,
        identifier=f"stripe:{found['id']}",
        state=State(found["status"]),
        currency=currency,
        lines=(*lines, *_below(discount, tax, credit)),
        totals=Totals(
            subtotal=minor(found["subtotal"]), discount=discount, tax=tax, tax_inclusive=inclusive, total=total, credit=credit,
            amount_due=due, carried=max(ZERO, -total),
        ),
        tax_rate=_rate(tax, total, inclusive=inclusive),
        period_start_ms=found["period_start"] * 1000,
        period_end_ms=max(found["period_end"], found["period_start"]) * 1000,
        created_ms=found["created"] * 1000,
        number=found.get("number") if found["status"] != "draft" else None,
        finalized_ms=_ms(when.get("finalized_at")),
        due_ms=_ms(found.get("due_date")),
        paid_ms=_ms(when.get("paid_at")),
        closed_ms=_ms(when.get("voided_at") or when.get("marked_uncollectible_at")),
        amount_paid=minor(found["amount_paid"]),
        credited=minor(found.get("pre_payment_credit_notes_amount") or 0),
        attempts=found.get("attempt_count") or 0,
        next_attempt_ms=_ms(found.get("next_payment_attempt")),
        stripe_id=found["id"],
        buyer={"name": found.get("customer_name") or "", "email": found.get("customer_email") or ""},
    )  # fmt: skip


class _Minor:
    """Minor units to major ones, with the currency's own decimals."""

    def __init__(self, currency: str) -> None:
        self._currency = currency

    def __call__(self, amount: int) -> Decimal:
        return from_minor(amount, self._currency)

    def exact(self, amount: str | Decimal) -> Decimal:
        """Of a unit price, which may have parts of a minor unit."""
        return Decimal(str(amount)).scaleb(-minor_digits(self._currency))


def _line(line: Found, minor: _Minor, meters: Mapping[str, str]) -> Line:
    parent = line.get("parent") or {}
    item = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    meter = meters.get(price_of(line) or "")
    unit = (line.get("pricing") or {}).get("unit_amount_decimal")
    quantity = line.get("quantity")
    return Line(
        kind=_kind(parent, item, meter),
        description=line.get("description") or "",
        amount=minor(line["amount"]),
        quantity=Decimal(quantity if quantity is not None else 1),
        unit_price=minor.exact(unit) if unit is not None else None,
        meter=meter,
        period_start_ms=line["period"]["start"] * 1000,
        period_end_ms=line["period"]["end"] * 1000,
        reference=line["id"],
    )


def _kind(parent: Found, item: Found, meter: str | None) -> LineKind:
    if item.get("proration"):
        return LineKind.PRORATION
    if meter is not None:
        return LineKind.OVERAGE
    return LineKind.BASE if parent.get("type") == "subscription_item_details" else LineKind.ONE_TIME


def _below(discount: Decimal, tax: Decimal, credit: Decimal) -> Sequence[Line]:
    """What stands under the lines, so that all of them add up as ours do."""
    found = [(LineKind.DISCOUNT, "Discount", -discount), (LineKind.TAX, "Tax", tax), (LineKind.CREDIT, "Credit", -credit)]
    return [Line(kind=kind, description=text, amount=amount) for kind, text, amount in found if amount]


def _rate(tax: Decimal, total: Decimal, *, inclusive: bool) -> Decimal:
    """About: Stripe may have taxed lines at several rates."""
    net = total - tax
    return (tax / net).quantize(Decimal("0.0001")) if tax and net > 0 else ZERO


def _ms(seconds: int | None) -> int | None:
    return seconds * 1000 if seconds is not None else None
