"""The grammar of a ledger field: what is written can be read, and nothing else can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.ledger import FACT, RETURNED, Row, parse, row_field

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
MEASURES = NAMES | NAMES.map(lambda meter: RETURNED + meter) | st.sampled_from([FACT + word for word in ("1", "5", "ms", "in", "out")])
ROWS = st.builds(
    Row, minute=st.integers(0, 2**31), period_start=st.integers(0, 2**33), org_id=st.uuids().map(str), measure=MEASURES,
    route_id=st.integers(0, 2**32 - 1), method=st.sampled_from(["GET", "POST", "M-SEARCH"]), key_id=st.integers(0, 2**53),
    dimensions=st.sampled_from(["", '{"model":"a|b"}', '{"region":"eu"}']),
)  # fmt: skip


@given(ROWS)
def test_a_row_survives_its_field(row: Row) -> None:
    written = row_field(
        row.minute, row.period_start, row.org_id, row.measure, row.route_id, row.method, row.key_id, row.dimensions
    )  # fmt: skip
    assert parse(written) == row


def test_a_field_reads_as_its_grammar_says() -> None:
    assert row_field(29_453_760, 1_767_225_600, "o", "^api", 5, "GET", 9) == "29453760|1767225600|o|^api|5|GET|9|"


@pytest.mark.parametrize("text", ["", "!", "@e", "1|2|o|api|5|GET", "x|2|o|api|5|GET|9|", "1|2|o|api|5|GET|nine|", "1|2|o|api||GET|9|"])
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
