"""What is recorded between two flushes: one frame, added up in memory to just what its records, one by one, add up to."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.recorder import Recorder, records
from gateway.running import Weights
from gateway.tally import Batch, Tally, Template, replay
from metering.model.clock import FrozenClock
from metering.store import journal as journals

W = "w0-aa"
NOW_MS = 1_740_000_000_000


def template(tid: int, bucket: int, costs: tuple[tuple[str, int], ...], *, route: int = 5) -> Template:
    counters = {"api": ((f"q:{bucket}:api", 9_000), (f"q:{bucket}:api:d", 5_000)), "bandwidth": ((f"q:{bucket}:bandwidth", 9_000),)}
    return Template(tid, f"org-{bucket}", bucket, 9, route, "GET", 0, costs, counters)


API, BOTH, FREE, ELSEWHERE = (
    template(1, 7, (("api", 1),)),
    template(2, 7, (("api", 2), ("bandwidth", 10))),  # the ledger rows of the first and this one's are the same
    template(3, 7, (), route=6),
    template(4, 8, (("api", 3), ("rows", 5))),  # `rows` has no counter
)
TEMPLATES = (API, BOTH, FREE, ELSEWHERE)
BYTES: Weights = (("bandwidth", True, True),)


def opened(directory: Path) -> Recorder:
    return Recorder(directory, W, FrozenClock(NOW_MS).now_ms)


def on_disk(directory: Path) -> list[Any]:
    """The payloads behind the head of the segment and the names."""
    frames = [orjson.loads(payload) for _, path in journals.segments(directory, W) for payload in journals.read(path)]
    return [frame for frame in frames if frame[0] not in "BT"]


# --- one frame a flush --------------------------------------------------------------------------------------------------


def test_what_was_recorded_since_the_last_flush_is_one_frame(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(API, 1, 1, 2)
    r.ended(xid, API, "", 200, 5, 0, 9, {})
    r.flush()
    r.ended(xid + 1, API, "", 404, 5, 0, 9, {})
    r.flush()
    assert [frame[0] for frame in on_disk(tmp_path)] == ["M", "E"]
    r.close()


def test_exchanges_that_ended_alike_between_two_flushes_are_one_record(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(BOTH, 1, 1, 4)
    r.flush()
    for i, status in enumerate((200, 201, 404, 204)):
        r.paid(xid + i, BOTH, BYTES, status, 10 + i, 2, 7)
    assert not r.tally.open
    r.flush()
    kind, found = on_disk(tmp_path)[-1]
    minute = NOW_MS // 60_000
    assert kind == "M"
    assert found == [
        ["N", BOTH.tid, minute, 2, 21, 4, 14, {"bandwidth": 18}, [xid, xid + 1]],
        ["N", BOTH.tid, minute, 4, 12, 2, 7, {"bandwidth": 9}, [xid + 2]],
        ["N", BOTH.tid, minute, 2, 13, 2, 7, {"bandwidth": 9}, [xid + 3]],
    ]
    r.close()


def test_what_ended_meanwhile_is_not_part_of_what_is_held_together(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(API, 1, 1, 2)
    r.flush()
    r.paid(xid, API, (), 200, 1, 0, 0)
    with r.together():
        r.granted(API, 1, 2, 1)
        r.paid(xid + 1, API, (), 200, 1, 0, 0)
        r.flush()
        assert on_disk(tmp_path)[-1][0] == "N"
        r.granted(ELSEWHERE, 1, 1, 1)
    r.flush()
    assert [record[0] for record in on_disk(tmp_path)[-1][1]] == ["A", "A"]
    r.close()


def test_a_cut_is_a_frame_of_its_own_behind_all_it_cuts(tmp_path: Path) -> None:
    r = opened(tmp_path)
    for n in (1, 2):
        r.granted(API, 1, n, 1)
    r.cut(7)
    r.granted(API, 1, 3, 1)
    r.close()
    assert [frame[0] for frame in on_disk(tmp_path)] == ["M", "C", "A"]


def test_what_is_recorded_together_is_not_torn_by_a_flush_in_between(tmp_path: Path) -> None:
    r = opened(tmp_path)
    r.granted(API, 1, 1, 1)
    with r.together():
        r.granted(BOTH, 1, 2, 1)
        r.flush()
        assert [frame[1] for frame in on_disk(tmp_path)] == [API.tid]
        r.granted(FREE, 1, 2, 1)
    assert r.unwritten
    r.flush()
    assert [[record[1] for record in frame[1]] for frame in on_disk(tmp_path)[1:]] == [[BOTH.tid, FREE.tid]]
    r.close()


def test_what_a_tid_stands_for_can_be_written_before_the_rest_of_the_turn(tmp_path: Path) -> None:
    r = opened(tmp_path)
    xid = r.granted(API, 1, 1, 1)
    r.flush()
    r.ended(xid, API, "", 200, 5, 0, 0, {})
    r.name(BOTH)
    r.flush_names()
    tally, _ = replay(records(tmp_path, W))
    assert (set(tally.templates), set(tally.open), r.unwritten) == ({API.tid, BOTH.tid}, {xid}, True)
    r.close()


def test_a_write_that_fails_keeps_all_of_it_and_the_next_writes_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    r = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for n in (1, 2):
            r.granted(API, 1, n, 1)
            with pytest.raises(OSError, match="No space"):
                r.flush()
            assert r.unwritten
    r.granted(API, 1, 3, 1)
    r.flush()
    assert [frame[2:4] for frame in on_disk(tmp_path)] == [[1, 1], [1, 2], [1, 3]]
    r.close()


def test_a_call_whose_client_left_before_it_was_forwarded_goes_back_under_its_own_facts(tmp_path: Path) -> None:
    r = opened(tmp_path)
    r.left_before(r.granted(BOTH, 1, 1, 1))
    assert (r.tally.open, r.cut(7).sums.counter_moves(1)) == ({}, {"q:7:api": -2, "q:7:api:d": -2, "q:7:bandwidth": -10})
    r.close()


# --- added up, or one by one --------------------------------------------------------------------------------------------

Step = Callable[["Living"], None]


class Living:
    """A recorder to which random things happen, and the batches that it cut."""

    def __init__(self, directory: Path) -> None:
        self.clock = FrozenClock(NOW_MS)
        self.recorder = Recorder(directory, W, self.clock.now_ms)
        self.batches: list[Batch] = []
        self.epoch = self.n = 1

    def next_n(self) -> int:
        self.n += 1
        return self.n

    def end(self, which: int, of: Template, cause: str, status: int, moved: tuple[int, int], weighed: dict[str, int]) -> None:
        xids = sorted(self.recorder.tally.open)
        xid = xids[which % len(xids)] if xids else 999_999
        self.recorder.ended(xid, of, cause, status, which + 1, *moved, weighed)

    def pay(self, which: int, of: Template, weights: Weights, status: int, moved: tuple[int, int]) -> None:
        if xids := sorted(self.recorder.tally.open):
            self.recorder.paid(xids[which % len(xids)], of, weights, status, which + 1, *moved)

    def settled(self, which: int, of: Template, unused: dict[str, int], beyond: dict[str, int]) -> None:
        if xids := sorted(self.recorder.tally.open):
            self.recorder.settled(xids[which % len(xids)], of, unused, beyond)

    def draw(self, which: int, of: Template, units: int, *, by_rule: bool) -> None:
        if xids := sorted(self.recorder.tally.open):
            how = self.recorder.drew_by_rule if by_rule else self.recorder.drew
            how(xids[which % len(xids)], of, self.epoch, self.next_n(), units)

    def use(self, which: int, units: int) -> None:
        hands = self.recorder.tally.hands
        if xids := sorted(xid for xid in hands if hands.rows(xid)):
            xid = xids[which % len(xids)]
            tid, minute, left = hands.rows(xid)[0]
            self.recorder.used(xid, tid, minute, min(units, left))

    def give_back(self, which: int) -> None:
        if xids := sorted(self.recorder.tally.hands):
            self.recorder.give_back(xids[which % len(xids)])

    def resolve(self, count: int) -> None:
        for bucket, n in list(self.recorder.tally.by_rule):
            charged = [(of, count) for of in TEMPLATES if of.bucket == bucket and count]
            self.recorder.resolved(bucket, n, self.epoch, charged)

    def new_epoch(self) -> None:
        self.epoch += 1


_OF, _COUNT = st.sampled_from(TEMPLATES), st.integers(1, 3)
_MOVED = st.tuples(st.integers(0, 2), st.integers(0, 2))
_WEIGHED = st.dictionaries(st.sampled_from(["bandwidth", "pages"]), st.integers(-1, 2))
_STATUS = st.sampled_from([0, 200, 200, 404, 503, 999])
_GRANTED: st.SearchStrategy[Step] = st.builds(lambda of, k: lambda on: on.recorder.granted(of, on.epoch, on.next_n(), k), _OF, _COUNT)
_ENDED: st.SearchStrategy[Step] = st.builds(
    lambda which, of, cause, status, moved, w: lambda on: on.end(which, of, cause, status, moved, w),
    st.integers(0, 9), _OF, st.sampled_from(["", "", "5xx"]), _STATUS, _MOVED, _WEIGHED,
)  # fmt: skip
_PAID: st.SearchStrategy[Step] = st.builds(
    lambda which, of, weights, status, moved: lambda on: on.pay(which, of, weights, status, moved),
    st.integers(0, 9), _OF, st.sampled_from([(), BYTES, BYTES, (("pages", True, False),)]), _STATUS, _MOVED,
)  # fmt: skip
_SELDOM: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda of, k: lambda on: on.recorder.passed(of, on.epoch, 0, k), _OF, _COUNT),
    st.builds(lambda of, k: lambda on: on.recorder.passed(of, on.epoch, on.next_n(), k), _OF, _COUNT),
    st.builds(lambda of, k: lambda on: on.recorder.refunded(of, on.epoch, on.next_n(), k), _OF, _COUNT),
    st.builds(lambda of, moved, w: lambda on: on.recorder.progress(1, of, *moved, w), _OF, _MOVED, _WEIGHED),
    st.builds(lambda which, of, w, more: lambda on: on.settled(which, of, w, more), st.integers(0, 9), _OF, _WEIGHED, _WEIGHED),
    st.builds(lambda which, of, k: lambda on: on.draw(which, of, k, by_rule=False), st.integers(0, 9), _OF, st.integers(1, 9)),
    st.builds(lambda which, of, k: lambda on: on.draw(which, of, k, by_rule=True), st.integers(0, 9), _OF, st.integers(1, 9)),
    st.builds(lambda which, k: lambda on: on.use(which, k), st.integers(0, 9), st.integers(1, 9)),
    st.builds(lambda which: lambda on: on.give_back(which), st.integers(0, 9)),
    st.builds(lambda k: lambda on: on.resolve(k), st.integers(0, 3)),
    st.builds(lambda b: lambda on: on.batches.append(on.recorder.cut(b)), st.sampled_from([7, 8])),
    st.builds(lambda s: lambda on: on.clock.advance(s), st.sampled_from([1, 60, -60])),
    st.just(lambda on: on.new_epoch()),
    st.just(lambda on: on.recorder.flush()),
    st.just(lambda on: on.recorder.rotate()),
    st.just(lambda on: on.recorder.dirty_buckets()),
    st.just(lambda on: on.recorder.tally.sums),
)
STEPS = st.one_of(_GRANTED, _ENDED, _PAID, _SELDOM)


def _facts(tally: Tally) -> tuple[Any, ...]:
    hands = {xid: tally.hands.rows(xid) for xid in tally.hands}
    return tally.sums, tally.seqs, tally.open, tally.by_rule, tally.last_n, tally.rule_passed, tally.next_xid, hands


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=10, max_size=80))
def test_calls_added_up_as_they_come_are_what_their_records_say_one_by_one(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="wb-journal-") as folder:
        living = Living(Path(folder))
        for step in steps:
            step(living)
        living.recorder.flush()
        tally, batches = replay(records(Path(folder), W))
        assert set(living.recorder.dirty_buckets()) == set(tally.sums)
        assert _facts(living.recorder.tally) == _facts(tally)
        assert living.batches == batches
        living.recorder.close()
