"""What journals say of blocks: charged when drawn, the unused rest taken off again, whatever happens in between."""

from pathlib import Path

import orjson

from gateway.recorder import KILLED, Recorder, records
from gateway.tally import Batch, Template, replay
from metering.model.clock import FrozenClock
from metering.model.ledger import parse
from metering.store import journal as journals

W, NOW_MS = "w0-aa", 1_740_000_000_000
COUNTERS = {"api": (("q:api", 9_000),), "bandwidth": (("q:bandwidth", 9_000), ("q:bandwidth:r5", 9_000))}
CALL = Template(1, "org", 7, 9, 5, "GET", 0, (("api", 1),), COUNTERS)
BLOCK = Template(2, "org", 7, 9, 5, "GET", 0, (("bandwidth", 1),), COUNTERS)


def opened(directory: Path, clock: FrozenClock | None = None) -> Recorder:
    return Recorder(directory, W, (clock or FrozenClock(NOW_MS)).now_ms)


def ledger(*batches: Batch) -> dict[tuple[str, int], int]:
    """(measure, minutes since NOW_MS) -> quantity."""
    found: dict[tuple[str, int], int] = {}
    for batch in batches:
        for field, quantity in batch.sums.ledger.items():
            row = parse(field)
            found[row.measure, row.minute - NOW_MS // 60_000] = found.get((row.measure, row.minute - NOW_MS // 60_000), 0) + quantity
    return {name: quantity for name, quantity in found.items() if quantity}


def test_a_block_is_charged_when_it_is_drawn_and_its_rest_goes_back_in_the_minute_of_the_draw(tmp_path: Path) -> None:
    clock = FrozenClock(NOW_MS)
    r = opened(tmp_path, clock)
    xid = r.granted(CALL, 1, 1, 1)
    minute = r.drew(xid, BLOCK, 1, 2, 100)
    first = r.cut(7)
    assert first.sums.counter_moves(1) == {}  # admission moved them
    assert first.sums.counter_moves(2) == {"q:api": 1, "q:bandwidth": 100, "q:bandwidth:r5": 100}  # and they died with its epoch
    clock.advance(60)
    r.used(xid, BLOCK.tid, minute, 30)
    r.give_back(xid)
    r.ended(xid, CALL, "", 200, 5, 0, 30, {})
    second = r.cut(7)
    assert second.sums.counter_moves(1) == {"q:bandwidth": -70, "q:bandwidth:r5": -70}
    found = ledger(first, second)
    assert (found["bandwidth", 0], ("bandwidth", 1) in found) == (30, False)
    r.close()


def test_a_block_that_a_rule_gave_is_counted_when_it_is_shipped_and_once_if_it_was_charged_after_all(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(CALL, 1, 1, 1)
    r.drew_by_rule(xid, BLOCK, 1, 2, 100)
    r.resolved(7, 2, 1, [(BLOCK, 60)])
    moves = r.cut(7).sums.counter_moves(1)
    assert moves == {"q:bandwidth": 40, "q:bandwidth:r5": 40}
    r.close()


def test_of_a_block_that_was_charged_twice_over_the_rest_is_refunded(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(CALL, 1, 1, 1)
    r.drew_by_rule(xid, BLOCK, 1, 2, 100)
    r.resolved(7, 2, 1, [(BLOCK, 150)])
    assert r.cut(7).sums.counter_moves(1) == {"q:bandwidth": -50, "q:bandwidth:r5": -50}
    r.close()


def test_a_successor_gives_back_just_what_the_journal_proves_unused(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(CALL, 1, 1, 1)
    minute = r.drew(xid, BLOCK, 1, 2, 100)
    r.used(xid, BLOCK.tid, minute, 30)
    r.flush()
    r.used(xid, BLOCK.tid, minute, 50)  # never on disk, so never sent
    r._turn.clear()
    r._ends.clear()
    r._journal._buffer.clear()
    r.close()
    heir = opened(tmp_path)
    assert heir.close_open() == 1
    batch = heir.cut(7)
    assert ledger(batch) == {("bandwidth", 0): 30, ("^api", 0): 1}
    assert batch.sums.ledger_moves() == {"q:api": 0, "q:bandwidth": 30, "q:bandwidth:r5": 30}
    assert heir.tally.hands.units == 0
    heir.close()


def test_blocks_in_hand_outlive_their_segment(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(CALL, 1, 1, 1)
    minute = r.drew(xid, BLOCK, 1, 2, 100)
    r.used(xid, BLOCK.tid, minute, 30)
    r.cut(7)
    r.rotate()
    r.trim({7: 1})
    r.used(xid, BLOCK.tid, minute, 20)
    r.flush()
    tally, _ = replay(records(tmp_path, W))
    assert tally.hands.rows(xid) == [[BLOCK.tid, minute, 50]]
    r.close()
    heir = opened(tmp_path)
    heir.close_open(KILLED)
    assert heir.cut(7).sums.counter_moves(1) == {"q:api": -1, "q:bandwidth": -50, "q:bandwidth:r5": -50}
    heir.close()


def test_a_call_and_the_bytes_drawn_with_it_are_on_disk_together_or_not_at_all(tmp_path: Path) -> None:
    r = opened(tmp_path)
    with r.together():
        xid = r.granted(CALL, 1, 1, 1)
        r.flush()
        r.drew(xid, BLOCK, 1, 1, 100)
    r.flush()
    frames = [orjson.loads(payload) for _, path in journals.segments(tmp_path, W) for payload in journals.read(path)]
    (frame,) = [frame for frame in frames if frame[0] == "M"]
    assert [record[0] for record in frame[1]] == ["A", "D"]
    r.close()


def test_grace_counts_what_was_asked_for_and_not_its_bytes(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(CALL, 1, 1, 1)
    r.drew_by_rule(xid, BLOCK, 1, 0, 1000)
    assert r.tally.rule_passed["q:bandwidth"] == 1
    r.close()
