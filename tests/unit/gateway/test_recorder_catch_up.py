"""A journal that lost its tail with the host's power: the store remembers batches that the file does not."""

from pathlib import Path

from gateway.recorder import Recorder
from gateway.tally import Template

TEMPLATE = Template(1, "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11", 7, 1, 1, "GET", 0, (("api", 1),), {"api": (("counter", 1),)})


def test_numbers_that_the_store_has_taken_are_not_used_again(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w", lambda: 0)
    recorder.catch_up(7, 12)
    assert recorder.cut(7).seq == 13


def test_a_store_that_is_behind_changes_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w", lambda: 0)
    recorder.cut(7)
    recorder.cut(7)
    recorder.catch_up(7, 1)
    assert recorder.cut(7).seq == 3


def test_what_was_not_cut_before_the_lost_tail_is_in_what_the_store_took(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w", lambda: 0)
    recorder.granted(TEMPLATE, 1, 1, 3)
    recorder.close_open()
    recorder.catch_up(7, 2)
    assert recorder.dirty_buckets() == []
    assert recorder.cut(7).sums.ledger == {}
