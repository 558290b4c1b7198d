"""Whose turn it is: the targets of one upstream, in turns or by how busy they are, by weight, those that are out passed over.

Where every target is out, every target takes its turns: a call that may fail is better than one that surely does (panic). Nothing
is awaited here; what puts a target out is decided in gateway/health.py.
"""

from collections.abc import Callable, Sequence

from config.gateway import Balance, Ejection
from gateway.health import FOREVER, ejects
from gateway.target import Target
from metering.model.clock import Clock

_Pick = Callable[[Sequence[Target]], Target]


class Group:
    """One upstream's targets. `only` is its target where it has but one: the usual case, in which nothing is to be chosen."""

    __slots__ = ("_changes_at", "_clock", "_in", "_on_ejection", "_pick", "_rule", "_turn", "only", "targets")

    def __init__(
        self,
        targets: Sequence[Target],
        balance: Balance,
        ejection: Ejection | None,
        clock: Clock,
        on_ejection: Callable[[Target], None] = lambda target: None,
    ) -> None:
        """`on_ejection` is told of a target that its failed calls have just put out."""
        self.targets = tuple(targets)
        self.only = self.targets[0] if len(self.targets) == 1 else None
        self._rule, self._clock, self._on_ejection = ejection, clock, on_ejection
        self._turn = 0
        even = len({target.weight for target in self.targets}) < 2
        self._pick: _Pick = self._least if balance == "least_connections" else self._turns if even else self._smooth
        self._in: Sequence[Target] = self.targets
        self._changes_at = FOREVER
        self.changed()

    def choose(self) -> Target:
        """The target of the next call."""
        if self.only is not None:
            return self.only
        if self._changes_at != FOREVER and self._clock.monotonic() >= self._changes_at:
            self.changed()
        target = self._pick(self._in)
        if target.has_room:
            return target
        roomy = [each for each in self._in if each.has_room]
        return self._pick(roomy) if roomy else target

    def order(self, first: Target | None = None) -> Sequence[Target]:
        """All targets to try for one call: `first` (chosen already), then those that are in, then those that are out."""
        if first is None or first not in self.targets:
            first = self.choose()
        if self.only is not None:
            return self.targets
        start = self.targets.index(first) + 1
        rest = [*self.targets[start:], *self.targets[: start - 1]]
        return [first, *sorted(rest, key=lambda target: (target.is_down, not target.has_room))]

    def changed(self) -> None:
        """A target went out or came back: see who is in, and until when that holds."""
        now = self._clock.monotonic()
        out = [target.standing.out_until() for target in self.targets]
        self._in = [target for target, until in zip(self.targets, out, strict=True) if until <= now] or self.targets
        self._changes_at = min((until for until in out if until > now), default=FOREVER)

    def failed(self, target: Target) -> None:
        """A call to it failed."""
        if self.only is None and ejects(self._rule, target, self.targets, self._clock.monotonic()):
            self.changed()
            self._on_ejection(target)

    def _turns(self, among: Sequence[Target]) -> Target:
        turn = self._turn
        if turn >= len(among):
            turn = 0
        self._turn = turn + 1
        return among[turn]

    def _smooth(self, among: Sequence[Target]) -> Target:
        """As nginx does it: everyone earns its weight, the richest serves and pays for all. 5, 1, 1 gives a a b a c a a."""
        total = 0
        best = among[0]
        for target in among:
            total += target.weight
            target.current += target.weight
            if target.current > best.current:
                best = target
        best.current -= total
        return best

    def _least(self, among: Sequence[Target]) -> Target:
        """The least (calls at work + 1) for its weight; among equals, in turns."""
        count = len(among)
        start = self._turn = (self._turn + 1) % count
        best = among[start]
        lowest = (best.in_flight + 1) / best.weight
        for index in range(start + 1 - count, start):
            target = among[index]
            load = (target.in_flight + 1) / target.weight
            if load < lowest:
                best, lowest = target, load
        return best
