"""A question for rows of a few named tables: which, in what order, how many. What is not listed here cannot be asked for.

Pure. billing/store/row_reads.py says it in SQL; `holds` says the same of rows that are at hand.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metering.model.errors import BadInput

DEFAULT_LIMIT, MOST_ROWS = 100, 1_000


class Kind(StrEnum):
    """What a column holds, as PostgreSQL calls it."""

    UUID = "uuid"
    TEXT = "text"
    INTEGER = "integer"
    BIGINT = "bigint"
    NUMERIC = "numeric"
    FLOAT = "float8"
    BOOLEAN = "boolean"
    INSTANT = "timestamptz"
    DATE = "date"


SUMMED = (Kind.INTEGER, Kind.BIGINT, Kind.NUMERIC)
COMPARED = (*SUMMED, Kind.FLOAT, Kind.INSTANT, Kind.DATE, Kind.TEXT)  # have a least and a greatest

# The current usage is no rows: it is what the usage report says (billing/services/usage.py).
CURRENT: Mapping[str, Kind] = {
    "org_id": Kind.UUID, "service": Kind.TEXT, "current_usage": Kind.FLOAT, "quota": Kind.FLOAT, "percentage_used": Kind.FLOAT,
    "status": Kind.TEXT, "updated_at": Kind.INSTANT,
}  # fmt: skip

# Every table here is held by row-level security, and has org_id.
TABLES: Mapping[str, Mapping[str, Kind]] = {
    "customers": {
        "id": Kind.UUID, "org_id": Kind.UUID, "email": Kind.TEXT, "name": Kind.TEXT, "currency": Kind.TEXT, "country": Kind.TEXT,
        "created_at": Kind.INSTANT,
    },
    "subscriptions": {
        "id": Kind.UUID, "org_id": Kind.UUID, "plan": Kind.TEXT, "plan_version": Kind.INTEGER, "status": Kind.TEXT,
        "billing_interval": Kind.TEXT, "interval_count": Kind.INTEGER, "currency": Kind.TEXT, "amount": Kind.NUMERIC,
        "period_start": Kind.INSTANT, "period_end": Kind.INSTANT, "trial_start": Kind.INSTANT, "trial_end": Kind.INSTANT,
        "created_at": Kind.INSTANT, "canceled_at": Kind.INSTANT, "ended_at": Kind.INSTANT,
    },
    "usage_events": {
        "id": Kind.BIGINT, "org_id": Kind.UUID, "timestamp": Kind.INSTANT, "service": Kind.TEXT, "quantity": Kind.BIGINT,
        "method": Kind.TEXT, "recorded_at": Kind.INSTANT,
    },
    "usage_daily": {
        "date": Kind.DATE, "org_id": Kind.UUID, "service": Kind.TEXT, "total_quantity": Kind.BIGINT, "event_count": Kind.BIGINT,
    },
    "invoices": {
        "id": Kind.TEXT, "org_id": Kind.UUID, "number": Kind.TEXT, "status": Kind.TEXT, "currency": Kind.TEXT, "subtotal": Kind.NUMERIC,
        "discount": Kind.NUMERIC, "tax": Kind.NUMERIC, "total": Kind.NUMERIC, "credit": Kind.NUMERIC, "amount_due": Kind.NUMERIC,
        "amount_paid": Kind.NUMERIC, "period_start": Kind.INSTANT, "period_end": Kind.INSTANT, "created_at": Kind.INSTANT,
        "finalized_at": Kind.INSTANT, "due_at": Kind.INSTANT, "paid_at": Kind.INSTANT,
    },
}  # fmt: skip


class Compare(StrEnum):
    EQUAL = "_eq"
    OTHER = "_neq"
    GREATER = "_gt"
    AT_LEAST = "_gte"
    LESS = "_lt"
    AT_MOST = "_lte"
    ONE_OF = "_in"
    NONE_OF = "_nin"
    IS_NULL = "_is_null"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of one column."""

    column: str
    compare: Compare
    value: Any


