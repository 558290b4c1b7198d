"""lua/admit.lua and lua/slots.lua on a real store, under a clock of the test's own, and their meaning as plain Python.

The scripts ask TIME; here they ask a list that the test sets. Nothing expires of itself: expiry is looked at where it matters.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import hiredis
from redis import Redis

from gateway import wire
from gateway.scripts import ADMIT, SLOTS
from metering.model import keys

BUCKET = 7
TAG = "3 runid"
HOUR_MS = 3_600_000
START_US = 1_767_225_600_000_000
LIVES_MS = 5_000
_CLOCK = b"redis.call('LRANGE', 'time', '0', '1')"
_PAID_OFF = b", 'PX', format('%.0f', floor(debt / argv[a + 2] / 1000) + 2))"


def name(kind: str, number: int) -> str:
    return f"wb:{{{BUCKET}}}:{kind}:org:{number}"


@dataclass(frozen=True)
class Limit:
    counter: int
    cost: int
    enforced: int | None


@dataclass(frozen=True)
class Throttle:
    """Beyond `after` on the counter of quota `main`, calls are charged to counter `sub` too."""

    main: int
    after: int
    sub: int
    enforced: int | None


@dataclass(frozen=True)
class Rate:
    key: int
    cost: int
    unit: int
    slope: int
    burst: int
    shadow: bool = False


@dataclass(frozen=True)
class Slot:
    key: int
    limit: int
    shadow: bool = False


@dataclass(frozen=True)
class Group:
    org: str
    version: int | None
    count: int
    limits: tuple[Limit, ...] = ()
    window: str = "now"  # past | now | future
    throttles: tuple[Throttle, ...] = ()
    rates: tuple[Rate, ...] = ()
    slots: tuple[Slot, ...] = ()
    ticket: int = 10
    whole: bool = False  # all of them or none


@dataclass
class Told:
    """What a reply says of one group."""

    status: int
    granted: int
    refusing: int
    used: list[int]
    debts: list[int]
    held: list[int]
    within: list[int]
    unfit: list[int]


@dataclass
class Model:
    """The meaning of admission, without a store: call by call, every limit looked at, then all charged, or none."""

    versions: dict[str, int] = field(default_factory=lambda: {"acme": 1, "globex": 1})
    counters: dict[int, int] = field(default_factory=dict)
    subs: dict[int, int] = field(default_factory=dict)
    debts: dict[int, tuple[Fraction, int]] = field(default_factory=dict)  # in units, as of an instant
    slots: dict[tuple[int, str], int] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    charged: dict[int, int] = field(default_factory=dict)  # by ticket
    now_us: int = START_US

    def admit(self, group: Group, worker: str = "w") -> Told:
        told = Told(0, 0, 0, [], [], [], [0] * len(group.throttles), [0] * len(group.rates))
        if group.version is not None and self.versions.get(group.org) != group.version:
            told.status = -2
        elif group.window != "now":
            told.status = -1
        else:
            before = deepcopy(self)
            for _ in range(group.count):
                refused_by = self.admit_one(group, worker, told)
                if refused_by:
                    told.refusing = refused_by
                    break
                told.granted += 1
            if group.whole and told.refusing:
                vars(self).update(vars(before))
                told.granted, told.within, told.unfit = 0, [0] * len(group.throttles), [0] * len(group.rates)
        told.used = [self.counters.get(limit.counter, 0) for limit in group.limits]
        told.used += [self.subs.get(throttle.sub, 0) for throttle in group.throttles]
        told.debts = [int(self.debt(rate) * rate.unit) for rate in group.rates]
        told.held = [self.in_flight(slot.key, worker) for slot in group.slots]
        return told

    def admit_one(self, group: Group, worker: str, told: Told) -> int:
        """The index of the limit that refuses (the one that lets fewest pass is not asked for here: the first), or 0."""
        beyond = [self.is_beyond(group.limits[t.main], t.after) for t in group.throttles]
        refused = [self.is_full(self.counters.get(x.counter, 0), x.cost, x.enforced) for x in group.limits]
        for throttle, is_beyond in zip(group.throttles, beyond, strict=True):
            cost = group.limits[throttle.main].cost
            refused.append(is_beyond and self.is_full(self.subs.get(throttle.sub, 0), cost, throttle.enforced))
        fits = [self.debt(rate) + rate.cost <= rate.burst for rate in group.rates]
        refused += [not (fit or rate.shadow) for rate, fit in zip(group.rates, fits, strict=True)]
        refused += [not slot.shadow and self.in_flight(slot.key, worker) >= slot.limit for slot in group.slots]
        if any(refused):
            return refused.index(True) + 1
        self.charge(group, worker, beyond, fits, told)
        return 0

    def charge(self, group: Group, worker: str, beyond: list[bool], fits: list[bool], told: Told) -> None:
        for limit in group.limits:
            self.counters[limit.counter] = self.counters.get(limit.counter, 0) + limit.cost
        for i, throttle in enumerate(group.throttles):
            if beyond[i]:
                self.subs[throttle.sub] = self.subs.get(throttle.sub, 0) + group.limits[throttle.main].cost
            else:
                told.within[i] += 1
        for i, rate in enumerate(group.rates):
            if fits[i]:
                self.debts[rate.key] = (self.debt(rate) + rate.cost, self.now_us)
            else:
                told.unfit[i] += 1
        for slot in group.slots:
            self.slots[slot.key, worker] = self.slots.get((slot.key, worker), 0) + 1
            self.beats[worker] = self.now_us // 1000
        ticket = group.ticket + sum(1 << i for i, is_beyond in enumerate(beyond) if is_beyond)
        self.charged[ticket] = self.charged.get(ticket, 0) + 1

    def is_beyond(self, main: Limit, after: int) -> bool:
        used = self.counters.get(main.counter, 0)
        return used + main.cost > after or (main.cost == 0 and used >= after)

    def is_full(self, used: int, cost: int, enforced: int | None) -> bool:
        return enforced is not None and (used + cost > enforced or (cost == 0 and used >= enforced))

    def debt(self, rate: Rate) -> Fraction:
        debt, since = self.debts.get(rate.key, (Fraction(0), 0))
        return max(debt - Fraction((self.now_us - since) * rate.slope, rate.unit), Fraction(0))

    def in_flight(self, key: int, asking: str) -> int:
        """Who asks is alive, however long it was silent."""
        alive = {asking} | {w for w, beat in self.beats.items() if beat + LIVES_MS >= self.now_us // 1000}
        return sum(count for (k, w), count in self.slots.items() if k == key and w in alive)


class Scripts:
    """The scripts on the store, called with the bytes that a worker would send."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url)
        self._connection = self.redis.connection_pool.get_connection()
        self.n = self.number = 0
        assert _PAID_OFF in ADMIT.body
        self.admit_sha = self._load(ADMIT.body.replace(b"call('TIME')", b"call('LRANGE', 'time', '0', '1')").replace(_PAID_OFF, b")"))
        self.slots_sha = self._load(SLOTS.body.replace(b"redis.call('TIME')", _CLOCK))

    def _load(self, body: bytes) -> bytes:
        assert b"'TIME'" not in body
        return str(self.redis.script_load(body.decode())).encode()

    def close(self) -> None:
        self.redis.connection_pool.release(self._connection)
        self.redis.close()

    def reset(self, value: str = TAG) -> None:
        self.redis.flushdb()
        self.redis.set(keys.epoch(BUCKET), value)
        self.redis.hset(keys.versions(BUCKET), mapping={"acme": 1, "globex": 1})
        self.set_clock(START_US)
        self.n = self.number = 0

    def set_clock(self, now_us: int) -> None:
        self.now_us = now_us
        self.redis.delete("time")
        self.redis.rpush("time", now_us // 1_000_000, now_us % 1_000_000)

    def send(self, command: bytes) -> Any:
        self._connection._sock.sendall(command)
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            reader.feed(self._connection._sock.recv(65536))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pieces(self, group: Group) -> wire.Pieces:
        now = self.now_us // 1000
        start = {"now": now - HOUR_MS, "past": now - 3 * HOUR_MS, "future": now + HOUR_MS}[group.window]
        expires, version = 4_000_000_000_000, "" if group.version is None else str(group.version)
        quotas = [(limit.cost, limit.enforced, expires) for limit in group.limits]
        counts = [len(group.throttles), len(group.rates), len(group.slots)]
        words: list[wire.Word] = [*counts] if any(counts) else []
        for t in group.throttles:
            words += [t.main + 1, t.after, group.limits[t.main].cost, "" if t.enforced is None else t.enforced, expires]
        if group.throttles:
            words += [group.ticket + beyond for beyond in range(1, 2 ** len(group.throttles))]
        for rate in group.rates:
            words += [rate.cost * rate.unit, rate.burst * rate.unit, rate.slope, int(rate.shadow)]
        names = [name("q", x.counter) for x in group.limits] + [name("s", t.sub) for t in group.throttles]
        names += [name("r", rate.key) for rate in group.rates] + [name("c", slot.key) for slot in group.slots]
        names += [keys.alive(BUCKET)] if group.slots else []
        return wire.pieces(
            BUCKET, names, ticket=group.ticket, org_id=group.org, version=version, from_ms=start, until_ms=start + 2 * HOUR_MS,
            quotas=quotas, more=words, slots=len(group.slots),
        )  # fmt: skip

    def slot_words(self, group: Group, held: dict[int, int]) -> bytes:
        if not group.slots:
            return b""
        return wire.bulks([self.number, *(word for s in group.slots for word in (s.limit, int(s.shadow), held.get(s.key, 0)))])

    def admit(
        self, batch: Sequence[Group], *, worker: str = "w", n: int | None = None, tag: str = TAG, held: dict[int, int] | None = None
    ) -> Any:
        """The raw reply. `held`: this worker's slots before, by key."""
        self.n, self.number = self.n + 1, self.number + 1
        return self.send(self.command(batch, worker, self.n if n is None else n, tag, held).replace(ADMIT.sha, self.admit_sha))

    def command(self, batch: Sequence[Group], worker: str = "w", n: int = 1, tag: str = TAG, held: dict[int, int] | None = None) -> bytes:
        script = wire.Script()
        script.bucket(BUCKET, len(batch))
        for group in batch:
            script.group(self.pieces(group), -group.count if group.whole else group.count, self.slot_words(group, held or {}))
        return script.packed(wire.who(worker) + wire.number(n) + wire.bulks((tag,)))

    def say(self, worker: str, slots: dict[int, int], *, number: int | None = None, tag: str = TAG) -> int:
        self.number += 1
        names = [keys.epoch(BUCKET), keys.alive(BUCKET), *(name("c", key) for key in slots)]
        said = self.number if number is None else number
        return self.redis.evalsha(self.slots_sha.decode(), len(names), *names, tag, worker, said, *slots.values())  # type: ignore[no-any-return]


def told(batch: Sequence[Group], reply: Sequence[int]) -> list[Told]:
    """The reply, group by group."""
    found, at = [], 0
    for group in batch:
        lengths = [len(group.limits) + len(group.throttles), len(group.rates), len(group.slots), len(group.throttles), len(group.rates)]
        upto = at + 2 + (sum(lengths) if reply[at] >= 0 else 0)
        found.append(_told(lengths, [int(word) for word in reply[at:upto]]))
        at = upto
    assert at == len(reply)
    return found


def _told(lengths: Sequence[int], numbers: list[int]) -> Told:
    granted, refusing, *now = numbers
    if granted < 0:
        return Told(granted, 0, 0, [], [], [], [], [])
    found: list[list[int]] = []
    for length in lengths:
        found.append(now[:length])
        now = now[length:]
    assert not now
    return Told(0, granted, refusing, *found)
