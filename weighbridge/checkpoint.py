"""A gateway alone keeps its counts here: the journals of this host, folded into one value a counter until its window ends.

Stands where Postgres stands in a full house (aggregator/truth.py): recovery takes epochs, marks and counters from it,
and the workers trim their journals by its marks. Nothing is billed from it.
"""

import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from aggregator.truth import Counters, Epochs, Standing
from gateway.recorder import records
from gateway.tally import replay
from metering.model import keys
from metering.model.ledger import FACT, RETURNED, Row, parse
from metering.model.period import window_at
from metering.model.quota import Window
from metering.model.seeding import Begun
from metering.store import journal as journals

FILE = "checkpoint.json"


class Checkpoint:
    """`fold` takes in what the journals hold beyond the marks; the file is replaced whole, and synced, before it counts.

    `host` names this folder for good.
    """

    def __init__(self, journal_dir: Path) -> None:
        self._directory = journal_dir
        self._path = journal_dir / FILE
        self._epochs: dict[int, int] = dict.fromkeys(range(keys.BUCKETS), 0)
        self._counters: dict[str, tuple[int, int]] = {}  # key -> (value, expires_at_ms)
        self._windows: dict[str, tuple[int, int]] = {}  # the same of every window of an organization, whether a quota looks at it or not
        self.folded: dict[str, dict[int, int]] = {}  # worker -> bucket -> seq
        self.host = secrets.token_hex(8)
        self._read()

    def _read(self) -> None:
        try:
            stored = json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        self.host = stored["host"]
        self._epochs |= {int(bucket): epoch for bucket, epoch in stored["epochs"].items()}
        self._counters = {key: (value, expires) for key, (value, expires) in stored["counters"].items()}
        self._windows = {key: (value, expires) for key, (value, expires) in stored.get("windows", {}).items()}
        self.folded = {worker: {int(b): seq for b, seq in marks.items()} for worker, marks in stored["marks"].items()}

    def _save(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            held = {"epochs": self._epochs, "counters": self._counters, "windows": self._windows, "marks": self.folded}
            json.dump({"host": self.host, **held}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def fold(self, now_ms: int) -> None:
        """Take in every batch that was cut since, forget counters whose window is long over and workers without files."""
        present = journals.workers(self._directory)
        for worker in present:
            self._fold(worker)
        self.folded = {worker: marks for worker, marks in self.folded.items() if worker in present}
        self._counters = {key: (value, expires) for key, (value, expires) in self._counters.items() if expires > now_ms}
        self._windows = {key: (value, expires) for key, (value, expires) in self._windows.items() if expires > now_ms}
        self._save()

    def _fold(self, worker: str) -> None:
        marks = self.folded.setdefault(worker, {})
        _, batches = replay(records(self._directory, worker))
        for batch in batches:
            if batch.seq <= marks.get(batch.bucket, 0):
                continue
            marks[batch.bucket] = batch.seq
            for key, delta in batch.sums.ledger_moves().items():
                value, expires = self._counters.get(key, (0, 0))
                self._counters[key] = (value + delta, max(expires, batch.sums.expires[key]))
            for field, quantity in batch.sums.ledger.items():
                self._add_to_windows(parse(field), quantity)

    def _add_to_windows(self, row: Row, quantity: int) -> None:
        if row.measure[0] in (FACT, RETURNED):
            return
        for window in (Window.HOUR, Window.DAY, Window.MONTH):
            start_ms, end_ms = window_at(window, 0, row.minute * 60_000)
            key = keys.counter(row.org_id, row.measure, keys.scope(route_id=None, key_id=None), window, start_ms)
            value, _ = self._windows.get(key, (0, 0))
            self._windows[key] = (value + quantity, keys.counter_expires_ms(window, end_ms))

    def offset(self, begun: Begun) -> int:
        """What its period has and its window has not, as far as it is folded. Both are of one fold."""
        return self._counters.get(begun.period_counter, (0, 0))[0] - self._windows.get(begun.counter, (0, 0))[0]

    # --- the truth that recovery asks ------------------------------------------------------------------------------
    async def states(self) -> list[tuple[int, int, int]]:
        return [(bucket, epoch, 0) for bucket, epoch in sorted(self._epochs.items())]

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator["Checkpoint"]:
        """One supervisor a folder, so nobody else is at it."""
        yield self

    async def raise_epochs(self, shown: Mapping[int, int]) -> Epochs:
        for bucket, seen in shown.items():
            self._epochs[bucket] = max(self._epochs[bucket], seen) + 1
        self._save()
        return {bucket: (self._epochs[bucket], 0) for bucket in shown}

    async def marks(self, buckets: Sequence[int]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {bucket: {} for bucket in buckets}
        for worker, marks in self.folded.items():
            for bucket in found.keys() & marks.keys():
                found[bucket][worker] = marks[bucket]
        return found

    async def counters(self, buckets: Sequence[int], now_ms: int) -> Counters:
        found: Counters = {bucket: {} for bucket in buckets}
        for key, (value, expires) in (*self._counters.items(), *self._windows.items()):
            bucket = keys.bucket_in(key)
            if bucket in found and expires > now_ms:  # a counter that began in the middle of its window holds less than the window
                found[bucket][key] = (max(value, found[bucket].get(key, (value, 0))[0]), expires)
        return found

    async def standing(self, buckets: Sequence[int], now_ms: int) -> Standing:
        return Standing(await self.marks(buckets), await self.counters(buckets, now_ms))

    async def knows_gateways(self) -> bool:
        return bool(self.folded)
