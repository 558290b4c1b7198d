"""Windows and billing periods: half-open [start, end), UTC, whole seconds, as milliseconds since the epoch.

A period is always computed from the original anchor, never from the period before it: anchored on 31 January,
periods start 31 January, 28 (29) February, 31 March, 30 April.
"""

import calendar
from datetime import UTC, datetime, timedelta

from .clock import to_datetime, to_ms
from .quota import Window

_MOST_KNOWN = 4_096

Bounds = tuple[int, int]  # (start_ms, end_ms)


def add_months(anchor: datetime, months: int) -> datetime:
    """`anchor` moved by whole months; a day the month lacks becomes its last day."""
    index = anchor.year * 12 + anchor.month - 1 + months
    year, month = divmod(index, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return anchor.replace(year=year, month=month + 1, day=day)


_latest: dict[int, Bounds] = {}  # anchor -> the period that was asked for last; it is asked for again and again


def period_at(anchor_ms: int, now_ms: int) -> Bounds:
    """The monthly period, counted from the anchor, that holds `now_ms`; also before the anchor."""
    known = _latest.get(anchor_ms)
    if known is not None and known[0] <= now_ms < known[1]:
        return known
    if len(_latest) >= _MOST_KNOWN:
        _latest.clear()
    found = _latest[anchor_ms] = _period_at(anchor_ms, now_ms)
    return found


def _period_at(anchor_ms: int, now_ms: int) -> Bounds:
    anchor, now = to_datetime(anchor_ms), to_datetime(now_ms)
    months = (now.year - anchor.year) * 12 + now.month - anchor.month
    if add_months(anchor, months) > now:
        months -= 1
    return to_ms(add_months(anchor, months)), to_ms(add_months(anchor, months + 1))


def window_at(window: Window, anchor_ms: int, now_ms: int) -> Bounds:
    """The bounds of the window of this kind that holds `now_ms`."""
    if window is Window.PERIOD:
        return period_at(anchor_ms, now_ms)
    now = to_datetime(now_ms)
    if window is Window.HOUR:
        start = now.replace(minute=0, second=0, microsecond=0)
        return to_ms(start), to_ms(start + timedelta(hours=1))
    if window is Window.DAY:
        start = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return to_ms(start), to_ms(start + timedelta(days=1))
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    return to_ms(start), to_ms(add_months(start, 1))
