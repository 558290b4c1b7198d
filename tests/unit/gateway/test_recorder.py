"""The recorder on real files: what a successor reads from disk is what the living one meant, wherever it was killed."""

import errno
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.recorder import Recorder, grace_used
from gateway.tally import Batch, Template
from metering.model.clock import FrozenClock
from metering.model.ledger import parse
from metering.store import journal as journals

W = "w0-aa"
NOW_MS = 1_740_000_000_000


def template(tid: int, bucket: int, *, units: int = 1, day: int = 0) -> Template:
    """Calls of one organization a bucket; each meter has a counter for all of it, `api` one for the day too."""
    api, weighed = f"q:{bucket}:api", f"q:{bucket}:bandwidth"
    counters = {"api": ((api, 9_000), (f"{api}:{day}", 5_000)), "bandwidth": ((weighed, 9_000),)}
    return Template(tid, f"org-{bucket}", bucket, 9, 5, "GET", 0, (("api", units),), counters)


FIRST, SECOND, NEXT_DAY = template(1, 7), template(2, 8, units=3), template(3, 7, units=2, day=1)
TEMPLATES = (FIRST, SECOND, NEXT_DAY)


def recorder(directory: Path) -> Recorder:
    return Recorder(directory, W, FrozenClock(NOW_MS).now_ms)


def batches(of: Recorder, *above: tuple[int, int]) -> list[Batch]:
    return of.batches_above(dict(above or ((7, 0), (8, 0))))


def segment_numbers(directory: Path) -> list[int]:
    return [number for number, _ in journals.segments(directory, W)]


# --- what a successor finds ---------------------------------------------------------------------------------------------


