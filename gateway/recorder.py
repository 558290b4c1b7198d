"""Write down what happens, before it is acted on: journal records, their tally, and the batches cut from it.

The journal (metering/store/journal.py) keeps the records, the tally (tally.py) their meaning. A recorder belongs to one
worker incarnation: its own, or a dead one's that is being adopted.

What is recorded between two flushes is one frame on disk. What every call does (granted, passed, progress, ended) is
added up by equal calls as it is recorded; all else goes to the tally record by record, as a successor will read it.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from metering.store import journal as journals
from metering.store.journal import Journal

from .running import Ends, Running, Weights
from .tally import Batch, Record, Tally, Template, minute_of, replay

KILLED = "killed"
LEFT_BEFORE = "client_left_before"
UNWRITTEN_BYTES = 4 * 2**20  # of records in memory, while the disk takes none; some 30,000 calls


class _Together:
    """While it is entered, what is recorded stays in one piece."""

    __slots__ = ("recorder",)

    def __init__(self, recorder: "Recorder") -> None:
        self.recorder = recorder

    def __enter__(self) -> None:
        self.recorder._held = len(self.recorder._turn)

    def __exit__(self, *_: object) -> None:
        self.recorder._held = -1


class Recorder:
    """`now_ms` is server time as the worker knows it: a call's minute and its window come from one clock."""

    def __init__(self, directory: Path, worker: str, now_ms: Callable[[], int]) -> None:
        self.directory, self.worker, self._now_ms = directory, worker, now_ms
        self.tally = Tally()
        self._turn: list[Record] = []  # since the last frame
        self._ends: list[Ends] = []  # since the last frame, and not in `_turn` yet
        self._held = -1  # from here on the records of the turn stay in one piece; -1: nothing is held
        self._together = _Together(self)
        self._retained: list[tuple[int, dict[int, int]]] = []  # (segment, bucket -> seq that must have passed)
        self._journal = Journal(directory, worker)
        self.urgent: set[int] = set()  # buckets whose records are not to wait for their turn
        self._running: dict[int, Running] = {}  # by tid: what this segment names, and what its calls add up to
        self.last_minute = 0  # that what was found here speaks of
        for number, path in journals.segments(directory, worker):
            if number != self._journal.segment:
                for payload in journals.read(path):
                    record = orjson.loads(payload)
                    self.tally.apply(record)
                    self.last_minute = max(self.last_minute, minute_of(record))
                self._retained.append((number, self._needed()))
        self._begin_segment()

    # --- what happens ----------------------------------------------------------------------------------------------
    def minute(self) -> int:
        return self._now_ms() // 60_000

    def name(self, template: Template) -> None:
        """Write down what a tid stands for; before an admit may use it."""
        if template.tid not in self._running:
            self._named(template)

    def _named(self, template: Template) -> Running:
        self.tally.named(template)
        self._journal.append(orjson.dumps(template.record()))
        running = self._running[template.tid] = Running(template)
        return running

    def granted(self, template: Template, epoch: int, n: int, count: int, minute: int = 0) -> int:
        """`count` calls charged by admit `n`; returns the first of their exchange ids.

        Here and below: who knows the `minute` (0: the present one) spares a look at the clock.
        """
        tid, minute = template.tid, minute or self._now_ms() // 60_000
        running = self._running.get(tid) or self._named(template)
        if running.minute != minute or running.epoch != epoch:
            self.tally.run(running, minute, epoch)
        running.charged += count
        xid = self._opened(running, n, count)
        self._turn.append(["A", tid, epoch, n, xid, count, minute])
        return xid

    def passed(self, template: Template, epoch: int, n: int, count: int, minute: int = 0) -> int:
        """`count` calls passed by a failure rule; returns the first of their exchange ids."""
        tid, minute = template.tid, minute or self._now_ms() // 60_000
        running = self._running.get(tid) or self._named(template)
        if running.minute != minute:
            self.tally.run(running, minute, epoch)
        running.passed += count
        xid = self._opened(running, n, count)
        self.tally.passed_for(template, n, count)
        self._turn.append(["F", tid, epoch, n, xid, count, minute])
        return xid

    def _opened(self, running: Running, n: int, count: int) -> int:
        tally, bucket = self.tally, running.template.bucket
        xid = tally.next_xid
        tally.next_xid = xid + count
        if count == 1:
            tally.open[xid] = running.opened
        else:
            tally.open.update(dict.fromkeys(range(xid, xid + count), running.opened))
        if n > tally.last_n.get(bucket, 0):
            tally.last_n[bucket] = n
        return xid

    def refunded(self, template: Template, epoch: int, n: int, count: int) -> None:
        """`count` grants that nobody will use."""
        self.name(template)
        self._write(["R", template.tid, epoch, n, count])

    def resolved(self, bucket: int, n: int, epoch: int, charged: list[tuple[Template, int]]) -> None:
        """What admit `n`, unanswered at its time, had charged after all."""
        for template, _ in charged:
            self.name(template)
        self._write(["G", bucket, n, epoch, [[template.tid, count] for template, count in charged]])

    def progress(self, xid: int, template: Template, bytes_in: int, bytes_out: int, weighed: dict[str, int], minute: int = 0) -> None:
        """What a long exchange moved since its last record. `weighed` is kept until the flush: it must not change."""
        tid, minute = template.tid, minute or self._now_ms() // 60_000
        running = self._running.get(tid) or self._named(template)
        if running.minute != minute:
            self.tally.run(running, minute, running.epoch)
        running.bytes_in += bytes_in
        running.bytes_out += bytes_out
        for meter, units in weighed.items():
            if units:
                running.weighed[meter] = running.weighed.get(meter, 0) + units
        self._turn.append(["P", xid, tid, minute, bytes_in, bytes_out, weighed])

    def settled(self, xid: int, template: Template, unused: dict[str, int], beyond: dict[str, int]) -> None:
        """What an exchange in flight took is known. Of what admission charged, `unused` (below zero) goes back where it was charged;
        what is `beyond` it is charged by `template`. Calls may wait for the one, and shall not pass for want of the other."""
        tid, minute = self.tally.open.get(xid, (0, 0))
        if not tid:
            return  # given back meanwhile, all of it
        if unused:
            self.progress(xid, self.tally.templates[tid], 0, 0, unused, minute)
        if beyond:
            self.progress(xid, template, 0, 0, beyond)
        self.urgent.add(template.bucket)

    def ended(
        self,
        xid: int,
        template: Template,
        cause: str,
        status: int,
        ms: int,
        bytes_in: int,
        bytes_out: int,
        weighed: dict[str, int],
        minute: int = 0,
    ) -> None:
        """An exchange ended. A `cause` gives back what admission charged; `status` 0 if no answer was known.

        `weighed` is kept until the flush: it must not change.
        """
        tid, minute, status_class = template.tid, minute or self._now_ms() // 60_000, status // 100
        running = self._running.get(tid) or self._named(template)
        if running.minute != minute:
            self.tally.run(running, minute, running.epoch)
        if status_class:
            exchanges = running.exchanges
            exchanges[status_class] = exchanges.get(status_class, 0) + 1
            running.ms += ms
        running.bytes_in += bytes_in
        running.bytes_out += bytes_out
        for meter, units in weighed.items():
            if units:
                running.weighed[meter] = running.weighed.get(meter, 0) + units
        if cause:
            self.tally.close(xid, cause)
        else:
            self.tally.open.pop(xid, None)
        self._turn.append(["E", xid, tid, minute, cause, status_class, ms, bytes_in, bytes_out, weighed])

    def paid(
        self, xid: int, template: Template, weights: Weights, status: int, ms: int, bytes_in: int, bytes_out: int, minute: int = 0
    ) -> None:
        """`ended` for the many: it pays, and what is weighed is bytes alone. Such as end alike between two flushes are one record.

        The tally knows at once that it is no longer in flight, and with the frame what it weighed.
        """
        tid, minute, status_class = template.tid, minute or self._now_ms() // 60_000, status // 100
        running = self._running.get(tid) or self._named(template)
        ends = running.ends
        if ends is None or ends.minute != minute or ends.status_class != status_class or ends.weights is not weights:
            if running.minute != minute:
                self.tally.run(running, minute, running.epoch)
            ends = running.ends = Ends(running, weights, minute, status_class)
            self._ends.append(ends)
        ends.xids.append(xid)
        ends.ms += ms
        ends.bytes_in += bytes_in
        ends.bytes_out += bytes_out
        try:  # noqa: SIM105  `pop` costs more, and `suppress` much more
            del self.tally.open[xid]
        except KeyError:
            pass

    # --- units drawn before they are used (hands.py) -----------------------------------------------------------------
    def drew(self, xid: int, template: Template, epoch: int, n: int, units: int) -> int:
        """An exchange was granted units by admit `n`; returns the minute by which its block is known."""
        return self._draw("D", xid, template, epoch, n, units)

    def drew_by_rule(self, xid: int, template: Template, epoch: int, n: int, units: int) -> int:
        """A failure rule let an exchange have units; returns the minute by which its block is known."""
        return self._draw("L", xid, template, epoch, n, units)

    def _draw(self, kind: str, xid: int, template: Template, epoch: int, n: int, units: int) -> int:
        self.name(template)
        minute = self.minute()
        self._write([kind, xid, template.tid, epoch, n, units, minute])
        return minute

    def used(self, xid: int, tid: int, minute: int, units: int) -> None:
        """So much of that block is being used; to be on disk before it is."""
        self._write(["U", xid, tid, minute, units])

    def give_back(self, xid: int) -> None:
        """What the exchange has not used goes back; it draws no more."""
        if xid in self.tally.hands:
            for tid, _, _ in self.tally.hands.rows(xid):
                self.name(self.tally.templates[tid])
            self._write(["K", xid])

    # --- endings -------------------------------------------------------------------------------------------------------
    def left_before(self, xid: int) -> None:
        """A call that was let pass and never forwarded, as its client had left: given back. One that has ended stays as it is."""
        tid, _ = self.tally.open.get(xid, (0, 0))
        if tid:
            self.give_back(xid)
            self.ended(xid, self.tally.templates[tid], LEFT_BEFORE, 0, 0, 0, 0, {})

    def close_open(self, cause: str = KILLED) -> int:
        """Give back whatever is still in flight (its worker is gone); returns how many."""
        in_flight = dict(self.tally.open)
        for xid, (tid, minute) in in_flight.items():
            self.name(self.tally.templates[tid])
            self.give_back(xid)
            self._write(["E", xid, tid, minute, cause, 0, 0, 0, 0, {}])
        return len(in_flight)

    # --- batches ---------------------------------------------------------------------------------------------------
    def dirty_buckets(self) -> list[int]:
        return self.tally.dirty()

    def cut(self, bucket: int) -> Batch:
        """The bucket's records up to here as the next batch; `flush` before it is shipped."""
        self._seal()
        record = ["C", bucket, self.tally.seqs.get(bucket, 0) + 1]
        self._journal.append(orjson.dumps(record))
        batch = self.tally.apply(record)
        assert batch is not None
        return batch

    def catch_up(self, bucket: int, mark: int) -> None:
        """Where the store has taken more than the journal shows (its tail went with the host's power, or somebody handed the journal
        in before), go on from there: what is not cut here stood before the cuts that are missing, so it is in what was taken."""
        if mark > self.tally.seqs.get(bucket, 0):
            self._seal()
            record = ["C", bucket, mark]
            self._journal.append(orjson.dumps(record))
            self.tally.apply(record)

    def batches_above(self, marks: dict[int, int]) -> list[Batch]:
        """Every batch on disk above the given marks (bucket -> seq), in order; what recovery has to ship again."""
        self.flush()
        _, batches = replay(records(self._journal.directory, self.worker))
        return [batch for batch in batches if batch.bucket in marks and batch.seq > marks[batch.bucket]]

    # --- the file --------------------------------------------------------------------------------------------------
    def together(self) -> contextlib.AbstractContextManager[None]:
        """What is recorded inside is on disk whole, or not at all. Nothing is cut inside."""
        return self._together

    def _write(self, record: Record) -> None:
        self._turn.append(record)
        self.tally.apply(record)

    def _close_ends(self) -> None:
        """What ended since the last frame becomes records, outside of what is held together."""
        for ends in self._ends:
            running = ends.running
            running.ends = None
            if running.minute != ends.minute:
                self.tally.run(running, ends.minute, running.epoch)
            record = ends.added_up()
            if self._held < 0:
                self._turn.append(record)
            else:
                self._turn.insert(self._held, record)
                self._held += 1
        self._ends.clear()

    def _seal(self) -> None:
        """Make one frame of what was recorded since the last; what is held together waits."""
        if self._ends:
            self._close_ends()
        turn = self._turn if self._held < 0 else self._turn[: self._held]
        if not turn:
            return
        self._journal.append(orjson.dumps(turn[0] if len(turn) == 1 else ["M", turn]))
        if self._held < 0:
            turn.clear()
        else:
            del self._turn[: self._held]
            self._held = 0

    def flush(self) -> None:
        """One write of all that was recorded since the last. Raises OSError: then nothing of it may be acted on."""
        self._seal()
        self._journal.flush()

    def flush_names(self) -> None:
        """Write what tids stand for, where that is not on disk yet: all that an admit needs before it is sent.

        Costs nothing where all have their names. Raises OSError as `flush` does.
        """
        self._journal.flush()

    @property
    def has_room(self) -> bool:
        """Whether more may be recorded, even though the disk takes nothing: what it could not be given yet is not too much."""
        return self._journal.unwritten_bytes < UNWRITTEN_BYTES

    @property
    def unwritten(self) -> bool:
        return bool(self._turn or self._ends) or self._journal.dirty

    @property
    def empty(self) -> bool:
        """Nothing in flight, nothing uncut."""
        return not self.tally.open and not self.dirty_buckets()

    def rotate_if_large(self) -> None:
        if self._journal.segment_bytes >= journals.SEGMENT_BYTES:
            self.rotate()

    def rotate(self) -> None:
        """Begin a segment that can be read alone; the old one waits for Postgres."""
        self._seal()
        needed = self._needed()
        self._retained.append((self._journal.rotate(), needed))
        in_flight = {tid for tid, _ in self.tally.open.values()} | self.tally.hands.tids
        kept = {tid: t for tid, t in self.tally.templates.items() if tid in in_flight or t.bucket in self.tally.sums}
        self.tally.templates = kept
        self._begin_segment()

    def _needed(self) -> dict[int, int]:
        needed = dict(self.tally.seqs)
        for bucket in self.dirty_buckets():
            needed[bucket] = self.tally.seqs.get(bucket, 0) + 1
        return needed

    def _begin_segment(self) -> None:
        self._running.clear()  # what they add up to the tally still holds
        seqs, last_n = self.tally.seqs, self.tally.last_n  # both outlive the segments that are trimmed
        head = ["B", self.worker, [[b, seqs.get(b, 0), last_n.get(b, 0)] for b in sorted({*seqs, *last_n})]]
        self._journal.append(orjson.dumps(head))
        self.tally.apply(head)
        for xid, (tid, minute) in self.tally.open.items():
            self.name(self.tally.templates[tid])
            self._journal.append(orjson.dumps(["O", xid, tid, minute]))
        for xid in self.tally.hands:
            rows = self.tally.hands.rows(xid)
            for tid, _, _ in rows:
                self.name(self.tally.templates[tid])
            self._journal.append(orjson.dumps(["H", xid, rows]))
        with contextlib.suppress(OSError):  # it stays buffered, before all else; who must have it on disk flushes and is told
            self.flush()

    def trim(self, committed: dict[int, int]) -> None:
        """Delete the segments whose batches Postgres has all committed (bucket -> seq)."""
        while self._retained and all(committed.get(b, 0) >= seq for b, seq in self._retained[0][1].items()):
            self._journal.drop(self._retained.pop(0)[0])

    def all_committed(self, committed: dict[int, int]) -> bool:
        """Whether nothing here is still on its way to Postgres."""
        return self.empty and all(committed.get(b, 0) >= seq for b, seq in self.tally.seqs.items())

    @property
    def retained_segments(self) -> int:
        return len(self._retained)

    def close(self) -> None:
        self._seal()
        self._journal.close()

    def destroy(self) -> None:
        """Delete the files; only after `all_committed`."""
        self._journal.destroy()


def records(directory: Path, worker: str) -> Iterator[Record]:
    """Everything in a worker's journal, oldest first. A segment that is trimmed meanwhile is left out: all of it has arrived."""
    for _, path in journals.segments(directory, worker):
        with contextlib.suppress(FileNotFoundError):
            for payload in journals.read(path):
                yield orjson.loads(payload)


def grace_used(directory: Path, workers: list[str]) -> dict[str, int]:
    """Counter -> calls that these workers' journals show as passed by rule: a restart brings no fresh grace."""
    used: dict[str, int] = {}
    for worker in workers:
        tally, _ = replay(records(directory, worker))
        for counter, calls in tally.rule_passed.items():
            used[counter] = used.get(counter, 0) + calls
    return used
