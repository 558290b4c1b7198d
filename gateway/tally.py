"""What journal records mean: folds them into sums a bucket, and cuts the sums into batches.

Pure. Whoever adopts a dead worker's journal applies its records one by one. The living worker, which writes them, adds
equal calls up first (`Running`) and folds them into the sums when somebody looks; both ship the same batches.
The records (JSON arrays; n, xid, k and minutes are integers):

  ["B", worker, [[bucket, last seq, last n]…]]       begins a segment
  ["T", tid, org, bucket, key, route, method, period start, [[meter, units]…], {meter: [[counter, expires_ms]…]}, dimensions]
                                                    names the facts that equal calls share; dimensions only where there are any
  ["O", xid, tid, minute]                           open since an earlier segment
  ["A", tid, epoch, n, xid, k, minute]              k calls charged by admit n, exchanges xid … xid+k-1
  ["F", tid, epoch, n, xid, k, minute]              k calls passed by a failure rule; n is 0 if none was asked for them
  ["P", xid, tid, minute, in, out, {meter: units}]  progress of a long exchange, weighed since the last record
  ["E", xid, tid, minute, cause, status class, ms, in, out, {meter: units}]
                                                    ended; with a cause, what admission charged goes back
  ["N", tid, minute, status class, ms, in, out, {meter: units}, [xid…]]
                                                    all these ended alike, and paid; the rest is what they come to together
  ["D", xid, tid, epoch, n, k, minute]              an exchange drew k units by admit n, to be used or given back (hands.py)
  ["L", xid, tid, epoch, n, k, minute]              a failure rule let it have k units; n as with F
  ["U", xid, tid, minute, k]                        so many units of those drawn in that minute are used
  ["K", xid]                                        it uses no more: what is left in its hand goes back
  ["H", xid, [[tid, minute, k]…]]                   in its hand since an earlier segment
  ["R", tid, epoch, n, k]                           k grants of admit n that were never forwarded: refunded
  ["G", bucket, n, epoch, [[tid, k]…]]              admit n, unanswered, had charged k calls of each tid
  ["M", [record…]]                                  several, written as one; no cut is among them
  ["C", bucket, seq]                                the bucket's records up to here are batch seq
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from metering.model.ledger import FACT, RETURNED, row_field

from .hands import Hands
from .running import Running

Record = list[Any]
_CLASSES = tuple(f"{FACT}{status_class}" for status_class in range(10))
_MS, _IN, _OUT = FACT + "ms", FACT + "in", FACT + "out"


_tids = count(1)


def next_tid() -> int:
    """A number for a template: no two of a process are alike."""
    return next(_tids)


@dataclass(slots=True, eq=False)
class Template:
    """The facts that equal calls share; `costs` are charged at admission, `counters` by meter are what they move.

    `dimensions` is the ledger's: a JSON object, or empty.
    """

    tid: int
    org_id: str
    bucket: int
    key_id: int
    route_id: int
    method: str
    period_start: int
    costs: tuple[tuple[str, int], ...]
    counters: dict[str, tuple[tuple[str, int], ...]]
    dimensions: str = ""
    charges: tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...] = field(init=False)  # each cost with the counters it moves
    _rows: "Rows | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.charges = tuple((meter, units, self.counters.get(meter, ())) for meter, units in self.costs)

    def rows(self, minute: int) -> "Rows":
        """The ledger fields of that minute. Those of the latest minute are kept: an old one, as a return asks for, comes seldom."""
        rows = self._rows
        if rows is None or rows.minute != minute:
            rows = Rows(self, minute)
            if self._rows is None or self._rows.minute < minute:
                self._rows = rows
        return rows

    @property
    def has_rows(self) -> bool:
        return self._rows is not None

    def forget_rows(self, before: int) -> None:
        if self._rows is not None and self._rows.minute < before:
            self._rows = None

    def record(self) -> Record:
        costs, counters = [list(c) for c in self.costs], {m: [list(c) for c in cs] for m, cs in self.counters.items()}
        record = ["T", self.tid, self.org_id, self.bucket, self.key_id, self.route_id, self.method, self.period_start, costs, counters]
        return [*record, self.dimensions] if self.dimensions else record

    @classmethod
    def of(cls, record: Record) -> "Template":
        _, tid, org_id, bucket, key_id, route_id, method, period_start, costs, counters, *dimensions = record
        return cls(
            tid, org_id, bucket, key_id, route_id, method, period_start,
            tuple((m, u) for m, u in costs), {m: tuple((k, e) for k, e in cs) for m, cs in counters.items()}, *dimensions,
        )  # fmt: skip


class Rows(dict[str, str]):
    """Measure -> ledger field, of equal calls in one minute. Facts are not kept apart by dimension: nobody could read them so."""

    __slots__ = ("_after", "_bare", "_before", "minute")

    def __init__(self, of: Template, minute: int) -> None:
        self.minute = minute
        field = row_field(minute, of.period_start, of.org_id, "\0", of.route_id, of.method, of.key_id)
        self._before, self._bare = field.split("\0")
        self._after = self._bare + of.dimensions

    def __missing__(self, measure: str) -> str:
        field = self[measure] = self._before + measure + (self._bare if measure.startswith(FACT) else self._after)
        return field


Moves = dict[str, int]


@dataclass(slots=True)
class Sums:
    """What a bucket's records add up to since the last cut."""

    ledger: dict[str, int] = field(default_factory=dict)
    moves: Moves = field(default_factory=dict)  # counters that admission did not move
    charged: dict[int, Moves] = field(default_factory=dict)  # by epoch: moved by admission, gone with its epoch
    refunded: dict[int, Moves] = field(default_factory=dict)  # by epoch: to be taken back if that epoch still stands
    expires: dict[str, int] = field(default_factory=dict)

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
        self.seqs: dict[int, int] = {}
        self.by_rule: dict[tuple[int, int], dict[int, int]] = {}  # (bucket, n) -> tid -> calls passed, not yet resolved
        self.last_n: dict[int, int] = {}  # bucket -> the last n that a record speaks of
        self.rule_passed: dict[str, int] = {}  # counter -> calls passed by rule, for the grace of a restart
        self.next_xid = 1
        self.hands = Hands()
        self._sums: dict[int, Sums] = {}
        self._minute = 0
        self._named_rows: list[Template] = []  # who has fields of that minute
        self._running: dict[int, list[Running]] = {}  # bucket -> what is not folded into its sums yet

    def apply(self, record: Record) -> Batch | None:
        """Take one record; a cut gives the batch. Raises KeyError for a tid that was never named."""
        return _MEANING[record[0]](self, *record[1:])

    def named(self, template: Template) -> None:
        self.templates[template.tid] = template

    # --- what runs up ----------------------------------------------------------------------------------------------
    def run(self, running: Running, minute: int, epoch: int) -> None:
        """From here on `running` adds up calls of this minute and this epoch."""
        if running.minute >= 0:
            self._fold(running)
        else:
            self._running.setdefault(running.template.bucket, []).append(running)
        if minute > self._minute:
            self._forget_rows(minute)
        if not running.template.has_rows:
            self._named_rows.append(running.template)
        running.minute, running.epoch, running.opened = minute, epoch, (running.template.tid, minute)

    def _forget_rows(self, minute: int) -> None:
        """The fields of a minute that has passed: most who called then will not call again soon."""
        for template in self._named_rows:
            template.forget_rows(minute)
        self._named_rows.clear()
        self._minute = minute

    def _settle(self, bucket: int) -> None:
        for running in self._running.pop(bucket, ()):
            self._fold(running)
            running.minute = -1

    def _fold(self, running: Running) -> None:
        """Add to the sums what the records of these calls, one by one, would have added."""
        template = running.template
        sums, rows = self._bucket(template), template.rows(running.minute)
        ledger = sums.ledger
        if running.paid:
            running.spread()
        if running.charged:
            self._charge(template, sums, sums.charged.setdefault(running.epoch, {}), rows, running.charged)
            running.charged = 0
        if running.passed:
            self._charge(template, sums, sums.moves, rows, running.passed)
            self._pass(template, running.passed)
            running.passed = 0
        if running.exchanges:
            for status_class, count in running.exchanges.items():
                name = rows[_CLASSES[status_class]]
                ledger[name] = ledger.get(name, 0) + count
            name = rows[_MS]
            ledger[name] = ledger.get(name, 0) + running.ms
            running.exchanges.clear()
            running.ms = 0
        if running.weighed or running.bytes_in or running.bytes_out:
            self._moved(template, sums, rows, running.bytes_in, running.bytes_out, running.weighed)
            running.bytes_in = running.bytes_out = 0
            running.weighed.clear()

    @property
    def sums(self) -> dict[int, Sums]:
        """Bucket -> what its records add up to since its last cut."""
        for bucket in list(self._running):
            self._settle(bucket)
        return self._sums

    def dirty(self) -> list[int]:
        """The buckets with records since their last cut."""
        return list({**self._sums, **self._running})

    def _bucket(self, template: Template) -> Sums:
        sums = self._sums.get(template.bucket)
        if sums is None:
            sums = self._sums[template.bucket] = Sums()
        return sums

    # --- what a record adds ----------------------------------------------------------------------------------------
    def _move(self, sums: Sums, into: Moves, template: Template, meter: str, units: int) -> None:
        for key, expires_ms in template.counters.get(meter, ()):
            into[key] = into.get(key, 0) + units
            sums.expires[key] = expires_ms

    def _charge(self, template: Template, sums: Sums, into: Moves, rows: Rows, k: int) -> None:
        ledger, expires = sums.ledger, sums.expires
        for meter, units, counters in template.charges:
            units *= k
            name = rows[meter]
            ledger[name] = ledger.get(name, 0) + units
            for key, expires_ms in counters:
                into[key] = into.get(key, 0) + units
                expires[key] = expires_ms

    def _pass(self, template: Template, k: int) -> None:
        for counters in template.counters.values():
            for key, _ in counters:
                _add(self.rule_passed, key, k)

    def _moved(self, template: Template, sums: Sums, rows: Rows, bytes_in: int, bytes_out: int, weighed: dict[str, int]) -> None:
        ledger, moves, expires = sums.ledger, sums.moves, sums.expires
        for meter, units in weighed.items():
            name = rows[meter]
            ledger[name] = ledger.get(name, 0) + units
            for key, expires_ms in template.counters.get(meter, ()):
                moves[key] = moves.get(key, 0) + units
                expires[key] = expires_ms
        if bytes_in:
            name = rows[_IN]
            ledger[name] = ledger.get(name, 0) + bytes_in
        if bytes_out:
            name = rows[_OUT]
            ledger[name] = ledger.get(name, 0) + bytes_out

    # --- the records -----------------------------------------------------------------------------------------------
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

    def _opened(self, tid: int, n: int, xid: int, k: int, minute: int) -> Template:
        template = self.templates[tid]
        self.open.update(dict.fromkeys(range(xid, xid + k), (tid, minute)))
        self.next_xid = max(self.next_xid, xid + k)
        self._spoke_of(template.bucket, n)
        return template

    def _on_A(self, tid: int, epoch: int, n: int, xid: int, k: int, minute: int) -> None:
        template = self._opened(tid, n, xid, k, minute)
        sums = self._bucket(template)
        self._charge(template, sums, sums.charged.setdefault(epoch, {}), template.rows(minute), k)

    def _on_F(self, tid: int, epoch: int, n: int, xid: int, k: int, minute: int) -> None:
        template = self._opened(tid, n, xid, k, minute)
        sums = self._bucket(template)
        self._charge(template, sums, sums.moves, template.rows(minute), k)
        self._pass(template, k)
        self.passed_for(template, n, k)

    def passed_for(self, template: Template, n: int, k: int) -> None:
        """A rule let `k` calls pass for which admit `n` (0: none) was asked, and has not answered."""
        if n:
            passed = self.by_rule.setdefault((template.bucket, n), {})
            passed[template.tid] = passed.get(template.tid, 0) + k

    def _on_P(self, xid: int, tid: int, minute: int, bytes_in: int, bytes_out: int, weighed: dict[str, int]) -> None:
        template = self.templates[tid]
        moved = {meter: units for meter, units in weighed.items() if units}
        self._moved(template, self._bucket(template), template.rows(minute), bytes_in, bytes_out, moved)

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
        self._on_P(xid, tid, minute, bytes_in, bytes_out, weighed)
        if status_class:
            template = self.templates[tid]
            ledger, rows = self._sums[template.bucket].ledger, template.rows(minute)
            _add(ledger, rows[_CLASSES[status_class]], 1)
            _add(ledger, rows[_MS], ms)
        self.close(xid, cause)

    def close(self, xid: int, cause: str) -> None:
        """The exchange is in flight no more; with a cause, what admission charged goes back in the minute it was charged in."""
        opened = self.open.pop(xid, None)
        if not cause or opened is None:
            return
        template = self.templates[opened[0]]
        sums, rows = self._bucket(template), template.rows(opened[1])
        for meter, units in template.costs:
            _add(sums.ledger, rows[meter], -units)
            _add(sums.ledger, rows[RETURNED + meter], units)
            self._move(sums, sums.moves, template, meter, -units)

    def _on_N(
        self, tid: int, minute: int, status_class: int, ms: int, bytes_in: int, bytes_out: int, weighed: dict[str, int], xids: list[int]
    ) -> None:
        template = self.templates[tid]
        sums, rows = self._bucket(template), template.rows(minute)
        self._moved(template, sums, rows, bytes_in, bytes_out, weighed)
        if status_class:
            _add(sums.ledger, rows[_CLASSES[status_class]], len(xids))
            _add(sums.ledger, rows[_MS], ms)
        for xid in xids:
            self.open.pop(xid, None)

    def _on_D(self, xid: int, tid: int, epoch: int, n: int, k: int, minute: int) -> None:
        template = self.templates[tid]
        sums = self._bucket(template)
        self._charge(template, sums, sums.charged.setdefault(epoch, {}), template.rows(minute), k)
        self._drew(xid, template, n, k, minute)

    def _on_L(self, xid: int, tid: int, epoch: int, n: int, k: int, minute: int) -> None:
        template = self.templates[tid]
        sums = self._bucket(template)
        self._charge(template, sums, sums.moves, template.rows(minute), k)
        self._pass(template, 1)  # grace counts what was asked for, not how much
        self.passed_for(template, n, k)
        self._drew(xid, template, n, k, minute)

    def _drew(self, xid: int, template: Template, n: int, k: int, minute: int) -> None:
        self.hands.draw(xid, (template.tid, minute), k)
        self._spoke_of(template.bucket, n)

    def _on_U(self, xid: int, tid: int, minute: int, k: int) -> None:
        self.hands.use(xid, (tid, minute), k)

    def _on_K(self, xid: int) -> None:
        for tid, minute, left in self.hands.take(xid):
            template = self.templates[tid]
            sums = self._bucket(template)
            self._charge(template, sums, sums.moves, template.rows(minute), -left)

    def _on_H(self, xid: int, rows: list[list[int]]) -> None:
        self.hands.holds(xid, rows)

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
        self._settle(bucket)
        self.seqs[bucket] = seq
        return Batch(bucket, seq, self._sums.pop(bucket, Sums()))


_MEANING: dict[str, Callable[..., Batch | None]] = {kind: getattr(Tally, f"_on_{kind}") for kind in "BTOAFPENDLUKHRGMC"}


_MINUTE_AT = {"O": 3, "A": 6, "F": 6, "P": 3, "E": 3, "N": 2, "D": 6, "L": 6, "U": 3}


def minute_of(record: Record) -> int:
    """The minute that a record speaks of, the latest of several; 0 where it speaks of none."""
    if record[0] == "M":
        return max(minute_of(each) for each in record[1])
    at = _MINUTE_AT.get(record[0])
    return int(record[at]) if at is not None else 0


def replay(records: Iterator[Record]) -> tuple[Tally, list[Batch]]:
    """Fold a whole journal; the batches that were cut, in order, and the state at its end."""
    tally, batches = Tally(), []
    for record in records:
        batch = tally.apply(record)
        if batch is not None:
            batches.append(batch)
    return tally, batches
