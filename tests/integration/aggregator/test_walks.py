"""Random schedules over one bucket and one counter, with two gateway processes and two aggregators: the real scripts,
the real recovery, a real Valkey and Postgres, and every fault that the protocol promises to survive.

Gateways are killed, their calls time out and run later; the store is emptied, or falls back to a stale copy under another
run id; aggregators die with a batch in the hand, recoveries half-way. Each walk ends by coming to rest; then

  ledger == journaled charges - returns     nothing lost, nothing twice
  counter == ledger                         quota and bill agree

and while no failure rule let calls pass, no more than the limit was ever admitted. What a gateway does is written down
here as a plain model; its own code has tests of its own. WEIGHBRIDGE_WALKS sets how many walks are made.
"""

import itertools
import json
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aggregator import ledger, recovery, scripts
from aggregator.batch import read
from aggregator.flush import ignore, run
from aggregator.truth import PostgresTruth
from gateway import wire
from gateway.decisions import said
from metering.model import keys
from metering.model.quota import Window
from metering.store.redis import scripts as loader

WALKS = int(os.environ.get("WEIGHBRIDGE_WALKS", "5"))
STEPS, FAULTS, LIMIT, CALLS = 250, 9, 6, 40
ADMIT, RESOLVE = loader.load("gateway", "admit"), loader.load("gateway", "resolve")
FAR_MS = 4_000_000_000_000
TICKET = 17
CHARGED = {"A": 1, "F": 1, "V": -1, "R": 0}

Step = tuple[Callable[[Any], Awaitable[None]], Any]


class Died(Exception):
    """The process ended here."""


