"""What triggers of the migrations refuse, as errors of ours: a month that is closed, and what is final."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from metering.model.errors import Conflict


class MonthClosed(Conflict):
    """The month is closed: nothing dated in it changes any more."""

    code = "month_closed"


class Final(Conflict):
    """What is final stays as it is."""

    code = "invoice_final"


_KINDS: dict[str, type[Conflict]] = {"WB001": MonthClosed, "WB002": Final}


@contextmanager
def refusals() -> Iterator[None]:
    """Raises MonthClosed or Final for what a trigger refused; the transaction is over then."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        kind = _KINDS.get(exc.sqlstate or "")
        if kind is None:
            raise
        hint = getattr(exc, "hint", None)
        raise kind(f"{exc.args[0]}. {hint}" if hint else str(exc.args[0])) from exc
