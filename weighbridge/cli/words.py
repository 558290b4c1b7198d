"""Money, days and figures as the command line prints them, and how an option's text becomes one."""

import datetime as dt
from decimal import Decimal, InvalidOperation

from billing.model.wording import wording
from metering.model.clock import isoformat, to_ms
from metering.model.errors import BadInput

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def money(amount: Decimal, currency: str) -> str:
    """$49.00"""
    return wording("en").money(amount, currency)


def short_money(amount: Decimal, currency: str) -> str:
    """$49 where there are no cents."""
    return money(amount, currency).removesuffix(".00")


def day(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d}"


def moment(at: dt.datetime) -> str:
    """2026-02-01T00:00:00Z"""
    return isoformat(to_ms(at))


def seconds(text: str) -> int:
    """ "30m" is 1800. Raises BadInput."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _SPANS else (text, "s")
    if not number.isdecimal():
        raise BadInput(f"{text!r} is no span of time; write 0, 90s, 30m, 12h or 1d")
    return int(number) * _SPANS[unit]


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


def day_after(text: str) -> dt.datetime:
    """The end of a day as it is typed: 2026-03-31 is until April. Raises BadInput."""
    return dt.datetime.combine(read_day(text), dt.time(), dt.UTC) + dt.timedelta(days=1)


def last_day(end: dt.datetime) -> str:
    """The last day before an end."""
    return day(end - dt.timedelta(milliseconds=1))
