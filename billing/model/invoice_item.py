"""What waits to be billed: one charge or credit that the next invoice takes up. Pure.

Whoever causes money to be due writes items (a renewal, a change of plan, rated usage, a hand); billing/services/invoices.py
gathers those that wait, adds discounts, credits and tax, and makes them the lines of an invoice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any


class ItemKind(StrEnum):
    """What an item is for, in the order in which an invoice lists its lines."""

    BASE = "base"  # the plan's price for an interval
    PRORATION = "proration"  # parts of it, given back or charged because something changed within the interval
    OVERAGE = "overage"  # a meter's units beyond a quota
    USAGE = "usage"  # a meter's units where none are included
    MINIMUM = "minimum"  # what a minimum spend or a commitment lacks
    LATE = "late"  # usage of a period that was billed already
    CORRECTION = "correction"  # a signed line for a line of an invoice that is final
    ONE_TIME = "one_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceItem:
    """`amount` is rounded already, below zero where it is given back; `unit_price` None where tiers decide. Equal identifiers are
    the same item: the second is not written. `evidence` says what the amount comes from, down to usage rows."""

    org_id: str
    identifier: str
    kind: ItemKind
    description: str
    quantity: Decimal
    unit_price: Decimal | None  # major units
    amount: Decimal  # major units
    currency: str
    period_start_ms: int
    period_end_ms: int
    meter: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0  # given by the database
