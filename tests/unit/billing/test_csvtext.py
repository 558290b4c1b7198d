"""No cell of an export is run by the spreadsheet that opens it, and every value is read back as it was written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.csvtext import cell, line

RUN = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "%0A", "|calc", '=HYPERLINK("http://x")', "--", "+", "-"]


@pytest.mark.parametrize("text", RUN)
def test_what_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("value", [1, -1, "-12.50", "+3", "acme", "a=b", "", "2026-01-31T12:00:00Z", "{}"])
def test_numbers_and_plain_words_stay(value: object) -> None:
    assert cell(value) == str(value)


def test_nothing_is_empty() -> None:
    assert line([None, "a", 'say "hi", twice']) == ',a,"say ""hi"", twice"'


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2))
def test_what_was_written_is_read_back(values: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(line(values), newline=""), strict=True)
    assert read == [cell(value) for value in values]
