"""Lists that grow are given a page at a time. A cursor is the place of a page's last row in the list's order: what comes or goes meanwhile
shifts nothing.

`place(row)` are the values that order the list, unique together: `(row.created_at_ms, row.id)`. A use case takes limit + 1 rows behind the
place that `read_cursor` gives; `page` keeps `limit` of them and says where the next page begins.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import Field

from billing.operations.operation import Model
from billing.operations.text import storable
from metering.model.errors import BadInput

LARGEST_PAGE = 200
_LONGEST = 500
_LARGEST_NUMBER = 2**63

R = TypeVar("R")
Place = tuple[int | str, ...]


class BadCursor(BadInput):
    """`after` is not what an earlier page of this list gave as `next`."""

    code = "bad_cursor"


class AskPage(Model):
    """A question for a page. `after` is the `next` of the page before."""

    limit: int = Field(50, ge=1, le=LARGEST_PAGE, description="at most so many rows")
    after: str | None = Field(None, max_length=_LONGEST, description="the `next` of the page before; none: from the beginning")


class Page(Model):
    """An answer that is a page."""

    next: str | None = Field(None, description="`after` of the next page; null: this is the last")


def page(found: Sequence[R], ask: AskPage, place: Callable[[R], Place]) -> tuple[Sequence[R], str | None]:
    """(the rows of this page, `next`) of what was found: up to limit + 1 rows, in the list's order."""
    if len(found) <= ask.limit:
        return found, None
    rows = found[: ask.limit]
    return rows, cursor(place(rows[-1]))


def cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":"), ensure_ascii=False).encode()).rstrip(b"=").decode()


def read_cursor(text: str | None, *kinds: type[int] | type[str]) -> Place | None:
    """The place, of values of these kinds; None: from the beginning. Raises BadCursor."""
    if text is None:
        return None
    try:
        place = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):  # also not ASCII, not UTF-8, not JSON
        raise BadCursor from None
    if not isinstance(place, list) or [type(value) for value in place] != list(kinds) or not all(map(_storable, place)):
        raise BadCursor
    return tuple(place)


def _storable(value: int | str) -> bool:
    """PostgreSQL takes it: a bigint, or text without NUL and lone surrogates."""
    if isinstance(value, int):
        return -_LARGEST_NUMBER <= value < _LARGEST_NUMBER
    return storable(value)
