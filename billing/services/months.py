"""Close a month: once usage, lines, invoices, payments and refunds tie out, nothing dated in it changes any more.

What belongs to it and comes later is dated when it comes: late usage is a line of the next invoice, a mistake a credit note. The
database refuses the rest itself (its triggers ask for the months that are closed).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from billing.services.ports import Books
from billing.services.ports_invoice import Untied
from metering.model.clock import Clock, to_ms
from metering.model.errors import BadInput, Conflict
from metering.model.period import add_months

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class DoesNotTieOut(Conflict):
    """The month cannot be closed: something does not tie out."""

    code = "does_not_tie_out"


class MonthIsClosed(Conflict):
    """This month was closed before."""

    code = "month_is_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A month as it was closed: `figures` by currency."""

    month: str
    figures: Mapping[str, Any]


class Months:
    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock

    async def closed(self) -> list[str]:
        """In their order."""
        async with self._books.transaction() as unit:
            return await unit.months.closed()

    async def close(self, month: str, *, dry_run: bool = False) -> Closing:
        """2026-01. Months are closed in their order.

        Raises BadInput for what is no month that is over, MonthIsClosed, and DoesNotTieOut with all that does not.
        """
        from_ms, to_ms_ = bounds_of(month)
        now_ms = self._clock.now_ms()
        if now_ms < to_ms_:
            raise BadInput(f"{month} is not over yet: it can be closed from {month_after(month)}-01 on")
        async with self._books.transaction(keep=not dry_run) as unit:
            await unit.months.hold()
            closed, first = await unit.months.closed(), await unit.months.first()
            if closed and month <= closed[-1]:
                raise MonthIsClosed(f"{month} is closed: {closed[-1]} is the last month that was closed")
            before = month_after(closed[-1]) if closed else first
            if before is not None and before < month:
                raise Conflict(f"close {before} before {month}: months are closed in their order")
            untied = await unit.months.untied(from_ms, to_ms_)
            if untied:
                raise DoesNotTieOut(_told(month, untied), untied=[f"{each.where}: {each.what}" for each in untied])
            figures = await unit.months.figures(from_ms, to_ms_)
            await unit.months.close(month, now_ms, figures)
        return Closing(month=month, figures=figures)


def bounds_of(month: str) -> tuple[int, int]:
    """[start, end) of a calendar month, UTC. Raises BadInput."""
    found = _MONTH.fullmatch(month)
    if not found:
        raise BadInput(f"{month!r} is no month; write 2026-01")
    start = datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)
    return to_ms(start), to_ms(add_months(start, 1))


def month_after(month: str) -> str:
    return f"{add_months(datetime.fromisoformat(f'{month}-01').replace(tzinfo=UTC), 1):%Y-%m}"


def _told(month: str, untied: list[Untied]) -> str:
    rows = "\n".join(f"  {each.where}: {each.what}" for each in untied)
    return f"{month} cannot be closed, {len(untied)} {'things do' if len(untied) > 1 else 'thing does'} not tie out:\n{rows}"
