"""The calls that this worker has in flight under concurrency limits, bucket by bucket, and how it says so (lua/slots.lua).

It says absolute numbers: what was lost on the way is right again with the next word, and what comes late is older than that.
A worker that is not heard of for some seconds counts for nothing any more, so a killed one blocks nobody for long.
"""

from collections.abc import Iterable

from metering.model import keys
from metering.store.redis.link import pack

from .charges import Charge
from .limits import SlotLimit
from .scripts import SLOTS
from .wire import bulks

BEAT_SECONDS = 1.0
_ALL_EVERY = 5  # beats: what is held is said again long before the store forgets it


class Seats:
    """One bucket. `due`: something has to be said, be it only that this worker lives."""

    __slots__ = ("_beats", "_number", "_unsaid", "bucket", "due", "held")

    def __init__(self, bucket: int) -> None:
        self.bucket = bucket
        self.held: dict[str, int] = {}
        self.due = False
        self._unsaid: set[str] = set()
        self._number = self._beats = 0

    def take(self, slots: Iterable[SlotLimit], count: int) -> None:
        for slot in slots:
            self.held[slot.key] = self.held.get(slot.key, 0) + count

    def give(self, slots: Iterable[SlotLimit], count: int = 1) -> None:
        """`count` calls have ended."""
        for slot in slots:
            left = self.held.get(slot.key, 0) - count
            if left > 0:
                self.held[slot.key] = left
            else:
                self.held.pop(slot.key, None)
            self._unsaid.add(slot.key)
        self.due = True

    def unsure(self, slots: Iterable[SlotLimit]) -> None:
        """The store may take these for something else."""
        self._unsaid.update(slot.key for slot in slots)
        self.due = True

    def say_all(self) -> None:
        """The store may have forgotten what is held here."""
        self._unsaid.update(self.held)
        self.due = True

    def beat(self) -> None:
        self._beats += 1
        self.due = True
        if self._beats % _ALL_EVERY == 0:
            self.say_all()

    def statement(self, tag: str, worker: str) -> bytes:
        """The command that says what is unsaid."""
        unsaid, self._unsaid, self.due = sorted(self._unsaid), set(), False
        self._number += 1
        names = (keys.epoch(self.bucket), keys.alive(self.bucket), *unsaid)
        return pack(("EVALSHA", SLOTS.sha, len(names), *names, tag, worker, self._number, *(self.held.get(key, 0) for key in unsaid)))

    def words(self, charge: Charge) -> bytes:
        """What an admit says of the slots of this charge: after all its other arguments."""
        self._number += 1
        words = [self._number]
        for slot in charge.slots:
            words += [slot.concurrency.limit, int(slot.shadow), self.held.get(slot.key, 0)]
        return bulks(words)
