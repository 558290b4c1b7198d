"""A sample invoice, to look at the template. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.model.invoice import Invoice, Issuer, State, build
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.tax import TaxRule

_DAY_MS = 86_400_000
_ROWS = (  # kind, description, quantity, unit price, amount, unit
    (ItemKind.BASE, "Pro Plan (Monthly)", "1", "49.00", "49.00", ""),
    (ItemKind.OVERAGE, "API Requests beyond 200,000", "5000", "0.0003", "1.50", "request"),
    (ItemKind.OVERAGE, "Storage beyond 50 GB", "2.5", "0.10", "0.25", "GB"),
)


def sample(seller: Mapping[str, Any], now_ms: int) -> Invoice:
    """As it would be drawn; it stands nowhere."""
    period = (now_ms - 31 * _DAY_MS, now_ms)
    items = [
        InvoiceItem(
            org_id="sample", identifier=description, kind=kind, description=description, quantity=Decimal(quantity),
            unit_price=Decimal(price), amount=Decimal(amount), currency="usd", period_start_ms=period[0], period_end_ms=period[1],
            evidence={"unit": unit},
        )
        for kind, description, quantity, price, amount, unit in _ROWS
    ]  # fmt: skip
    lines, sums, rate = build(items, currency="usd", rule=TaxRule(rate=Decimal("0.085")))
    return Invoice(
        id="in_sample", org_id="sample", issuer=Issuer.WEIGHBRIDGE, identifier="sample", state=State.DRAFT, currency="usd", lines=lines,
        totals=sums, tax_rate=rate, period_start_ms=period[0], period_end_ms=period[1], created_ms=now_ms, due_ms=now_ms + 14 * _DAY_MS,
        seller=seller, buyer={"name": "Sample Customer Inc.", "address": ["1 Example Street", "94102 San Francisco CA", "US"]},
    )  # fmt: skip
