"""Questions for rows: what holds of a row, in SQL's three values; order and nulls; what cannot be asked for."""

from typing import Any

import pytest

from billing.model.rowquery import (
    TABLES,
    TRUE,
    Check,
    Compare,
    Condition,
    Direction,
    Every,
    Never,
    RowQuery,
    Some,
    arranged,
    equal_to,
    holds,
)
from metering.model.errors import BadInput

ROW = {"a": 5, "none": None}
IS, UNKNOWN = Check("a", Compare.EQUAL, 5), Check("none", Compare.EQUAL, 5)
ISNT = Never(IS)

TRUTHS: list[tuple[Condition, bool | None]] = [
    (IS, True), (ISNT, False), (UNKNOWN, None), (Never(UNKNOWN), None), (TRUE, True), (Some(), False),
    (Every((IS, UNKNOWN)), None), (Every((ISNT, UNKNOWN)), False), (Some((IS, UNKNOWN)), True), (Some((ISNT, UNKNOWN)), None),
    (Check("a", Compare.OTHER, 5), False), (Check("a", Compare.GREATER, 4), True), (Check("a", Compare.AT_LEAST, 5), True),
    (Check("a", Compare.LESS, 5), False), (Check("a", Compare.AT_MOST, 5), True), (Check("a", Compare.ONE_OF, [1, 5]), True),
    (Check("a", Compare.NONE_OF, [1, 5]), False), (Check("none", Compare.NONE_OF, [1]), None),
    (Check("none", Compare.IS_NULL, True), True), (Check("a", Compare.IS_NULL, True), False), (Check("a", Compare.IS_NULL, False), True),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "truth"), TRUTHS)
def test_what_hangs_on_a_null_is_unknown_and_else_true_or_false(condition: Condition, truth: bool | None) -> None:
    assert holds(condition, ROW) is truth


ORDERS = [
    (Direction.ASC, [1, 2, None]), (Direction.ASC_NULLS_FIRST, [None, 1, 2]), (Direction.ASC_NULLS_LAST, [1, 2, None]),
    (Direction.DESC, [None, 2, 1]), (Direction.DESC_NULLS_FIRST, [None, 2, 1]), (Direction.DESC_NULLS_LAST, [2, 1, None]),
]  # fmt: skip


@pytest.mark.parametrize(("direction", "order"), ORDERS)
def test_nulls_stand_where_postgresql_puts_them(direction: Direction, order: list[int | None]) -> None:
    rows: list[dict[str, Any]] = [{"a": 2}, {"a": None}, {"a": 1}]
    assert [row["a"] for row in arranged(rows, TRUE, [("a", direction)], 10, 0)] == order
    assert [row["a"] for row in arranged(rows, TRUE, [("a", direction)], 1, 1)] == order[1:2]


def test_the_organization_is_found_only_where_every_row_must_be_its_own() -> None:
    named = Check("org_id", Compare.EQUAL, "o")
    assert equal_to(Every((IS, Every((named,)))), "org_id") == "o"
    assert [equal_to(each, "org_id") for each in (Some((named, IS)), Never(named), Check("org_id", Compare.OTHER, "o"), TRUE)] == [None] * 4


@pytest.mark.parametrize("words", [
    {"table": "api_keys"}, {"table": "customers", "where": Check("sha256", Compare.EQUAL, "")}, {"table": "customers", "limit": 1_001},
    {"table": "customers", "order": (('id"; DROP TABLE x', Direction.ASC),)}, {"table": "customers", "limit": -1},
    {"table": "customers", "offset": -1}, {"table": "customers", "where": Never(Some((Check("x", Compare.EQUAL, 1),)))},
])  # fmt: skip
def test_what_is_not_listed_cannot_be_asked_for(words: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        RowQuery(**words)


def test_every_table_that_is_listed_says_whose_its_rows_are() -> None:
    assert all("org_id" in columns for columns in TABLES.values())
