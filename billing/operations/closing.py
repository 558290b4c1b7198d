"""Months that are closed: nothing dated in them changes any more."""

from typing import Any

from pydantic import Field

from billing.model.token import Scope
from billing.operations.operation import About, Call, Model, Nothing, operation
from billing.services.months import DoesNotTieOut, MonthIsClosed
from metering.model.errors import Conflict


class MonthsAnswer(Model):
    closed: tuple[str, ...]


class AskMonth(Model):
    month: str = Field(description="2026-01; months are closed in their order")
    dry_run: bool = Field(False, description="look whether it ties out, and close nothing")


class ClosingAnswer(Model):
    """`figures` by currency."""

    month: str
    dry_run: bool
    figures: dict[str, dict[str, Any]]


@operation("GET", "/months", name="close.list", about=About.ALL)
async def closed(call: Call, ask: Nothing) -> MonthsAnswer:
    """Those that are closed, in their order."""
    return MonthsAnswer(closed=tuple(await call.billing.months.closed()))


@operation(
    "POST", "/months/{month}/close", name="close.month", need=Scope.BILLING, about=About.ALL,
    errors=(DoesNotTieOut, MonthIsClosed, Conflict),
)  # fmt: skip
async def close(call: Call, ask: AskMonth) -> ClosingAnswer:
    """Freeze a month, once usage, lines, invoices, payments and refunds tie out."""
    done = await call.billing.months.close(ask.month, dry_run=ask.dry_run)
    return ClosingAnswer(month=done.month, dry_run=ask.dry_run, figures={currency: dict(each) for currency, each in done.figures.items()})


OPERATIONS = (closed, close)
