"""How far a long command is."""

import io

import pytest

from weighbridge.cli.progress import Progress, bar

BARS = [(0, 4, 0), (1, 4, 7), (2, 4, 14), (3, 4, 21), (0, 1, 0), (999, 1000, 27)]


@pytest.mark.parametrize(("done", "total", "full"), BARS)
def test_a_bar_is_28_wide_and_has_a_head_until_all_is_done(done: int, total: int, full: int) -> None:
    drawn = bar(done, total)
    assert (len(drawn), drawn[: full + 2], set(drawn[full + 2 : -1]) <= {"."}) == (30, f"[{'=' * full}>", True)


def test_what_is_done_or_was_nothing_is_full() -> None:
    assert {bar(4, 4), bar(5, 4), bar(0, 0)} == {f"[{'=' * 28}]"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_it_and_is_left_clean_and_a_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with Progress("invoices", 3) as progress:
            progress.advance()
        said = stream.getvalue()
        assert ("1 of 3 invoices" in said, said.endswith("\r\033[K")) == (drawn, drawn)
