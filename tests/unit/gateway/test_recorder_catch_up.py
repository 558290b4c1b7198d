"""A journal that lost its tail with the host's power: the store remembers batches that the file does not."""

from pathlib import Path

from gateway.recorder import Recorder


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
