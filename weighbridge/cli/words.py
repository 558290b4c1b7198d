"""Money, days and figures as the command line prints them, and how an option's text becomes one."""

import datetime as dt
from decimal import Decimal, InvalidOperation

from billing.model.wording import wording
from metering.model.errors import BadInput


def money(amount: Decimal, currency: str) -> str:
    """$49.00"""
    return wording("en").money(amount, currency)


def short_money(amount: Decimal, currency: str) -> str:
    """$49 where there are no cents."""
    return money(amount, currency).removesuffix(".00")


def day(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d}"


def read_day(text: str) -> dt.date:
    """Raises BadInput."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no day; write it as 2026-02-01") from None


def read_amount(text: str) -> Decimal:
    """Raises BadInput."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise BadInput(f"{text!r} is no amount; write it as 299.00")
    return found
