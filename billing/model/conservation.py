"""Is every unit where it must be, once? What each place says of one organization's meter in one period, and how they differ.

Pure. weighbridge/reconcile/ reads the places; the laws are here:

  admitted = charged + returned
  charged  = what Postgres has (events = hours = period) + what the store has settled and Postgres has not + what only journals have
  counter  = charged, less what journals have and admission had no part in
  settled in the store = what the journals say was shipped and Postgres has not
  rated    = reported + unreported;   reported = Σ outbox;   delivered = Stripe's summary

Each difference names the place that is wrong, as far as the others tell: of three tables of which two agree, the third.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from metering.model.clock import isoformat


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One organization's meter in one period."""

    org_id: str
    meter: str
    start_ms: int


class Place(StrEnum):
    """Where a unit may be missing, or too many."""

    EVENTS = "usage_events"
    HOURS = "usage_hourly"
    PERIOD = "usage_period"
    RETURNED = "returned"
    STORE = "store"
    COUNTER = "counter"
    JOURNAL = "journal"
    UNREADABLE = "unreadable"
    BUCKET = "bucket"
    HANDED_OVER = "handed_over"
    UNREPORTED = "unreported"
    DEAD = "dead"
    UNKNOWN = "unknown"
    STRIPE = "stripe"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`units` that are missing at `place` (below zero: too many there); None where nobody can say how many."""

    place: Place
    units: int | None
    sentence: str
    key: Key | None = None

    def to_json(self) -> dict[str, Any]:
        where = {"org_id": self.key.org_id, "meter": self.key.meter, "period_start": isoformat(self.key.start_ms)} if self.key else {}
        return {"place": self.place.value, "missing_units": self.units, "sentence": self.sentence, **where}


@dataclass(slots=True, kw_only=True)
class Outbox:
    """What the outbox rows of one meter add up to, by state, in report units. `tried` are pending rows that may have arrived."""

    delivered: int = 0
    pending: int = 0
    tried: int = 0
    dead: int = 0
    unknown: int = 0

    @property
    def all(self) -> int:
        return self.delivered + self.pending + self.dead + self.unknown


@dataclass(slots=True, kw_only=True)
class Books:
    """What each place says of one key. Quantities are net of returns, in the meter's base unit.

    `shipped` None: journals that were shipped from could not be read. `counter` None: it has none to hold (its period is over,
    or its bucket is being restored). `held` is what of `unshipped` the counter has already. `moving`: it changed while it was read;
    `partly`: living workers keep journals that were not read.
    `rated` None: nothing of it costs anything. `overdue`: its period has been over for so long that everything should have been cut.
    """

    key: Key
    events: int = 0
    events_returned: int = 0
    hours: int = 0
    hours_returned: int = 0
    period: int = 0
    settled: int = 0
    settled_returned: int = 0
    shipped: int | None = None
    unshipped: int = 0
    unshipped_returned: int = 0
    held: int = 0
    counter: int | None = None
    moving: bool = False
    partly: bool = False
    rated: int | None = None
    reported: int = 0
    outbox: int = 0
    overdue: bool = False

    @property
    def flushed(self) -> int:
        """What Postgres has, by most of its tables."""
        (value, votes), *_ = Counter((self.events, self.hours, self.period)).most_common()
        return value if votes > 1 else self.period

    @property
    def on_the_way(self) -> int:
        """What the store has and Postgres has not; by the journals where they can be read."""
        return self.settled if self.shipped is None else self.shipped

    @property
    def charged(self) -> int:
        return self.flushed + self.on_the_way + self.unshipped

    @property
    def returned(self) -> int:
        return self.events_returned + self.settled_returned + self.unshipped_returned

    @property
    def admitted(self) -> int:
        return self.charged + self.returned

    @property
    def unreported(self) -> int:
        return 0 if self.rated is None else self.rated - self.reported


def differences(books: Books) -> list[Difference]:
    """Everything that is wrong with one key's books."""
    return [*_tables(books), *_store(books), *_counter(books), *_overage(books)]


def _tables(books: Books) -> list[Difference]:
    found = []
    for place, value in ((Place.EVENTS, books.events), (Place.HOURS, books.hours), (Place.PERIOD, books.period)):
        missing = books.flushed - value
        if missing:
            what = f"billing.{place.value} has {value:,}, the other tables of the ledger {books.flushed:,}"
            found.append(_of(books, place, missing, f"{what}: somebody changed rows by hand, or a restore was partial"))
    missing = books.events_returned - books.hours_returned
    if missing:
        what = f"billing.usage_events shows {books.events_returned:,} units returned, billing.usage_hourly {books.hours_returned:,}"
        found.append(_of(books, Place.RETURNED, missing, f"{what}: somebody changed rows by hand, or a restore was partial"))
    return found


def _store(books: Books) -> list[Difference]:
    if books.shipped is None or books.shipped == books.settled:
        return []
    missing = books.shipped - books.settled
    if missing > 0:
        why = f"the store has lost {missing:,} units that journals shipped and Postgres does not have: recovery would bring them back"
    else:
        why = f"the store holds {-missing:,} units on their way to Postgres that no journal shows: somebody else wrote them"
    return [_of(books, Place.STORE, missing, why)]


