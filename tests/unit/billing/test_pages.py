"""Pages and their cursors."""

import base64
import json

import pytest

from billing.operations.pages import AskPage, BadCursor, cursor, page, read_cursor

ROWS = [(at, f"row {at}") for at in range(7)]


def of(limit: int, after: str | None) -> tuple[list[tuple[int, str]], str | None]:
    """What a store does: limit + 1 rows behind the place."""
    ask = AskPage(limit=limit, after=after)
    place = read_cursor(ask.after, int, str)
    found = [row for row in ROWS if place is None or row > place][: limit + 1]
    rows, following = page(found, ask, lambda row: row)
    return list(rows), following


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 200])
def test_pages_give_every_row_once_in_order_and_the_last_says_so(limit: int) -> None:
    seen, after, pages = [], None, 0
    while True:
        rows, after = of(limit, after)
        seen += rows
        pages += 1
        if after is None:
            break
    assert (seen, pages) == (ROWS, -(-len(ROWS) // limit))


@pytest.mark.parametrize("place", [(1, "a"), (0, ""), (-(2**63), "über ✓ \u2028"), (2**63 - 1, 'a"\\b')])
def test_a_cursor_carries_its_place_through_an_address(place: tuple[int, str]) -> None:
    text = cursor(place)
    assert read_cursor(text, int, str) == place
    assert all(c.isalnum() or c in "-_" for c in text)


def coded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "text",
    ["", "x", "ä", "AAAA", "====", "[1]", coded(1), coded([1]), coded(["a", 1]), coded([1, "a", 2]), coded([True, "a"]), coded([1.0, "a"]),
     coded([2**63, "a"]), coded([1, "a\0"]), coded([1, "\ud800"]), coded({"a": 1}), coded(None), "[" * 400, "W1tb" * 100],
)  # fmt: skip
def test_what_no_page_gave_is_refused(text: str) -> None:
    with pytest.raises(BadCursor, match="earlier page"):
        read_cursor(text, int, str)


def test_no_cursor_is_the_beginning() -> None:
    assert read_cursor(None, int, str) is None
