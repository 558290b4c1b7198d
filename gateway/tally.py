"""What journal records mean: folds them into sums a bucket, and cuts the sums into batches.

Pure. The live worker applies each record as it writes it, and whoever adopts a dead worker's journal applies the same
records from disk, so both ship the same batches. The records (JSON arrays; n, xid, k and minutes are integers):

  ["B", worker, [[bucket, last seq, last n]…]]       begins a segment
  ["T", tid, org, bucket, key, route, method, period start, [[meter, units]…], {meter: [[counter, expires_ms]…]}]
                                                    names the facts that equal calls share
  ["O", xid, tid, minute]                           open since an earlier segment
  ["A", tid, epoch, n, xid, k, minute]              k calls charged by admit n, exchanges xid … xid+k-1
  ["F", tid, epoch, n, xid, k, minute]              k calls passed by a failure rule; n is 0 if none was asked for them
  ["P", xid, tid, minute, in, out, {meter: units}]  progress of a long exchange, weighed since the last record
  ["E", xid, tid, minute, cause, status class, ms, in, out, {meter: units}]
                                                    ended; with a cause, what admission charged goes back
  ["R", tid, epoch, n, k]                           k grants of admit n that were never forwarded: refunded
  ["G", bucket, n, epoch, [[tid, k]…]]              admit n, unanswered, had charged k calls of each tid
  ["M", [record…]]                                  several, written as one
  ["C", bucket, seq]                                the bucket's records up to here are batch seq
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from metering.model.ledger import FACT, RETURNED, row_field

Record = list[Any]


@dataclass(slots=True, eq=False)
class Template:
    """The facts that equal calls share; `costs` are charged at admission, `counters` by meter are what they move."""

    tid: int
    org_id: str
    bucket: int
    key_id: int
    route_id: int
    method: str
    period_start: int
    costs: tuple[tuple[str, int], ...]
    counters: dict[str, tuple[tuple[str, int], ...]]
    _minute: int = -1
    _fields: dict[str, str] = field(default_factory=dict)

    def row(self, minute: int, measure: str) -> str:
        """The ledger field of `measure` in that minute."""
        if minute != self._minute:
            self._minute, self._fields = minute, {}
        found = self._fields.get(measure)
        if found is None:
            found = row_field(minute, self.period_start, self.org_id, measure, self.route_id, self.method, self.key_id)
            self._fields[measure] = found
        return found

    def record(self) -> Record:
        costs, counters = [list(c) for c in self.costs], {m: [list(c) for c in cs] for m, cs in self.counters.items()}
        return ["T", self.tid, self.org_id, self.bucket, self.key_id, self.route_id, self.method, self.period_start, costs, counters]

    @classmethod
    def of(cls, record: Record) -> "Template":
        _, tid, org_id, bucket, key_id, route_id, method, period_start, costs, counters = record
        return cls(
            tid, org_id, bucket, key_id, route_id, method, period_start,
            tuple((m, u) for m, u in costs), {m: tuple((k, e) for k, e in cs) for m, cs in counters.items()},
        )  # fmt: skip


Moves = dict[str, int]


@dataclass(slots=True)
class Sums:
    """What a bucket's records add up to since the last cut."""

    ledger: dict[str, int] = field(default_factory=dict)
    moves: Moves = field(default_factory=dict)  # counters that admission did not move
    charged: dict[int, Moves] = field(default_factory=dict)  # by epoch: moved by admission, gone with its epoch
    refunded: dict[int, Moves] = field(default_factory=dict)  # by epoch: to be taken back if that epoch still stands
    expires: dict[str, int] = field(default_factory=dict)
    records: int = 0

    def counter_moves(self, epoch: int) -> Moves:
        """How the counters must move when this is taken under `epoch`."""
        total = dict(self.moves)
        for charged_in, moves in self.charged.items():
            if charged_in != epoch:
                _add_all(total, moves, 1)
        _add_all(total, self.refunded.get(epoch, {}), -1)
        return {key: delta for key, delta in total.items() if delta}

    def ledger_moves(self) -> Moves:
        """What the same records add to the counters of a store that had seen none of them."""
        total = dict(self.moves)
        for moves in self.charged.values():
            _add_all(total, moves, 1)
        return total


