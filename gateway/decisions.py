"""What admission decides, who waits for it and hears of it, and how to read what the script says of one group (lua/admit.lua). Pure."""

import asyncio
from collections.abc import Iterator
from enum import Enum
from typing import Protocol

from .charges import Charge
from .limits import SlotLimit


class Status(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    LATE = "late"
    STALE = "stale"
    PASSED_BY_RULE = "passed_by_rule"
    REFUSED_BY_RULE = "refused_by_rule"


class Decision:
    """`used` stands beside the charge's limits, then its rates (what they are owed), then its slots (calls in flight).

    `refusing` is the index in the same row of the limit that refused. `xid` is 0 where nothing is written down. `beyond` says
    which of the charge's templates it was charged by; `slots` are held until `Admission.release`.
    """

    __slots__ = ("beyond", "refusing", "rule", "slots", "status", "used", "xid")

    def __init__(  # by hand: what a dataclass makes stays interpreted in a compiled module, and each call has one
        self,
        status: Status,
        xid: int = 0,
        used: tuple[int, ...] = (),
        refusing: int = -1,
        rule: str = "",
        beyond: int = 0,
        slots: tuple[SlotLimit, ...] = (),
    ) -> None:
        self.status, self.xid, self.used, self.refusing = status, xid, used, refusing
        self.rule, self.beyond, self.slots = rule, beyond, slots


class Asker(Protocol):
    """Who asks for one call. Once `gone`, its client has left: it leaves the batch, and what it was granted is given back."""

    @property
    def gone(self) -> bool: ...

    def decided(self, decision: Decision) -> None:
        """Called once, never from inside `ask`, when the journal holds what it says. Not called where the asker is gone."""


class Awaiting:
    """An asker for who would rather await."""

    __slots__ = ("future",)

    def __init__(self, future: "asyncio.Future[Decision]") -> None:
        self.future = future

    @property
    def gone(self) -> bool:
        return self.future.done()

    def decided(self, decision: Decision) -> None:
        self.future.set_result(decision)


Group = tuple[Charge, list[Asker]]  # equal calls that wait


def take(waiting: dict[Charge, list[Asker]], most: int, most_keys: int) -> list[Group]:
    """Groups in order of arrival, at most `most` calls, of at most `most_keys` keys; those whose client left are dropped."""
    if len(waiting) == 1:
        charge, askers = waiting.popitem()
        if len(askers) == 1:
            return [] if askers[0].gone else [(charge, askers)]
        waiting[charge] = askers
    groups: list[Group] = []
    taken = names = 0
    for charge in list(waiting):
        names += charge.pieces.key_count
        if names > most_keys and groups:
            break
        askers = [a for a in waiting.pop(charge) if not a.gone]
        if taken + len(askers) > most:
            waiting[charge] = askers[most - taken :]
            askers = askers[: most - taken]
        if askers:
            groups.append((charge, askers))
            taken += len(askers)
        if taken >= most:
            break
    return groups


def said(text: bytes) -> list[tuple[int, int]]:
    """The tickets and numbers of calls in what the store keeps of an admit."""
    words = [int(word) for word in text.split()]
    return list(zip(words[::2], words[1::2], strict=True))


def parts(charge: Charge, granted: int, now: list[int]) -> Iterator[tuple[int, int]]:
    """(beyond, calls) in order of arrival: by which throttles' main limits so many calls were beyond. `now` is what the script said."""
    within = now[charge.shown : charge.shown + charge.throttles]
    done = 0
    while done < granted:
        beyond, upto = 0, granted
        for i, before in enumerate(within):
            if before <= done:
                beyond |= 1 << i
            elif before < upto:
                upto = before
        yield beyond, upto - done
        done = upto


def misses(charge: Charge, granted: int, now: list[int]) -> Iterator[tuple[str, int]]:
    """(meter, calls) that a limit would have refused which only pretends to be one."""
    within = now[charge.shown : charge.shown + charge.throttles]
    subs = iter(within)
    for limit, used in zip(charge.limits, now, strict=False):
        calls = granted - next(subs) if limit.main is not None else granted
        bound = limit.shadowed
        if bound is None or calls <= 0:
            continue
        fitting = max((bound - used + calls * limit.cost) // limit.cost, 0) if limit.cost else (calls if used < bound else 0)
        if fitting < calls:
            yield limit.meter, calls - fitting
    unfit = now[charge.shown + charge.throttles :]
    for rate, missed in zip(charge.rates, unfit, strict=True):
        if missed:
            yield rate.rate.meter or "calls", missed
    for slot, held in zip(charge.slots, now[charge.shown - len(charge.slots) :], strict=False):
        over = min(held - slot.concurrency.limit, granted)
        if slot.shadow and over > 0:
            yield "calls", over