class Gateway:
    """One incarnation: its journal survives it. A record is [kind, epoch, n]; kinds A charged by admit, F passed by rule,
    V returned, R refund of a grant that was never forwarded. A cut says which records are a batch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.records: list[list[Any]] = []
        self.cuts = [0]
        self.sent_n = self.handled_n = 0
        self.adopted: list[Gateway] = []
        self.waiting, self.pending, self.unresolved = 0, None, None
        self.tag = ""  # of the bucket, as this connection learned it; empty: unready
        self.connection = 0
        self.inbox: deque[Any] = deque()
        self.in_flight: list[list[Any]] = []
        self.acked: dict[str, int] = {}

    @property
    def epoch(self) -> int:
        return int(self.tag.split(" ")[0]) if self.tag else 0

    def journals(self) -> list["Gateway"]:
        return [self, *self.adopted]

    @property
    def all_cut(self) -> bool:
        return all(j.cuts[-1] == len(j.records) for j in self.journals())


class Walk:
    """The house under one schedule. Methods that take a step are named for it."""

    def __init__(self, house: Any, seed: int) -> None:
        self.house, self.redis, self.pool = house, house.redis, house.pool
        self.rng, self.faults, self.calls = random.Random(seed), FAULTS, CALLS
        self.bucket = keys.bucket_of(house.org)
        start = house.clock.now_ms() // 1000 - 10 * 86_400
        self.field = house.field(period=start)
        self.counter = keys.counter(house.org, "api", "o", Window.PERIOD, start * 1000)
        self.names = (f"w{seed}-{i}" for i in itertools.count(1))
        self.runs = (f"run{seed}-{i}" for i in itertools.count(1))
        self.gateways = [Gateway(next(self.names)) for _ in range(2)]
        self.wire: list[Any] = []
        self.hands: list[Any] = [None, None]
        self.snapshot: dict[bytes, bytes] = {}
        self.granted = self.refunded = 0
        self.recovery = self._recovery(ignore)

    def _recovery(self, observe: Callable[[str], None]) -> recovery.Recovery:
        return recovery.Recovery(PostgresTruth(self.pool), self.redis, self.house.clock, self.publish, observe=observe)

    async def publish(self) -> None:
        await self.redis.hset(keys.versions(self.bucket), self.house.org, "1")

    # --- what may happen next --------------------------------------------------------------------------------------
    def steps(self) -> list[Step]:
        out: list[Step] = []
        for i, g in enumerate(self.gateways):
            out += [(self.arrive, g), (self.ship, g), (self.say_replayed, g)]
            out += [(self.connect, g)] if not g.tag else []
            if g.unresolved and not g.pending:
                out += [(self.ask_after, g)]
            elif g.waiting and not g.pending:
                out += [(self.ask, g)]
            out += [(self.time_out, g)] if g.pending else []
            out += [(self.receive, g)] * 3 if g.inbox else []
            out += [(self.finish, g)] if g.in_flight else []
            out += [(self.kill, i)] if self.faulty() else []
        first: dict[Any, int] = {}
        for k, message in enumerate(self.wire):
            first.setdefault((message[0].name, message[1]), k)
        out += [(self.deliver, k) for k in first.values()] * 2
        for a in (0, 1):
            out += [(self.aggregate, a)]
            out += [(self.drop_hand, a)] if self.hands[a] and self.faulty() else []
        out += [(self.recover, None)] * 2
        if self.faulty():
            out += [(self.empty_store, None), (self.fail_over, None), (self.fail_over, None), (self.die_recovering, None)]
        out += [(self.take_snapshot, None)] if self.faults > 0 and self.rng.random() < 0.2 else []
        return out

    def faulty(self) -> bool:
        return self.faults > 0 and self.rng.random() < 0.08

    # --- gateways --------------------------------------------------------------------------------------------------
    async def arrive(self, g: Gateway) -> None:
        if g.waiting < 3 and self.calls > 0:
            self.calls -= 1
            g.waiting += 1

    async def connect(self, g: Gateway) -> None:
        g.connection += 1
        g.inbox.clear()
        if g.pending:
            self.give_up(g)
        value = ((await self.redis.get(keys.epoch(self.bucket))) or b"").decode().split(" ")
        g.tag = " ".join(value[:2]) if len(value) > 1 and value[1] == await self.run_id() else ""
        g.acked = {j.name: int(await self.redis.hget(keys.marks(self.bucket), f"s:{j.name}") or 0) for j in g.journals()}

    async def run_id(self) -> str:
        return str((await run(self.redis, [("INFO", "server")]))[0]["run_id"])

    async def ask(self, g: Gateway) -> None:
        g.sent_n += 1
        g.pending, g.waiting = ("admit", g.sent_n, g.waiting), 0
        self.wire.append((g, g.connection, "admit", g.tag or "0 nobody", g.name, g.sent_n, g.pending[2]))

    async def ask_after(self, g: Gateway) -> None:
        g.pending = ("resolve", *g.unresolved)
        self.wire.append((g, g.connection, "resolve", g.tag or "0 nobody", g.name, g.unresolved[0]))

    async def time_out(self, g: Gateway) -> None:
        if self.faults > 0 and self.rng.random() < 0.2:
            self.faults -= 1
            g.connection += 1  # what the old connection carried may still run
            g.inbox.clear()
            self.give_up(g)

    def give_up(self, g: Gateway) -> None:
        kind, n, asked = g.pending
        g.pending = None
        if kind == "admit":
            passed = asked if self.rng.random() < 0.5 else 0  # open or closed
            self.forward(g, [["F", g.epoch, n] for _ in range(passed)])
            g.unresolved = (n, passed)

    def forward(self, g: Gateway, records: list[list[Any]]) -> None:
        """The journal first."""
        g.records += records
        g.in_flight += records

    async def receive(self, g: Gateway) -> None:
        connection, message, reply = g.inbox.popleft()
        if connection != g.connection:
            return
        if reply[0] == "unready":
            g.tag = ""
        if message[2] == "settle":
            if reply[0] == "mark":
                g.acked[message[4]] = reply[1]
            return
        if not g.pending:
            return
        kind, n, asked = g.pending
        g.pending = None
        if kind == "resolve":
            self.resolved(g, n, reply, int(message[3].split(" ")[0]))
            g.unresolved = None
        elif reply[0] == "granted":
            self.forward(g, [["A", g.epoch, n] for _ in range(reply[1])])
            self.granted += reply[1]
            g.handled_n = n
        elif reply[0] == "unready":
            g.pending = (kind, n, asked)
            self.give_up(g)
            g.unresolved, g.handled_n = None, n  # an unready script charged nothing

    def resolved(self, g: Gateway, n: int, reply: tuple[Any, ...], epoch: int) -> None:
        if reply[0] == "granted":
            mine = [r for r in g.records if r[0] == "F" and r[2] == n]
            for record in mine[: reply[1]]:
                record[0] = "A"
            self.refund(g, n, epoch, max(0, reply[1] - len(mine)))
            self.granted += reply[1]
        g.handled_n = n

    def refund(self, g: Gateway, n: int, epoch: int, count: int) -> None:
        g.records += [["R", epoch, n] for _ in range(count)]
        self.refunded += count

    async def finish(self, g: Gateway) -> None:
        record = g.in_flight.pop(self.rng.randrange(len(g.in_flight)))
        if self.rng.random() < 0.2:
            g.records.append(["V", 0, record[2]])

    async def ship(self, g: Gateway) -> None:
        if not g.tag:
            return
        for j in g.journals():
            hold = len(j.records)
            if j is g and g.unresolved:
                hold = next((k for k, r in enumerate(j.records) if r[2] >= g.unresolved[0]), hold)
            if hold > j.cuts[-1]:
                j.cuts.append(hold)
            seq = g.acked[j.name] + 1
            if seq < len(j.cuts) and not any(m[0] is g and m[2] == "settle" and m[4] == j.name for m in self.wire):
                rows = j.records[j.cuts[seq - 1] : j.cuts[seq]]
                self.wire.append((g, g.connection, "settle", g.tag, j.name, seq, *self.sums(rows, g.epoch)))

    def sums(self, rows: list[list[Any]], epoch: int) -> tuple[int, int, int]:
        """Ledger, returned, and how the counter moves when this is taken under `epoch`."""
        moves = {"F": lambda _: 1, "V": lambda _: -1, "A": lambda e: int(e != epoch), "R": lambda e: -int(e == epoch)}
        returned = sum(kind == "V" for kind, _, _ in rows)
        return sum(CHARGED[kind] for kind, _, _ in rows), returned, sum(moves[kind](e) for kind, e, _ in rows)

    async def say_replayed(self, g: Gateway) -> None:
        if g.tag and not g.unresolved and not g.pending and g.all_cut and all(g.acked[j.name] == len(j.cuts) - 1 for j in g.journals()):
            await self.redis.hset(keys.marks(self.bucket), f"r:{g.name}", g.epoch)

    async def kill(self, i: int) -> None:
        """Memory gone, the journal stays; another adopts it and asks what became of the last admit."""
        self.faults -= 1
        old, new = self.gateways[i], Gateway(next(self.names))
        new.adopted = [*old.adopted, old]
        old.records += [["V", 0, r[2]] for r in old.in_flight]
        if old.sent_n > old.handled_n and old.tag and old.tag.split(" ")[1] == await self.run_id():
            reply = await self.script_resolve(old.tag, old.name, old.sent_n)
            if reply[0] == "granted" and not old.unresolved:
                self.granted += reply[1]
                self.refund(old, old.sent_n, old.epoch, reply[1])
            else:
                self.resolved(old, old.sent_n, reply, old.epoch)
        self.gateways[i] = new

    # --- the store -------------------------------------------------------------------------------------------------
    async def deliver(self, k: int) -> None:
        g, connection, method, *arguments = message = self.wire.pop(k)
        tag = arguments[0]
        foreign = tag.split(" ")[1] != await self.run_id()  # its connection ended with that server
        reply = ("unready",) if foreign else await getattr(self, f"script_{method}")(*arguments)
        if g in self.gateways and g.connection == connection:
            g.inbox.append((connection, message, reply))

    async def script_admit(self, tag: str, worker: str, n: int, count: int) -> tuple[Any, ...]:
        names = (keys.versions(self.bucket), keys.marks(self.bucket), keys.epoch(self.bucket), self.counter)
        terms = {"ticket": TICKET, "org_id": self.house.org, "version": "", "from_ms": 0, "until_ms": FAR_MS}
        charge = wire.packed_charge(1, 2, quotas=[(1, LIMIT, FAR_MS)], **terms)
        granted, *_ = await self.redis.eval(ADMIT.body, 4, *names, f"a:{worker}", n, tag, 1, count, charge)
        if isinstance(granted, bytes):
            return ("unready" if granted.startswith(b"!") else "dead",)
        assert granted >= 0, "decided"
        return ("granted", granted)

    async def script_resolve(self, tag: str, worker: str, n: int) -> tuple[Any, ...]:
        reply = await self.redis.eval(RESOLVE.body, 2, keys.epoch(self.bucket), keys.marks(self.bucket), tag, worker, n)
        if reply[0] != b"ok":
            return (reply[0].decode(),)
        ((ticket, granted),) = said(reply[2])
        assert (ticket, int(reply[1])) == (TICKET, n)
        return ("granted", granted)

    async def script_settle(self, tag: str, worker: str, seq: int, charged: int, returned: int, moves: int) -> tuple[Any, ...]:
        names = (keys.epoch(self.bucket), keys.marks(self.bucket), keys.live(self.bucket), self.counter)
        fields = (self.field, self.field.replace("|api|", "|^api|"), charged, returned)
        from_store = loader.load("gateway", "settle")
        reply = await self.redis.eval(from_store.body, 4, *names, tag, worker, seq, 2, *fields, moves, FAR_MS)
        return (reply[0].decode(), int(reply[1]) if reply[0] == b"mark" else None)

    async def _keys(self) -> list[bytes]:
        return [key async for key in self.redis.scan_iter(match=f"wb:{{{self.bucket}}}:*")]

    async def take_snapshot(self, _: None) -> None:
        self.snapshot = {key: await self.redis.dump(key) for key in await self._keys()}

    async def empty_store(self, _: None) -> None:
        self.faults -= 1
        await self.redis.delete(*await self._keys(), "nothing")
        self.redis.run = next(self.runs)

    async def fail_over(self, _: None) -> None:
        await self.empty_store(None)
        for key, dump in self.snapshot.items():
            await self.redis.restore(key, 0, dump)

    # --- aggregators -----------------------------------------------------------------------------------------------
    async def aggregate(self, a: int) -> None:
        """One step of a flush: drain, commit, or delete."""
        what, hand = self.hands[a] or (None, None)
        if what is None:
            ((state, *flat),) = await run(self.redis, [scripts.drain(self.bucket)])
            self.hands[a] = ("commit", read(self.bucket, state, flat)) if flat else None
        elif what == "commit":
            async with self.pool.acquire() as connection:
                (settled,) = await ledger.commit(connection, [hand], ignore)
            assert settled.outcome is not ledger.Outcome.GAP
            self.hands[a] = ("delete", settled) if settled.deletable else None
        else:
            batch = hand.batch
            await run(self.redis, [scripts.delete(self.bucket, batch.epoch, batch.generation, hand.marks)])
            self.hands[a] = None
            await self.no_journal_is_let_go_too_early()

    async def no_journal_is_let_go_too_early(self) -> None:
        marks = await self.house.marks()
        for worker, seq in (await self.redis.hgetall(keys.committed(self.bucket))).items():
            assert int(seq) <= marks[self.bucket, worker.decode()]

    async def drop_hand(self, a: int) -> None:
        self.faults -= 1
        self.hands[a] = None

    async def recover(self, _: None) -> None:
        seconds, micros = await self.redis.time()
        beat = json.dumps({"at_ms": seconds * 1000 + micros // 1000, "role": "worker"})
        await self.redis.delete(keys.WORKERS)
        await self.redis.hset(keys.WORKERS, mapping={g.name: beat for g in self.gateways})
        self.house.clock.advance(1)
        await self.recovery.check()

    async def die_recovering(self, _: None) -> None:
        self.faults -= 1
        last = self.rng.choice(("raise_epochs", "close", "republish", "scan", "restore"))

        def die(step: str) -> None:
            if step == last:
                raise Died

        try:
            await self._recovery(die).check()
        except Died:
            return

    # --- the laws --------------------------------------------------------------------------------------------------
    def journals(self) -> list[Gateway]:
        return [j for g in self.gateways for j in g.journals()]

    def hold_the_limit(self) -> None:
        records = [r for j in self.journals() for r in j.records]
        if not any(r[0] == "F" for r in records):
            assert self.granted - self.refunded - sum(r[0] == "V" for r in records) <= LIMIT

    async def at_rest(self) -> bool:
        if self.wire or self.hands != [None, None] or await self.redis.exists(keys.live(self.bucket), keys.flying(self.bucket)):
            return False
        epoch = await self.pool.fetchval("SELECT epoch FROM billing.bucket_state")
        here = f"{epoch} {await self.run_id()}"
        if (await self.redis.get(keys.epoch(self.bucket)) or b"").decode() != here:
            return False
        busy = any(
            g.waiting or g.pending or g.unresolved or g.inbox or g.in_flight or g.tag != here or not g.all_cut
            or any(g.acked[j.name] != len(j.cuts) - 1 for j in g.journals()) for g in self.gateways
        )  # fmt: skip
        return not busy

    async def go(self) -> None:
        for _ in range(STEPS):
            step, what = self.rng.choice(self.steps())
            await step(what)
            self.hold_the_limit()
        self.faults = self.calls = 0
        for turn in range(4000):
            if turn % 10 == 0 and await self.at_rest():
                break
            step, what = self.rng.choice(self.steps())
            await step(what)
        else:
            raise AssertionError("never comes to rest")
        truth = sum(CHARGED[r[0]] for j in self.journals() for r in j.records)
        assert await self.house.used() == dict.fromkeys(("usage_events", "usage_hourly", "usage_period"), truth)
        assert int(await self.redis.get(self.counter) or 0) == truth


@pytest.mark.parametrize("seed", range(WALKS))
async def test_nothing_is_lost_and_nothing_counts_twice(empty_house: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MOST_WAIT_SECONDS", 1e9)  # opening without every gateway has its own test, and its own bound
    walk = Walk(empty_house, seed)
    await empty_house.pool.execute("DELETE FROM billing.bucket_state WHERE bucket <> $1", walk.bucket)
    await walk.go()
