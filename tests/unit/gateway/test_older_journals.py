"""A journal that an older build wrote means today what it meant then: an update finds the journals of the workers before it.

data/journal_of_an_older_build.json: three segments as commit 7aa0f23 wrote them, whose endings have a record each, and what that
build made of them: the batches that were cut, then what is in flight given back and cut.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.recorder import Recorder, records
from gateway.tally import Batch, replay
from metering.model.clock import FrozenClock

OLDER = json.loads((Path(__file__).parent / "data" / "journal_of_an_older_build.json").read_text())
WORKER: str = OLDER["worker"]
EPOCH = 2  # the later of the two that it speaks of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, content in OLDER["segments"].items():
        (tmp_path / f"{WORKER}.{int(number):06d}.log").write_bytes(base64.b64decode(content))
    return tmp_path


def told(batch: Batch) -> list[Any]:
    return [batch.bucket, batch.seq, batch.sums.ledger, batch.sums.counter_moves(EPOCH), batch.sums.ledger_moves()]


def test_its_cuts_are_the_batches_that_they_were(folder: Path) -> None:
    tally, batches = replay(records(folder, WORKER))
    assert [told(batch) for batch in batches] == OLDER["batches"]
    assert (tally.next_xid, len(tally.open)) == (OLDER["next_xid"], OLDER["in_flight"])
    assert {str(bucket): n for bucket, n in tally.last_n.items()} == OLDER["last_n"]
    assert tally.rule_passed == OLDER["rule_passed"]


def test_who_adopts_it_gives_back_what_was_in_flight_and_ships_the_rest_as_that_build_would_have(folder: Path) -> None:
    successor = Recorder(folder, WORKER, FrozenClock(OLDER["now_ms"]).now_ms)
    assert successor.close_open() == OLDER["in_flight"]
    successor.flush()
    assert [told(successor.cut(bucket)) for bucket in sorted(successor.dirty_buckets())] == OLDER["rest"]
    assert [told(batch) for batch in successor.batches_above({7: 0, 8: 0})] == OLDER["batches"] + OLDER["rest"]
    successor.close()