@dataclass(frozen=True, slots=True)
class Every:
    """All of them; none: true."""

    parts: tuple["Condition", ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """One of them; none: false."""

    parts: tuple["Condition", ...] = ()


@dataclass(frozen=True, slots=True)
class Never:
    """Not this."""

    part: "Condition"


Condition = Check | Every | Some | Never
TRUE = Every()


class Direction(StrEnum):
    """The order, and where what is null stands in it."""

    ASC = "asc"
    ASC_NULLS_FIRST = "asc_nulls_first"
    ASC_NULLS_LAST = "asc_nulls_last"
    DESC = "desc"
    DESC_NULLS_FIRST = "desc_nulls_first"
    DESC_NULLS_LAST = "desc_nulls_last"

    @property
    def descends(self) -> bool:
        return self.value.startswith("desc")

    @property
    def nulls_first(self) -> bool:
        """As PostgreSQL: null is greater than everything, unless it is said where it stands."""
        return self.value.endswith("first") or self.value == "desc"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Raises BadInput for a table, a column or a number of rows that cannot be asked for."""

    table: str
    where: Condition = TRUE
    order: tuple[tuple[str, Direction], ...] = ()
    limit: int | None = DEFAULT_LIMIT  # None: an aggregate of all of them
    offset: int = 0

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise BadInput(f"there is no table {self.table!r} to ask for")
        columns = TABLES[self.table]
        for name in (*columns_of(self.where), *(name for name, _ in self.order)):
            if name not in columns:
                raise BadInput(f"{self.table} has no column {name!r} to ask for")
        check_bounds(self.limit, self.offset)


def check_bounds(limit: int | None, offset: int) -> None:
    """Raises BadInput."""
    if limit is not None and not 0 <= limit <= MOST_ROWS:
        raise BadInput(f"limit is from 0 to {MOST_ROWS:,}")
    if not 0 <= offset < 2**31:
        raise BadInput("offset is 0 or more")


def columns_of(condition: Condition) -> Sequence[str]:
    if isinstance(condition, Check):
        return (condition.column,)
    parts = (condition.part,) if isinstance(condition, Never) else condition.parts
    return [name for part in parts for name in columns_of(part)]


_COMPARES: Mapping[Compare, Callable[[Any, Any], bool]] = {
    Compare.EQUAL: operator.eq,
    Compare.OTHER: operator.ne,
    Compare.GREATER: operator.gt,
    Compare.AT_LEAST: operator.ge,
    Compare.LESS: operator.lt,
    Compare.AT_MOST: operator.le,
    Compare.ONE_OF: lambda value, those: value in those,
    Compare.NONE_OF: lambda value, those: value not in those,
}


def holds(condition: Condition, row: Mapping[str, Any]) -> bool | None:
    """Of this row: true, false, or unknown (None) where it hangs on a null, as in SQL."""
    if isinstance(condition, Check):
        value = row[condition.column]
        if condition.compare is Compare.IS_NULL:
            return (value is None) is condition.value
        return None if value is None else _COMPARES[condition.compare](value, condition.value)
    if isinstance(condition, Never):
        held = holds(condition.part, row)
        return None if held is None else not held
    found = [holds(part, row) for part in condition.parts]
    decided = isinstance(condition, Some)
    if decided in found:
        return decided
    return None if None in found else not decided


def arranged(
    rows: Sequence[Mapping[str, Any]], where: Condition, order: Sequence[tuple[str, Direction]], limit: int, offset: int
) -> list[Mapping[str, Any]]:
    """Those of `rows` that are asked for, in that order."""
    found = [row for row in rows if holds(where, row)]
    for name, direction in reversed(order):
        nulls = [row for row in found if row[name] is None]
        known = sorted((row for row in found if row[name] is not None), key=operator.itemgetter(name), reverse=direction.descends)
        found = nulls + known if direction.nulls_first else known + nulls
    return found[offset : offset + limit]


def equal_to(condition: Condition, column: str) -> Any | None:
    """The value that `column` must have wherever the condition holds, where one is named."""
    if isinstance(condition, Check):
        return condition.value if (condition.column, condition.compare) == (column, Compare.EQUAL) else None
    if isinstance(condition, Every):
        return next((value for part in condition.parts if (value := equal_to(part, column)) is not None), None)
    return None
