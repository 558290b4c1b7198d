"""The arithmetic of the report: medians, paired ratios, rows that could not run, counts that must add up."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.bench import CannotRun
from tests.benchmarks.load import Seen, run
from tests.benchmarks.report import Count, Row, answered, ratio, runs, table

SEEN = Seen(requests=1000, seconds=1.0, refused=0, broken=0, p50_us=1000, p99_us=2000)


def row(name: str, *per_second: int, absent: str = "") -> Row:
    return Row(name, f"proxy {name}", 1, [replace(SEEN, requests=n) for n in per_second], absent)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A machine that slows down for a round slows both; the ratio of medians would call that a difference."""
    assert ratio(row("a", 100, 20, 90), row("b", 200, 40, 90)) == 0.5


def test_a_row_that_could_not_run_says_why() -> None:
    text = table([row("a", 1000), row("b", absent="there is no Lua")], "b")
    assert "| proxy a | 1,000 | – | 1.00 | 2.00 | – | 0 |" in text
    assert "| proxy b | not run: there is no Lua |" in text


@pytest.mark.parametrize(("counted", "holds"), [(1000, True), (1064, True), (1065, False), (999, False)])
def test_every_answer_was_counted_and_no_more_than_was_under_way(counted: int, *, holds: bool) -> None:
    assert Count(counted, answered=1000, runs=2).holds is holds


def test_a_refused_call_is_no_call_that_passed() -> None:
    seen = replace(SEEN, refused=400, broken=5)
    assert (seen.per_second, seen.failed) == (600.0, 405)


def test_warm_up_calls_are_answered_calls_too() -> None:
    measured = row("a", 1000, 2000)
    measured.warm_up = SEEN
    assert (answered([measured, row("b", 5)], "a"), runs([measured], "a")) == (4000, 3)


def test_load_goes_to_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="loopback only"):
        run("http://192.0.2.1:80", tmp_path, 1)
