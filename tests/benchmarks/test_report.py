"""The arithmetic of the report: medians, paired ratios, goals, rows that could not run, counts that must add up."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import figures
from tests.benchmarks.bench import CannotRun, Cores
from tests.benchmarks.figures import Figure
from tests.benchmarks.load import Seen, run
from tests.benchmarks.profile import stacks
from tests.benchmarks.report import Block, Count, Row, answered, put_into_page, quiet, ratio, runs, table

SEEN = Seen(requests=1000, seconds=1.0, refused=0, broken=0, p50_us=1000, p99_us=2000)


def row(name: str, *per_second: int, absent: str = "") -> Row:
    return Row(name, f"proxy {name}", [replace(SEEN, requests=n) for n in per_second], absent)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A machine that slows down for a round slows both; the ratio of medians would call that a difference."""
    assert ratio(row("a", 100, 20, 90), row("b", 200, 40, 90)) == 0.5


def test_a_machine_with_other_work_on_the_proxys_core_is_not_quiet() -> None:
    """There the ratio of two proxies is made by the scheduler."""
    with_others = replace(SEEN, proxy_core=1.0, proxy_share=0.5)
    alone = replace(SEEN, proxy_core=1.0, proxy_share=0.97)
    assert not quiet([Block("x", "x", [Row("a", "a", [with_others, with_others, alone])])])
    assert quiet([Block("x", "x", [Row("a", "a", [with_others, alone, alone])])])


def test_a_row_that_could_not_run_says_why() -> None:
    text = table([Block("calls", "calls", [row("a", 1000), row("b", absent="there is no Lua")])], "b")
    assert "| proxy a | 1,000 | – | – |" in text
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
    blocks = [Block("x", "x", [measured, row("b", 5)]), Block("y", "y", [row("a", 7)])]
    assert (answered(blocks, "a"), runs(blocks, "a")) == (4007, 4)


def test_load_goes_to_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="loopback only"):
        run("http://192.0.2.1:80", tmp_path, 1)


@pytest.mark.parametrize(
    ("name", "rounds", "verdict", "lost"),
    [
        ("calls-1", [0.5, 0.7, 1.2], "met", 1),
        ("calls-1", [1.0, 1.1, 0.9], "met, and the aim", 0),
        ("calls-1", [0.5, 0.59, 1.2], "**missed**", 2),
        ("p99-1", [1.0, 1.3, 2.5], "met", 1),
        ("p99-1", [3.0], "**missed**", 1),
    ],
)
def test_a_figure_is_judged_by_the_median_of_its_rounds(name: str, rounds: list[float], verdict: str, lost: int) -> None:
    figure = Figure(name, rounds)
    assert (figure.verdict, figure.lost) == (verdict, lost)


def test_rounds_that_lose_are_shown() -> None:
    assert Figure("calls-1", [0.5, 0.7]).row().endswith("| **0.50** 0.70 |")


def test_a_goal_without_a_figure_is_in_the_table_with_its_reason() -> None:
    lines = figures.table([Figure("echo", absent="it does not upgrade")]).splitlines()
    assert len(lines) == 2 + len(figures.GOALS)
    assert any("WebSocket" in line and "not measured: it does not upgrade" in line for line in lines)


def test_only_what_stands_between_the_markers_of_the_page_is_replaced() -> None:
    page = "# Before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n"
    assert put_into_page(page, "new") == "# Before\n<!-- figures -->\n\nnew\n\n<!-- /figures -->\nafter\n"
    with pytest.raises(ValueError, match="has no"):
        put_into_page("# Before\n", "new")


def test_a_function_that_calls_itself_is_under_way_once() -> None:
    total, own, below = stacks("a (/x/gateway/m.py:1);b (/x/gateway/m.py:2);b (/x/gateway/m.py:3) 4\na (/x/gateway/m.py:1) 6\n")
    assert total == 10
    assert own == {"b (gateway/m.py)": 4, "a (gateway/m.py)": 6}
    assert below == {"a (gateway/m.py)": 10, "b (gateway/m.py)": 4}


def test_a_core_is_never_more_at_work_than_all_the_time() -> None:
    cores = Cores()
    assert 0.0 <= cores.share(frozenset({0})) <= 1.0
