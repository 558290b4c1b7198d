"""Whether a target is well: what failed calls say (passive), what its answers to probes say (active). Pure; time is an argument.

Three things keep a target out of its upstream's turns, and each ends by itself: a pause after a connection that could not be
opened, an ejection after so many failed calls in a row, a streak of bad answers to probes. Who is out still gets calls where
nobody is in: gateway/balance.py.
"""

from collections.abc import Sequence
from typing import Protocol

from config.gateway import Ejection

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 10.0
FOREVER = float("inf")


class Standing:
    """What is known of one target. Seconds are those of the monotonic clock."""

    __slots__ = ("ejected_for", "ejected_until", "failing", "paused_until", "pauses")

    def __init__(self) -> None:
        self.failing = False
        self.pauses = 0
        self.paused_until = 0.0
        self.ejected_for = 0.0
        self.ejected_until = 0.0

    def out_until(self) -> float:
        """When it is due to come back; 0 or past if it is in, FOREVER if only a good answer to a probe brings it back."""
        return FOREVER if self.failing else max(self.paused_until, self.ejected_until)

    def pause(self, now: float) -> None:
        """No connection could be opened: for a moment, twice as long each time."""
        self.paused_until = now + min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self.pauses)
        self.pauses = min(self.pauses + 1, 10)

    def connects(self) -> None:
        """A connection could be opened."""
        self.pauses, self.paused_until = 0, 0.0

    def eject(self, rule: Ejection, now: float) -> None:
        """Twice as long as the last time, unless it then served for as long as it had been out."""
        again = self.ejected_for > 0 and now < self.ejected_until + self.ejected_for
        self.ejected_for = min(rule.most_s, self.ejected_for * 2 if again else rule.base_s)
        self.ejected_until = now + self.ejected_for

    def recover(self) -> None:
        """It is known to be well: whatever it was out for is over."""
        self.failing = False
        self.ejected_for = self.ejected_until = 0.0
        self.connects()


class Judged(Protocol):
    """A target, as far as it can be judged; gateway.target.Target."""

    @property
    def failures(self) -> int: ...
    @property
    def standing(self) -> Standing: ...


def ejects(rule: Ejection | None, one: Judged, among: Sequence[Judged], now: float) -> bool:
    """Whether its failures in a row put this target out, itself one of `among`; if so, it is out now.

    Never more than half are out at once, those that fail their probes included: what is left must carry the calls. A target that
    came back still has its failures, so its first call decides: well, or out again at once.
    """
    if rule is None or one.failures < rule.failures or one.standing.out_until() == FOREVER or now < one.standing.ejected_until:
        return False
    out = sum(1 for each in among if each.standing.failing or now < each.standing.ejected_until)
    if (out + 1) * 2 > len(among):
        return False
    one.standing.eject(rule, now)
    return True


class Streak:
    """Answers to probes in a row. The first of all decides at once, so that a dead target is known from the start."""

    __slots__ = ("_first", "_needed", "_row", "_well")

    def __init__(self, healthy: int, unhealthy: int) -> None:
        self._needed = {True: healthy, False: unhealthy}
        self._first = True
        self._well = True
        self._row = 0

    def heard(self, good: bool) -> bool | None:
        """Whether it is well, where that has just changed (or was heard for the first time); else None."""
        first, self._first = self._first, False
        if first:
            self._well = good
            return good
        if good == self._well:
            self._row = 0
            return None
        self._row += 1
        if self._row < self._needed[good]:
            return None
        self._well, self._row = good, 0
        return good


def verdict(ended: str, status: int | None, count_5xx: bool) -> bool | None:
    """What an exchange says of its target: True well, False not, None nothing. `ended` is one of gateway.outcome.Ended.

    Nothing is said by a client that left or was cut off, nor by a connection that could not be had: that was judged when it was asked for.
    """
    if ended == "complete":
        return not (count_5xx and (status or 0) >= 500)
    return None if ended in ("client_gone", "unreachable", "busy", "cut") else False
