"""What the journals of some folders say, read without touching them: batches of each worker, and what was not cut yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from billing.model.conservation import Key
from gateway.tally import Sums, Tally
from metering.model import keys
from metering.model.ledger import FACT, RETURNED, parse
from metering.model.quota import Window
from metering.store import journal as journals


@dataclass(slots=True)
class Units:
    """Net quantity, and units returned."""

    net: int = 0
    returned: int = 0

    def add(self, measure: str, quantity: int) -> None:
        if measure.startswith(RETURNED):
            self.returned += quantity
        else:
            self.net += quantity


Rows = dict[Key, Units]


def rows_of(ledger: Iterable[tuple[str, int]]) -> Rows:
    """Ledger fields by organization, meter and period. Raises ValueError for what is no ledger field."""
    found: Rows = {}
    for name, quantity in ledger:
        row = parse(name)
        if not row.measure.startswith(FACT):
            key = Key(row.org_id, row.measure.removeprefix(RETURNED), row.period_start * 1000)
            found.setdefault(key, Units()).add(row.measure, quantity)
    return found


@dataclass(slots=True)
class Journal:
    """One worker's. `batches` by bucket, then by seq; `tail` is what is not cut yet. `by_rule`: buckets with an admit in doubt."""

    worker: str
    batches: dict[int, dict[int, Sums]] = field(default_factory=dict)
    tail: dict[int, Sums] = field(default_factory=dict)
    by_rule: set[int] = field(default_factory=set)

    def activity(self) -> dict[Key, int]:
        """A number for each key that changes whenever the journal does."""
        found: dict[Key, int] = {}
        every = [*self.tail.values(), *(sums for batches in self.batches.values() for sums in batches.values())]
        for sums in every:
            for key, units in rows_of(sums.ledger.items()).items():
                found[key] = found.get(key, 0) + units.net + 3 * units.returned
        return found


def read(folders: Sequence[Path]) -> dict[str, Journal]:
    """Worker -> its journal; of a copy and the original the first that is named."""
    found: dict[str, Journal] = {}
    for folder in folders:
        for worker in sorted({path.name.rsplit(".", 2)[0] for path in folder.glob("*.log")}):
            if worker not in found:
                found[worker] = _read(folder, worker)
    return found


def _read(folder: Path, worker: str) -> Journal:
    tally, journal = Tally(), Journal(worker)
    for _, path in journals.segments(folder, worker):
        try:
            for payload in journals.read(path):
                batch = tally.apply(orjson.loads(payload))
                if batch is not None:
                    journal.batches.setdefault(batch.bucket, {})[batch.seq] = batch.sums
        except FileNotFoundError:
            continue  # trimmed meanwhile: all of it has arrived
    journal.tail = tally.sums
    journal.by_rule = {bucket for bucket, _ in tally.by_rule}
    return journal


def period_counter(key: Key) -> str:
    """The counter that every call of this key moves."""
    return keys.counter(key.org_id, key.meter, keys.scope(route_id=None, key_id=None), Window.PERIOD, key.start_ms)


def held(sums: Sums, epoch: int, counter: str) -> int:
    """What a counter has of this before it is shipped: what admission charged under the standing epoch, refunds included."""
    return sums.charged.get(epoch, {}).get(counter, 0) + sums.refunded.get(epoch, {}).get(counter, 0)