def _counter(books: Books) -> list[Difference]:
    """While it moves, what journals have beyond the store's marks may be in the counter already, or not yet."""
    if books.counter is None:
        return []
    least = books.flushed + books.on_the_way + (min(0, books.held) if books.moving else books.held)
    most = books.flushed + books.on_the_way + max(0, books.held)
    if books.counter < least:
        missing = least - books.counter
        why = f"the counter says {books.counter:,}, the ledger {least:,}: {missing:,} more may pass than should"
        return [_of(books, Place.COUNTER, missing, why)]
    if books.counter > most and not (books.partly and books.moving):
        more = books.counter - most
        why = f"the counter says {books.counter:,}, the ledger {most:,}: {more:,} were charged that neither journals nor Postgres show"
        return [_of(books, Place.COUNTER, -more, f"{why} (lost with a host's disk, or a worker that hangs with its grants)")]
    return []


def _overage(books: Books) -> list[Difference]:
    found = []
    if books.reported != books.outbox:
        missing = books.reported - books.outbox
        what = f"billing.usage_period says that {books.reported:,} report units were handed over, the outbox adds up to {books.outbox:,}"
        how = "deleted" if missing > 0 else "added"
        found.append(_of(books, Place.HANDED_OVER, missing, f"{what}: rows of the outbox were {how} by hand"))
    if books.overdue and books.unreported:
        what = f"{books.rated or 0:,} report units are due for a period that is over, and {books.reported:,} were cut"
        found.append(_of(books, Place.UNREPORTED, books.unreported, f"{what}: no aggregator has cut overages since"))
    return found


def _of(books: Books, place: Place, units: int, sentence: str) -> Difference:
    return Difference(place=place, units=units, sentence=sentence, key=books.key)


@dataclass(slots=True, kw_only=True)
class Told:
    """What Stripe was told of one organization's meter and what its summary says, in report units. `summary` None: it was not asked."""

    key: Key
    outbox: Outbox = field(default_factory=Outbox)
    summary: int | None = None


def differences_at_stripe(told: Told) -> list[Difference]:
    """Rows that Stripe refused, rows in doubt, and a summary that is not what was delivered."""
    rows, found = told.outbox, list[Difference]()
    if rows.dead:
        why = f"Stripe refused rows of {rows.dead:,} report units: see last_error in billing.outbox"
        found.append(_at(told, Place.DEAD, rows.dead, why))
    in_doubt = rows.unknown + rows.tried
    if told.summary is None:
        if rows.unknown:
            found.append(_at(told, Place.UNKNOWN, None, f"it is in doubt whether rows of {rows.unknown:,} report units reached Stripe"))
        return found
    beyond = told.summary - rows.delivered
    if rows.unknown and _within(beyond, in_doubt):
        lacking = in_doubt - beyond - rows.tried
        what = f"of {rows.unknown:,} report units in doubt Stripe's summary shows {min(beyond, rows.unknown, key=abs):,}"
        found.append(_at(told, Place.UNKNOWN, lacking, f"{what}: they were not sent again, as Stripe may have forgotten their identifiers"))
    elif not _within(beyond, in_doubt):
        missing = -beyond if beyond < 0 else in_doubt - beyond
        what = f"Stripe's summary says {told.summary:,} report units, {rows.delivered:,} were delivered"
        why = "events were cancelled there, or it has not counted them yet" if missing > 0 else "somebody else reported, or reported twice"
        found.append(_at(told, Place.STRIPE, missing, f"{what}{f' and {in_doubt:,} are in doubt' if in_doubt else ''}: {why}"))
    return found


def _within(value: int, bound: int) -> bool:
    return min(0, bound) <= value <= max(0, bound)


def _at(told: Told, place: Place, units: int | None, sentence: str) -> Difference:
    return Difference(place=place, units=units, sentence=sentence, key=told.key)


# --- batches of a worker in a bucket ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker's batches of one bucket: up to where Postgres and the store have them, and those that its journal holds."""

    bucket: int
    worker: str
    committed: int
    taken: int
    in_journal: Sequence[int]


def lost_batches(lane: Lane) -> Difference | None:
    """Batches that neither Postgres nor the store took, and that lie before others in the journal: they are gone."""
    above = [seq for seq in lane.in_journal if seq > max(lane.committed, lane.taken)]
    expected = range(max(lane.committed, lane.taken) + 1, max(above, default=0) + 1)
    gone = sorted(set(expected) - set(above))
    if not gone:
        return None
    which = f"{gone[0]}" if len(gone) == 1 else f"{gone[0]} to {gone[-1]}"
    sentence = f"the journal of {lane.worker} lacks batch {which} of bucket {lane.bucket}, and neither store nor Postgres has it"
    return Difference(place=Place.JOURNAL, units=None, sentence=f"{sentence}: a file was damaged or deleted, its later ones wait")


def totals(found: Mapping[Key, Books]) -> dict[str, int]:
    """The sums of what is still on its way, over all keys."""
    return {
        "in_journals_only": sum(books.unshipped for books in found.values()),
        "in_the_store": sum(books.on_the_way for books in found.values()),
        "unreported": sum(books.unreported for books in found.values()),
    }
