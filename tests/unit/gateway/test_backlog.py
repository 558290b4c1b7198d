"""A journal read in small steps gives the batches that were cut in it, while it is written and trimmed."""

from pathlib import Path
from typing import Any

import pytest

from gateway.backlog import Backlog
from gateway.recorder import Recorder, records
from gateway.tally import Batch, Template, replay
from metering.model.clock import FrozenClock

W = "w0-aa"


def template(bucket: int) -> Template:
    return Template(bucket, f"org-{bucket}", bucket, 9, 5, "GET", 0, (("api", 1),), {"api": ((f"q:{bucket}", 9_000),)})


TEMPLATES = [template(bucket) for bucket in (7, 8)]


def work(of: Recorder, turns: int, first: int = 0) -> None:
    """Calls that begin and end, some of them later; a cut every third turn."""
    for turn in range(first, first + turns):
        xid = of.granted(TEMPLATES[turn % 2], 1, turn + 1, 2)
        of.ended(xid, TEMPLATES[turn % 2], "", 200, 5, 0, turn, {})
        of.flush()
        if turn % 3 == 2:
            of.cut(TEMPLATES[turn % 2].bucket)
            of.flush()


def read(backlog: Backlog, most: int) -> list[Batch]:
    found: list[Batch] = []
    while not backlog.ended:
        found += backlog.step(most)
    return found


def told(batches: list[Batch]) -> list[Any]:
    return [(batch.bucket, batch.seq, batch.sums) for batch in batches]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, W, FrozenClock(1_740_000_000_000).now_ms)


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_in_steps_of_any_size_it_is_what_it_is_at_once(recorder: Recorder, tmp_path: Path, most: int) -> None:
    work(recorder, 12)
    recorder.rotate()
    work(recorder, 12, first=12)
    assert told(read(Backlog(tmp_path, W), most)) == told(replay(records(tmp_path, W))[1])


def test_what_is_written_meanwhile_is_read_as_well(recorder: Recorder, tmp_path: Path) -> None:
    work(recorder, 9)
    backlog = Backlog(tmp_path, W)
    found = backlog.step(5)
    work(recorder, 9, first=9)
    found += backlog.step(20)
    recorder.rotate()
    work(recorder, 9, first=18)
    found += read(backlog, 5)
    assert told(found) == told(replay(records(tmp_path, W))[1])


def test_what_is_trimmed_meanwhile_takes_nothing_from_what_comes_behind_it(recorder: Recorder, tmp_path: Path) -> None:
    work(recorder, 10)  # one turn is not cut
    recorder.rotate()
    work(recorder, 6, first=10)
    recorder.rotate()
    work(recorder, 12, first=16)
    whole = replay(records(tmp_path, W))[1]
    committed = {bucket: max(seq for b, seq in recorder._retained[1][1].items() if b == bucket) for bucket in (7, 8)}
    backlog = Backlog(tmp_path, W)
    backlog.step(8)
    recorder.trim(committed)
    assert recorder.retained_segments == 0
    found = [batch for batch in read(backlog, 3) if batch.seq > committed[batch.bucket]]
    assert told(found) == told([batch for batch in whole if batch.seq > committed[batch.bucket]])
    assert found


def test_a_journal_that_is_gone_has_nothing(tmp_path: Path) -> None:
    assert read(Backlog(tmp_path, W), 10) == []