def test_a_successor_knows_what_was_in_flight_and_gives_it_back(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    xid = first.granted(SECOND, 1, 4, 2)
    first.ended(xid, SECOND, "", 200, 12, 0, 0, {})
    first.close()
    heir = recorder(tmp_path)
    assert heir.close_open() == 1
    assert {parse(f).measure: q for f, q in heir.cut(8).sums.ledger.items() if q} == {"api": 3, "^api": 3, "#2": 1, "#ms": 12}
    heir.close()


def test_a_successor_of_a_successor_gives_nothing_back_twice(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    first.granted(FIRST, 1, 4, 1)
    first.close()
    heir = recorder(tmp_path)
    heir.close_open()
    heir.close()
    last = recorder(tmp_path)
    assert (last.close_open(), last.dirty_buckets()) == (0, [7])
    last.close()


def test_an_exchange_keeps_its_facts_across_segments_that_are_trimmed(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    first.granted(SECOND, 1, 4, 1)
    first.cut(8)
    first.rotate()
    first.trim({8: 1})
    first.close()
    assert segment_numbers(tmp_path) == [2]
    heir = recorder(tmp_path)
    assert (heir.close_open(), heir.tally.templates[2].costs) == (1, (("api", 3),))
    heir.close()


def test_the_last_admit_is_known_after_its_segment_was_trimmed(tmp_path: Path) -> None:
    """Else whoever asks after the dead worker's last admit would take it for one that nobody wrote down, and refund it."""
    first = recorder(tmp_path)
    first.ended(first.granted(FIRST, 1, 4, 1), FIRST, "", 200, 1, 0, 0, {})
    first.cut(7)
    first.rotate()
    first.trim({7: 1})
    first.close()
    heir = recorder(tmp_path)
    assert heir.tally.last_n == {7: 4}
    heir.close()


def test_numbers_go_on_where_a_trimmed_journal_left_off(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    first.cut(7)
    first.rotate()
    first.trim({7: 1})
    first.close()
    heir = recorder(tmp_path)
    assert heir.cut(7).seq == 2
    heir.close()


# --- batches, segments, trimming ----------------------------------------------------------------------------------------


def test_only_batches_above_the_mark_of_a_bucket_that_is_asked_for_are_read_again(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    for _ in range(3):
        r.granted(FIRST, 1, 1, 1)
        r.cut(7)
    r.cut(8)
    assert [(b.bucket, b.seq) for b in batches(r, (7, 1))] == [(7, 2), (7, 3)]
    r.close()


def test_a_segment_goes_when_every_bucket_in_it_is_committed_and_the_oldest_first(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    for n in (1, 2):
        r.granted(FIRST, 1, n, 1)
        r.cut(7)
        r.granted(SECOND, 1, n, 1)
        r.cut(8)
        r.rotate()
    r.trim({7: 2, 8: 0})
    assert segment_numbers(tmp_path) == [1, 2, 3]
    r.trim({7: 2, 8: 1})
    assert segment_numbers(tmp_path) == [2, 3]
    r.trim({7: 2, 8: 2})
    assert (segment_numbers(tmp_path), r.retained_segments) == ([3], 0)
    r.close()


def test_a_segment_with_records_that_are_not_cut_waits_for_their_cut(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.cut(7)
    r.granted(FIRST, 1, 1, 1)
    r.rotate()
    r.trim({7: 1})
    assert segment_numbers(tmp_path) == [1, 2]
    r.cut(7)
    r.trim({7: 2})
    assert segment_numbers(tmp_path) == [2]
    r.close()


def test_a_journal_can_be_taken_on_a_full_disk_and_is_written_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: journals.Journal) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        r = recorder(tmp_path)
        patch.setattr(journals.Journal, "flush", full)
        r._begin_segment()
        assert r.unwritten
    r.flush()
    assert not r.unwritten
    r.close()


def test_a_segment_is_left_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    r = recorder(tmp_path)
    r.rotate_if_large()
    assert segment_numbers(tmp_path) == [1]
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 1)
    r.rotate_if_large()
    assert segment_numbers(tmp_path) == [1, 2]
    r.close()


def test_all_is_committed_only_when_nothing_is_in_flight_or_uncut(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    assert r.all_committed({})
    xid = r.granted(FIRST, 1, 1, 1)
    r.cut(7)
    assert not r.all_committed({7: 1})
    r.ended(xid, FIRST, "", 200, 1, 0, 0, {})
    assert not r.all_committed({7: 1})
    r.cut(7)
    assert (r.all_committed({7: 1}), r.all_committed({7: 2})) == (False, True)
    r.destroy()
    assert list(tmp_path.iterdir()) == []


def test_minutes_are_those_of_the_clock_that_was_given(tmp_path: Path) -> None:
    clock = FrozenClock(NOW_MS)
    r = Recorder(tmp_path, W, clock.now_ms)
    r.granted(FIRST, 1, 1, 1)
    clock.advance(60)
    r.granted(FIRST, 1, 2, 1)
    assert {parse(field).minute: q for field, q in r.cut(7).sums.ledger.items()} == {29_000_000: 1, 29_000_001: 1}
    r.close()


def test_grace_that_was_used_is_found_in_the_journals_of_the_workers_named(tmp_path: Path) -> None:
    for worker, calls in (("w0-aa", 2), ("w0-bb", 3), ("w1-aa", 50)):
        r = Recorder(tmp_path, worker, FrozenClock(NOW_MS).now_ms)
        r.passed(FIRST, 1, 0, calls)
        r.close()
    assert grace_used(tmp_path, ["w0-aa", "w0-bb"])["q:7:api:0"] == 5


# --- whatever happens ---------------------------------------------------------------------------------------------------


class JournalStory(RuleBasedStateMachine):
    """A recorder and its successors over one folder, in any order of events and killed at any byte.

    The model keeps, frame by frame, what is added to the meters, and for each frame not yet closed what was recorded since;
    a kill takes the frames that had not reached the disk. Whatever is on disk must then mean what the living recorder had
    meant by those frames.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="wb-journal-")
        self.epoch, self.n = 1, Counter[int]()
        self.frames: list[Counter[str]] = []  # what each frame, on disk or buffered, adds to the ledger
        self.turn = Counter[str]()  # what was recorded since the last frame adds
        self.cuts: list[tuple[int, Batch]] = []  # (frames up to its cut, the batch as the living recorder gave it)
        self.states: list[tuple[int, dict[int, tuple[int, int]], dict[int, int], dict[int, dict[int, int]]]] = []
        self.unresolved: dict[int, dict[int, int]] = {}  # bucket -> tid -> calls that a rule let pass
        self.committed: dict[int, int] = {}
        self._start()

    def teardown(self) -> None:
        self.recorder.close()
        self.folder.cleanup()

    # --- the model ---
    def _start(self) -> None:
        self.recorder = recorder(Path(self.folder.name))
        self._segment_began()

    def _segment_began(self) -> None:
        _, path = journals.segments(Path(self.folder.name), W)[-1]
        self.frames += [Counter[str]() for _ in journals.read(path)]
        self.flushed = len(self.frames)
        self._remember()

    def _happened(self, **units: int) -> None:
        self.turn.update(units)

    def _framed(self, *after: Counter[str]) -> None:
        """Take note of the frames just closed: names, what was recorded since the last, and what came `after`."""
        total = self.flushed + len(self.recorder._journal._buffer) // 2 - len(after)
        if total > len(self.frames):
            self.frames += [Counter[str]() for _ in range(total - len(self.frames))]
            self.frames[-1].update(self.turn)
            self.turn.clear()
            self._remember()
        self.frames += after

    def _remember(self) -> None:
        tally = self.recorder.tally
        self.states.append((len(self.frames), dict(tally.open), dict(tally.last_n), {b: dict(p) for b, p in self.unresolved.items()}))

    def _flush(self) -> None:
        self.recorder._seal()
        self._framed()
        self.recorder.flush()
        self.flushed = len(self.frames)

    def _asked(self, bucket: int) -> int:
        self.n[bucket] += 1
        return self.n[bucket]

    def _one_open(self, data: st.DataObject) -> tuple[int, Template]:
        opened = self.recorder.tally.open
        xid = data.draw(st.sampled_from(sorted(opened)))
        return xid, self.recorder.tally.templates[opened[xid][0]]

    # --- what happens ---
    @rule(of=st.sampled_from(TEMPLATES), count=st.integers(1, 3))
    def calls_are_granted(self, of: Template, count: int) -> None:
        if of.bucket not in self.unresolved:
            self.recorder.granted(of, self.epoch, self._asked(of.bucket), count)
            self._happened(**{f"api{of.bucket}": of.costs[0][1] * count})

    @rule(of=st.sampled_from(TEMPLATES), count=st.integers(1, 3))
    def grants_are_refunded(self, of: Template, count: int) -> None:
        if of.bucket not in self.unresolved:
            self.recorder.refunded(of, self.epoch, self._asked(of.bucket), count)
            self._happened()

    @rule(of=st.sampled_from(TEMPLATES), count=st.integers(1, 3), asked=st.booleans())
    def calls_pass_by_rule(self, of: Template, count: int, asked: bool) -> None:
        n = 0
        if asked and of.bucket not in self.unresolved:
            n, self.unresolved[of.bucket] = self._asked(of.bucket), {of.tid: count}
        self.recorder.passed(of, self.epoch, n, count)
        self._happened(**{f"api{of.bucket}": of.costs[0][1] * count})

    @precondition(lambda self: self.unresolved)
    @rule(data=st.data(), count=st.integers(0, 4))
    def an_admit_is_resolved(self, data: st.DataObject, count: int) -> None:
        bucket = data.draw(st.sampled_from(sorted(self.unresolved)))
        passed = self.unresolved.pop(bucket)
        charged = [(t, count) for t in TEMPLATES if t.tid in passed and count]
        self.recorder.resolved(bucket, max(n for b, n in self.recorder.tally.by_rule if b == bucket), self.epoch, charged)
        self._happened()

    @precondition(lambda self: self.recorder.tally.open)
    @rule(data=st.data(), cause=st.sampled_from(["", "", "5xx"]), weighed=st.integers(0, 2))
    def an_exchange_ends(self, data: st.DataObject, cause: str, weighed: int) -> None:
        xid, of = self._one_open(data)
        facts_now = NEXT_DAY if of.bucket == 7 else SECOND
        self.recorder.ended(xid, facts_now, cause, 200, 5, 0, weighed, {"bandwidth": weighed})
        self._happened(**{f"api{of.bucket}": -of.costs[0][1] if cause else 0, f"bandwidth{of.bucket}": weighed})

    @precondition(lambda self: self.recorder.tally.open)
    @rule(data=st.data(), moved=st.integers(0, 5))
    def an_exchange_moves_on(self, data: st.DataObject, moved: int) -> None:
        xid, of = self._one_open(data)
        self.recorder.progress(xid, of, 0, moved, {"bandwidth": moved})
        self._happened(**{f"bandwidth{of.bucket}": moved})

    @rule(bucket=st.sampled_from([7, 8]))
    def a_batch_is_cut(self, bucket: int) -> None:
        if bucket not in self.unresolved:
            batch = self.recorder.cut(bucket)
            self._framed(Counter())
            self.cuts.append((len(self.frames), batch))

    @rule()
    def the_journal_is_flushed(self) -> None:
        self._flush()

    @rule()
    def a_segment_is_begun(self) -> None:
        self._flush()
        self.recorder.rotate()
        self._segment_began()

    @rule(buckets=st.sets(st.sampled_from([7, 8]), min_size=1), rotate=st.booleans())
    def postgres_commits_what_was_shipped(self, buckets: set[int], rotate: bool) -> None:
        for bucket in buckets:
            self.a_batch_is_cut(bucket)
        if rotate:
            self.a_segment_is_begun()
        self._flush()
        self.committed |= {bucket: self.recorder.tally.seqs.get(bucket, 0) for bucket in buckets}
        self.recorder.trim(self.committed)

    @rule()
    def the_store_gets_a_new_epoch(self) -> None:
        self.epoch += 1

    @rule(share=st.floats(0, 1), gives_back=st.booleans())
    def the_worker_is_killed_in_the_middle_of_a_write(self, share: float, gives_back: bool) -> None:
        """Of the bytes not yet flushed a share reaches the disk; then somebody takes the files."""
        journal = self.recorder._journal
        self.recorder._seal()
        self._framed()
        ends, data = [], b""
        for head, payload in zip(journal._buffer[::2], journal._buffer[1::2], strict=True):
            data += head + payload
            ends.append(len(data))
        reached = data[: round(len(data) * share)]
        with journals.segments(Path(self.folder.name), W)[-1][1].open("ab") as file:
            file.write(reached)
        journal._buffer.clear()
        self.recorder.close()
        self._forget_after(self.flushed + sum(end <= len(reached) for end in ends))
        self._adopt()
        if gives_back:
            back = Counter({"api7": 0, "api8": 0})
            for tid, _ in self.recorder.tally.open.values():
                of = self.recorder.tally.templates[tid]
                back[f"api{of.bucket}"] -= of.costs[0][1]
            self.recorder.close_open()
            self._happened(**back)
            self._flush()

    def _forget_after(self, survived: int) -> None:
        del self.frames[survived:]
        self.cuts = [(at, batch) for at, batch in self.cuts if at <= survived]
        self.states = [state for state in self.states if state[0] <= survived]

    def _adopt(self) -> None:
        """A successor reads the files, and knows what the dead one knew when its last whole record was written."""
        _, opened, last_n, self.unresolved = self.states[-1]
        self._start()
        tally = self.recorder.tally
        assert (tally.open, tally.last_n) == (opened, last_n)
        assert {bucket: passed for (bucket, _), passed in tally.by_rule.items()} == self.unresolved

    # --- what holds ---
    @rule()
    def the_disk_tells_the_batches_that_the_living_recorder_cut(self) -> None:
        self._flush()
        found = {(b.bucket, b.seq): b for b in batches(self.recorder)}
        lived = {(b.bucket, b.seq): b for _, b in self.cuts}
        needed = {key for key in lived if key[1] > self.committed.get(key[0], 0)}
        assert needed <= found.keys() <= lived.keys()
        assert all(found[key] == lived[key] for key in needed)

    @invariant()
    def ledger_and_counters_hold_what_was_charged_and_not_returned(self) -> None:
        billed, counted, told = Counter[str](), Counter[str](), Counter[str]()
        for frame in [*self.frames, self.turn]:
            told.update(frame)
        for sums in [*(batch.sums for _, batch in self.cuts), *self.recorder.tally.sums.values()]:
            for field, quantity in sums.ledger.items():
                row = parse(field)
                billed[row.measure + row.org_id.removeprefix("org-")] += quantity
            for counter, delta in sums.ledger_moves().items():
                _, bucket, meter, *day = counter.split(":")
                counted[meter + bucket] += 0 if day else delta
        assert {name: billed[name] for name in told} == told
        assert {name: counted[name] for name in told} == told


JournalStory.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TestJournalStory = JournalStory.TestCase
