"""Instants in answers: aware, in UTC. And where a page of a list begins that is in the order of numbers."""

from datetime import UTC, datetime

from billing.operations.pages import AskPage, read_cursor
from metering.model.clock import to_ms

_LAST_MS = 253_370_764_800_000


def instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def given_ms(at: datetime) -> int:
    """An instant that was said to us: from 1970 to 9998, so that no time zone leads out of the calendar."""
    return min(max(to_ms(at), 0), _LAST_MS)


def instant_or_none(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else instant(at_ms)


def number_before(ask: AskPage) -> int | None:
    """Of a list that is newest first: the number that the page before ended with. Raises BadCursor."""
    place = read_cursor(ask.after, int)
    return None if place is None else int(place[0])
