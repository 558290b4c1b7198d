"""Write down what happens, before it is acted on: journal records, their tally, and the batches cut from it.

The journal (metering/store/journal.py) keeps the records, the tally (tally.py) their meaning. A recorder belongs to one
worker incarnation: its own, or a dead one's that is being adopted.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from metering.store import journal as journals
from metering.store.journal import Journal

from .tally import Batch, Record, Tally, Template, replay

KILLED = "killed"


class Recorder:
    """`now_ms` is server time as the worker knows it: a call's minute and its window come from one clock."""

    def __init__(self, directory: Path, worker: str, now_ms: Callable[[], int]) -> None:
        self.worker, self._now_ms = worker, now_ms
        self.tally = Tally()
        self._bundle: list[Record] | None = None
        self._retained: list[tuple[int, dict[int, int]]] = []  # (segment, bucket -> seq that must have passed)
        self._journal = Journal(directory, worker)
        self._written: set[int] = set()
        for number, path in journals.segments(directory, worker):
            if number != self._journal.segment:
                for payload in journals.read(path):
                    self.tally.apply(orjson.loads(payload))
                self._retained.append((number, self._needed()))
        self._begin_segment()

    # --- what happens ----------------------------------------------------------------------------------------------
    def minute(self) -> int:
        return self._now_ms() // 60_000

    def name(self, template: Template) -> None:
        """Write down what a tid stands for; before an admit may use it."""
        if template.tid not in self._written:
            self._written.add(template.tid)
            self.tally.named(template)
            self._journal.append(orjson.dumps(template.record()))

    def granted(self, template: Template, epoch: int, n: int, count: int) -> int:
        """`count` calls charged by admit `n`; returns the first of their exchange ids."""
        return self._opened("A", template, epoch, n, count)

    def passed(self, template: Template, epoch: int, n: int, count: int) -> int:
        """`count` calls passed by a failure rule; returns the first of their exchange ids."""
        return self._opened("F", template, epoch, n, count)

    def _opened(self, kind: str, template: Template, epoch: int, n: int, count: int) -> int:
        self.name(template)
        xid = self.tally.next_xid
        self._write([kind, template.tid, epoch, n, xid, count, self.minute()])
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

    def progress(self, xid: int, template: Template, bytes_in: int, bytes_out: int, weighed: dict[str, int]) -> None:
        """What a long exchange moved since its last record."""
        self.name(template)
        self._write(["P", xid, template.tid, self.minute(), bytes_in, bytes_out, weighed])

    def ended(
        self, xid: int, template: Template, cause: str, status: int, ms: int, bytes_in: int, bytes_out: int, weighed: dict[str, int]
    ) -> None:
        """An exchange ended. A `cause` gives back what admission charged; `status` 0 if no answer was known."""
        self.name(template)
        self._write(["E", xid, template.tid, self.minute(), cause, status // 100, ms, bytes_in, bytes_out, weighed])

    def close_open(self, cause: str = KILLED) -> int:
        """Give back whatever is still in flight (its worker is gone); returns how many."""
        in_flight = dict(self.tally.open)
        for xid, (tid, minute) in in_flight.items():
            self.name(self.tally.templates[tid])
            self._write(["E", xid, tid, minute, cause, 0, 0, 0, 0, {}])
        return len(in_flight)

    # --- batches ---------------------------------------------------------------------------------------------------
    def dirty_buckets(self) -> list[int]:
        return [bucket for bucket, sums in self.tally.sums.items() if sums.records]

    def cut(self, bucket: int) -> Batch:
        """The bucket's records up to here as the next batch; `flush` before it is shipped."""
        batch = self._write(["C", bucket, self.tally.seqs.get(bucket, 0) + 1])
        assert batch is not None
        return batch

    def catch_up(self, bucket: int, mark: int) -> None:
        """Where the store has taken more than the journal shows (its tail went with the host's power), go on from there."""
        if mark > self.tally.seqs.get(bucket, 0):
            self.tally.seqs[bucket] = mark

    def batches_above(self, marks: dict[int, int]) -> list[Batch]:
        """Every batch on disk above the given marks (bucket -> seq), in order; what recovery has to ship again."""
        self.flush()
        _, batches = replay(records(self._journal.directory, self.worker))
        return [batch for batch in batches if batch.bucket in marks and batch.seq > marks[batch.bucket]]

    # --- the file --------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is recorded inside is one record on disk: a torn write keeps all of it, or none."""
        bundle: list[Record] = []
        self._bundle = bundle
        try:
            yield
        finally:
            self._bundle = None
            if bundle:
                self._journal.append(orjson.dumps(["M", bundle]))

    def _write(self, record: Record) -> Batch | None:
        if self._bundle is None:
            self._journal.append(orjson.dumps(record))
        else:
            self._bundle.append(record)
        return self.tally.apply(record)

    def flush(self) -> None:
        """One write of all that was recorded since the last. Raises OSError: then nothing of it may be acted on."""
        self._journal.flush()

    @property
    def unwritten(self) -> bool:
        return self._journal.dirty

    @property
    def empty(self) -> bool:
        """Nothing in flight, nothing uncut."""
        return not self.tally.open and not self.dirty_buckets()

    def rotate_if_large(self) -> None:
        if self._journal.segment_bytes >= journals.SEGMENT_BYTES:
            self.rotate()

    def rotate(self) -> None:
        """Begin a segment that can be read alone; the old one waits for Postgres."""
        needed = self._needed()
        self._retained.append((self._journal.rotate(), needed))
        in_flight = {tid for tid, _ in self.tally.open.values()}
        kept = {tid: t for tid, t in self.tally.templates.items() if tid in in_flight or t.bucket in self.tally.sums}
        self.tally.templates = kept
        self._begin_segment()

    def _needed(self) -> dict[int, int]:
        needed = dict(self.tally.seqs)
        for bucket in self.dirty_buckets():
            needed[bucket] = self.tally.seqs.get(bucket, 0) + 1
        return needed

    def _begin_segment(self) -> None:
        self._written.clear()
        seqs, last_n = self.tally.seqs, self.tally.last_n  # both outlive the segments that are trimmed
        self._write(["B", self.worker, [[b, seqs.get(b, 0), last_n.get(b, 0)] for b in sorted({*seqs, *last_n})]])
        for xid, (tid, minute) in self.tally.open.items():
            self.name(self.tally.templates[tid])
            self._journal.append(orjson.dumps(["O", xid, tid, minute]))
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