@dataclass(slots=True)
class Batch:
    """One cut of a bucket: immutable, and the same whenever its seq is shipped."""

    bucket: int
    seq: int
    sums: Sums

    @property
    def minute(self) -> int:
        """The minute of its first row; 0 for a batch without rows."""
        first = next(iter(self.sums.ledger), "0|")
        return int(first.split("|", 1)[0])


def _add(into: dict[str, int], key: str, quantity: int) -> None:
    into[key] = into.get(key, 0) + quantity


def _add_all(into: Moves, moves: Moves, sign: int) -> None:
    for key, quantity in moves.items():
        into[key] = into.get(key, 0) + sign * quantity


class Tally:
    """The state that the records so far have led to."""

    def __init__(self) -> None:
        self.worker = ""
        self.templates: dict[int, Template] = {}
        self.open: dict[int, tuple[int, int]] = {}  # xid -> (tid, minute), in flight
        self.sums: dict[int, Sums] = {}
        self.seqs: dict[int, int] = {}
        self.by_rule: dict[tuple[int, int], dict[int, int]] = {}  # (bucket, n) -> tid -> calls passed, not yet resolved
        self.last_n: dict[int, int] = {}  # bucket -> the last n that a record speaks of
        self.rule_passed: dict[str, int] = {}  # counter -> calls passed by rule, for the grace of a restart
        self.next_xid = 1

    def apply(self, record: Record) -> Batch | None:
        """Take one record; a cut gives the batch. Raises KeyError for a tid that was never named."""
        return getattr(self, f"_on_{record[0]}")(*record[1:])  # type: ignore[no-any-return]

    def named(self, template: Template) -> None:
        self.templates[template.tid] = template

    def _bucket(self, template: Template) -> Sums:
        sums = self.sums.get(template.bucket)
        if sums is None:
            sums = self.sums[template.bucket] = Sums()
        sums.records += 1
        return sums

    def _move(self, sums: Sums, into: Moves, template: Template, meter: str, units: int) -> None:
        for key, expires_ms in template.counters.get(meter, ()):
            _add(into, key, units)
            sums.expires[key] = expires_ms

    def _on_B(self, worker: str, buckets: list[list[int]]) -> None:
        self.worker = worker
        for bucket, seq, n in buckets:
            if seq:
                self.seqs[bucket] = max(seq, self.seqs.get(bucket, 0))
            self._spoke_of(bucket, n)

    def _spoke_of(self, bucket: int, n: int) -> None:
        if n:
            self.last_n[bucket] = max(n, self.last_n.get(bucket, 0))

    def _on_T(self, *fields: Any) -> None:
        template = Template.of(["T", *fields])
        self.templates[template.tid] = template

    def _on_O(self, xid: int, tid: int, minute: int) -> None:
        self.open[xid] = (tid, minute)
        self.next_xid = max(self.next_xid, xid + 1)

    def _opened(self, tid: int, n: int, xid: int, k: int, minute: int, sums: Sums, into: Moves) -> Template:
        template = self.templates[tid]
        for meter, units in template.costs:
            _add(sums.ledger, template.row(minute, meter), units * k)
            self._move(sums, into, template, meter, units * k)
        for x in range(xid, xid + k):
            self.open[x] = (tid, minute)
        self.next_xid = max(self.next_xid, xid + k)
        self._spoke_of(template.bucket, n)
        return template

    def _on_A(self, tid: int, epoch: int, n: int, xid: int, k: int, minute: int) -> None:
        sums = self._bucket(self.templates[tid])
        self._opened(tid, n, xid, k, minute, sums, sums.charged.setdefault(epoch, {}))

    def _on_F(self, tid: int, epoch: int, n: int, xid: int, k: int, minute: int) -> None:
        sums = self._bucket(self.templates[tid])
        template = self._opened(tid, n, xid, k, minute, sums, sums.moves)
        for counters in template.counters.values():
            for key, _ in counters:
                _add(self.rule_passed, key, k)
        if n:
            passed = self.by_rule.setdefault((template.bucket, n), {})
            passed[tid] = passed.get(tid, 0) + k

    def _on_P(self, xid: int, tid: int, minute: int, bytes_in: int, bytes_out: int, weighed: dict[str, int]) -> None:
        template = self.templates[tid]
        sums = self._bucket(template)
        self._weigh(sums, template, minute, weighed)
        if bytes_in:
            _add(sums.ledger, template.row(minute, FACT + "in"), bytes_in)
        if bytes_out:
            _add(sums.ledger, template.row(minute, FACT + "out"), bytes_out)

    def _weigh(self, sums: Sums, template: Template, minute: int, weighed: dict[str, int]) -> None:
        for meter, units in weighed.items():
            if units:
                _add(sums.ledger, template.row(minute, meter), units)
                self._move(sums, sums.moves, template, meter, units)

    def _on_E(
        self,
        xid: int,
        tid: int,
        minute: int,
        cause: str,
        status_class: int,
        ms: int,
        bytes_in: int,
        bytes_out: int,
        weighed: dict[str, int],
    ) -> None:
        opened = self.open.pop(xid, None)
        self._on_P(xid, tid, minute, bytes_in, bytes_out, weighed)
        template = self.templates[tid]
        sums = self.sums[template.bucket]
        if status_class:
            _add(sums.ledger, template.row(minute, f"{FACT}{status_class}"), 1)
            _add(sums.ledger, template.row(minute, FACT + "ms"), ms)
        if cause and opened is not None:
            self._give_back(*opened)

    def _give_back(self, tid: int, minute: int) -> None:
        template = self.templates[tid]
        sums = self._bucket(template)
        for meter, units in template.costs:
            _add(sums.ledger, template.row(minute, meter), -units)
            _add(sums.ledger, template.row(minute, RETURNED + meter), units)
            self._move(sums, sums.moves, template, meter, -units)

    def _on_R(self, tid: int, epoch: int, n: int, k: int) -> None:
        template = self.templates[tid]
        sums = self._bucket(template)
        into = sums.refunded.setdefault(epoch, {})
        for meter, units in template.costs:
            self._move(sums, into, template, meter, units * k)
        self._spoke_of(template.bucket, n)

    def _on_G(self, bucket: int, n: int, epoch: int, charged: list[list[int]]) -> None:
        passed = self.by_rule.pop((bucket, n), {})
        for tid, k in charged:
            template = self.templates[tid]
            sums, both = self._bucket(template), min(k, passed.get(tid, 0))
            died_with = sums.charged.setdefault(epoch, {})
            for meter, units in template.costs:
                self._move(sums, sums.moves, template, meter, -units * both)
                self._move(sums, died_with, template, meter, units * both)
            if k > both:
                self._on_R(tid, epoch, n, k - both)
        self._spoke_of(bucket, n)

    def _on_M(self, records: list[Record]) -> None:
        for record in records:
            self.apply(record)

    def _on_C(self, bucket: int, seq: int) -> Batch:
        self.seqs[bucket] = seq
        return Batch(bucket, seq, self.sums.pop(bucket, Sums()))


def replay(records: Iterator[Record]) -> tuple[Tally, list[Batch]]:
    """Fold a whole journal; the batches that were cut, in order, and the state at its end."""
    tally, batches = Tally(), []
    for record in records:
        batch = tally.apply(record)
        if batch is not None:
            batches.append(batch)
    return tally, batches
