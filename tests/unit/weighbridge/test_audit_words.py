"""How the audit log is asked for and printed."""

from decimal import Decimal

import pytest

from metering.model.errors import BadInput
from weighbridge.cli.audit import begin_ms, change
from weighbridge.cli.output import printable, table

NOW = 1_770_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW - 3_600_000), ("7d", NOW - 7 * 86_400_000), ("99999d", 0), ("1066-10-14", 0), ("2026-01-31", 1_769_817_600_000),
        ("2026-01-31T00:00Z", 1_769_817_600_000), ("2026-01-31T01:00", 1_769_821_200_000), ("2026-01-31T01:00+01:00", 1_769_817_600_000),
    ],
)  # fmt: skip
def test_a_beginning_is_a_span_a_date_or_an_instant(text: str, expected: int) -> None:
    assert begin_ms(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "-1d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no time"):
        begin_ms(text, NOW)


def test_a_change_says_from_what_to_what() -> None:
    assert change({"limit": 1, "mode": "hard"}, {"limit": 2, "mode": "soft"}) == "limit 1 → 2, mode hard → soft"
    assert change({"amount": Decimal("49.10")}, {"amount": Decimal("59.00")}) == "amount 49.10 → 59.00"
    assert change(None, {"meter": "api", "until": None, "terms": {}}) == "meter api"
    assert change({"x": "y" * 90}, None) == "x " + "y" * 59 + "…"


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2Jb", "a\rb", "a\x9bb", "a\u202eb", "a\u2028b"])
def test_a_name_draws_no_line_and_moves_no_cursor(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("Ärger & Söhne →") == "Ärger & Söhne →"
    assert table([["x"]], ["name"]) == ["name", "x"]
