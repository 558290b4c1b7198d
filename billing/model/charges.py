"""The items that a subscription causes: its base price when a period starts, and what a change within one gives back and charges. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.cycle import Bounds, Cycle, local_date, period_of, said
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.plan import Interval, PlanSpec
from billing.model.proration import worth
from billing.model.subscription import Subscription

_WORDS = {Interval.DAY: "Daily", Interval.WEEK: "Weekly", Interval.MONTH: "Monthly", Interval.YEAR: "Yearly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A plan version at a price, as a subscription has it, or would."""

    title: str
    plan: str
    version: int
    amount: Decimal
    cycle: Cycle
    currency: str

    def worth(self, stretch: Bounds) -> Decimal:
        return worth(self.amount, self.cycle, stretch, self.currency)


def priced(subscription: Subscription, spec: PlanSpec) -> Priced:
    """What it costs now; nothing where the price was left to be negotiated."""
    return Priced(
        title=title_of(spec),
        plan=subscription.plan,
        version=subscription.plan_version,
        amount=subscription.amount or Decimal(0),
        cycle=subscription.cycle,
        currency=subscription.currency,
    )


def title_of(spec: PlanSpec) -> str:
    """A plan as people read it."""
    return spec.title or spec.name.replace("_", " ").replace("-", " ").capitalize()


def base_items(subscription: Subscription, price: Priced) -> list[InvoiceItem]:
    """The base price of the period that has started, in advance: a part of it, where the period is one. None where it costs nothing."""
    if subscription.period is None or price.amount == 0:
        return []
    cycle = price.cycle
    every = _WORDS[cycle.interval] if cycle.count == 1 else f"every {said(cycle.interval, cycle.count)}"
    return [
        _item(
            subscription, price, ItemKind.BASE, subscription.period, price.worth(subscription.period),
            # With the revision, as two changes may begin their periods in one second.
            identifier=f"base:{subscription.id}:{subscription.period[0] // 1000}:{subscription.revision}",
            description=f"{price.title} Plan ({every})", unit_price=price.amount,
        )
    ]  # fmt: skip


def unused_items(subscription: Subscription, price: Priced, left: Bounds) -> list[InvoiceItem]:
    """What was charged for `left` and will not be used, given back; nothing where nothing was charged."""
    amount = -price.worth(left) if subscription.paid else Decimal(0)
    return _changed(subscription, price, left, amount, "unused", "Unused time on")


def remaining_items(subscription: Subscription, price: Priced, left: Bounds) -> list[InvoiceItem]:
    """The price of what is left of a period."""
    return _changed(subscription, price, left, price.worth(left), "remaining", "Remaining time on")


def _changed(subscription: Subscription, price: Priced, left: Bounds, amount: Decimal, word: str, said_as: str) -> list[InvoiceItem]:
    if amount == 0:
        return []
    day = local_date(left[0], subscription.zone)
    return [
        _item(
            subscription, price, ItemKind.PRORATION, left, amount,
            identifier=f"proration:{subscription.id}:{subscription.revision}:{word}",
            description=f"{said_as} {price.title} Plan after {day:%Y-%m-%d}", unit_price=None,
        )
    ]  # fmt: skip


def _item(
    subscription: Subscription, price: Priced, kind: ItemKind, stretch: Bounds, amount: Decimal, *,
    identifier: str, description: str, unit_price: Decimal | None,
) -> InvoiceItem:  # fmt: skip
    return InvoiceItem(
        org_id=subscription.org_id, identifier=identifier, kind=kind, description=description, quantity=Decimal(1),
        unit_price=unit_price if unit_price == amount else None, amount=amount, currency=price.currency, period_start_ms=stretch[0],
        period_end_ms=stretch[1], evidence=_evidence(subscription, price, stretch),
    )  # fmt: skip


def _evidence(subscription: Subscription, price: Priced, stretch: Bounds) -> Mapping[str, Any]:
    """All that the amount is worked out from."""
    period = period_of(price.cycle, stretch[0])
    return {
        "subscription": subscription.id,
        "plan": price.plan,
        "version": price.version,
        "price": format(price.amount, "f"),
        "every": said(price.cycle.interval, price.cycle.count),
        "seconds": (stretch[1] - stretch[0]) // 1000,
        "period_seconds": (period[1] - period[0]) // 1000,
    }
