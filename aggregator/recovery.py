"""Bring back buckets of a store that forgot: emptied, restarted, replaced by a stale replica, or ahead of Postgres.

Raise the epoch in Postgres (that fences off every batch drained before), close the bucket, republish entitlements and
keys, set marks and counters from the ledger in one script, and open the bucket once the gateways have replayed what
Postgres had not. For a gateway alone a checkpoint stands in Postgres's place (aggregator/truth.py). May die at any step:
what is half done still needs recovery, and is done again under the next epoch.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from aggregator import scripts
from aggregator.flush import ignore, run
from aggregator.ledger import Observe
from aggregator.truth import Epochs, Snapshot, Truth
from metering.model import keys
from metering.model.clock import Clock

log = logging.getLogger("weighbridge.recovery")

HEARTBEAT_LIVES_MS = 3_000
LEAST_WAIT_SECONDS = 2.0  # for heartbeats to show which gateways live
MOST_WAIT_SECONDS = 8.0  # for a gateway that lives and does not replay
GROUP = 32  # buckets restored at a time
_TRIP = 5_000  # counters a trip to the store, or one bucket where it has more
_SCAN_COUNT = 1000

Republish = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class RecoveryReport:
    """What one look did: buckets restored and opened now, and those that still wait for gateways."""

    restored: int = 0
    opened: int = 0
    opened_late: int = 0  # of those: without waiting for every live gateway any longer
    waiting: int = 0
    needing: int = 0  # left for the next look, or to another aggregator


@dataclass(frozen=True, slots=True)
class _State:
    bucket: int
    epoch: int  # by the truth
    generation: int
    shown: str  # the epoch key's value in the store
    run_id: str

    @property
    def tag(self) -> str:
        return f"{self.epoch} {self.run_id}"

    @property
    def waits(self) -> bool:
        return self.shown == f"{self.tag} wait"

    @property
    def needs_recovery(self) -> bool:
        return self.epoch == 0 or self.shown not in (self.tag, f"{self.tag} wait")

    @property
    def shown_epoch(self) -> int:
        """The epoch in the store, if what stands there is one of ours."""
        number = self.shown.split(" ", 1)[0]
        return int(number) if number.isdecimal() and len(number) < 16 else 0


class Recovery:
    """`check` looks once, and does what is due. `republish` writes every entitlement, version and active key."""

    def __init__(self, truth: Truth, redis: Redis, clock: Clock, republish: Republish, *, observe: Observe = ignore) -> None:
        self._truth, self._redis, self._clock = truth, redis, clock
        self._republish, self._observe = republish, observe
        self._waiting_since: dict[tuple[int, str], float] = {}

    async def check(self) -> RecoveryReport:
        """Restore what needs it (unless another aggregator is at it), open what is ready. Raises what the drivers raise."""
        states, report = await self._look(), RecoveryReport()
        if any(s.needs_recovery for s in states):
            report.restored = await self._restore_alone()
            states = await self._look()
            report.needing = sum(s.needs_recovery for s in states)
        await self._open([s for s in states if s.waits], report)
        return report

    async def _look(self) -> list[_State]:
        states = await self._truth.states()
        commands: list[scripts.Command] = [("INFO", "server"), *(("GET", keys.epoch(bucket)) for bucket, _, _ in states)]
        info, *shown = await run(self._redis, commands)
        run_id = str(info["run_id"])
        return [
            _State(bucket, epoch, generation, (value or b"").decode("utf-8", "replace"), run_id)
            for (bucket, epoch, generation), value in zip(states, shown, strict=True)
        ]

    # --- restoring -------------------------------------------------------------------------------------------------
    async def _restore_alone(self) -> int:
        async with self._truth.alone() as snapshot:
            if snapshot is None:
                return 0
            needing = [s for s in await self._look() if s.needs_recovery]
            return await self._restore(snapshot, needing) if needing else 0

    async def _restore(self, snapshot: Snapshot, needing: Sequence[_State]) -> int:
        raised = await snapshot.raise_epochs({s.bucket: s.shown_epoch for s in needing})
        self._observe("raise_epochs")
        closed = await run(self._redis, [scripts.close(b, epoch) for b, (epoch, _) in raised.items()])
        self._observe("close")
        buckets = [b for b, done in zip(raised, closed, strict=True) if done]
        if len(buckets) == keys.BUCKETS:
            await self._forget_keys()
        await self._republish()
        self._observe("republish")
        stale = await self._stale_counters(buckets)
        self._observe("scan")
        restored = 0
        for start in range(0, len(buckets), GROUP):
            restored += await self._restore_group(snapshot, buckets[start : start + GROUP], raised, stale, needing[0].run_id)
        if all(s.epoch == 0 for s in needing):
            log.info("%d buckets of a new store are set up", restored)
        elif all(s.shown_epoch == s.epoch for s in needing):
            log.info("the store was restarted: its %d buckets are set up anew, under a new epoch", restored)
        else:
            log.warning("%d buckets of the store had to be brought back; %d are restored, under a new epoch", len(needing), restored)
        return restored

    async def _restore_group(
        self,
        snapshot: Snapshot,
        buckets: Sequence[int],
        raised: Epochs,
        stale: dict[int, list[str]],
        run_id: str,
    ) -> int:
        seconds, micros = (await run(self._redis, [("TIME",)]))[0]
        standing = await snapshot.standing(buckets, int(seconds) * 1000 + int(micros) // 1000)
        marks, found = standing.marks, standing.counters
        done, commands, weight = 0, list[scripts.Command](), 0
        for b in buckets:
            forget = [key for key in stale.get(b, ()) if key not in found[b]]
            epoch, generation = raised[b]
            commands.append(
                scripts.restore(
                    b, epoch=epoch, run_id=run_id, generation=generation, marks=marks[b], forget=forget, counters=found[b],
                    moves=standing.moves.get(b, 0),
                )
            )  # fmt: skip
            weight += len(forget) + len(found[b])
            if weight > _TRIP or b == buckets[-1]:
                done += sum(await run(self._redis, commands))
                commands, weight = [], 0
        self._observe("restore")
        return done

    async def _stale_counters(self, buckets: Sequence[int]) -> dict[int, list[str]]:
        """Every counter that stands in these closed buckets, in one walk over the store."""
        wanted, found = set(buckets), dict[int, list[str]]()
        async for raw in self._redis.scan_iter(match=keys.EVERY_COUNTER, count=_SCAN_COUNT):
            key = raw.decode()
            bucket = keys.bucket_in(key)
            if bucket in wanted:
                found.setdefault(bucket, []).append(key)
        return {bucket: sorted(set(names)) for bucket, names in found.items()}

    async def _forget_keys(self) -> None:
        """A store that went back in time may hold keys that were revoked since; the republishing writes the active ones."""
        names = [raw async for raw in self._redis.scan_iter(match=keys.api_key("*"), count=_SCAN_COUNT)]
        for start in range(0, len(names), _SCAN_COUNT):
            await run(self._redis, [("UNLINK", name) for name in names[start : start + _SCAN_COUNT]])

    # --- opening ---------------------------------------------------------------------------------------------------
    async def _open(self, waiting: Sequence[_State], report: RecoveryReport) -> None:
        now = self._clock.monotonic()
        since = {(s.bucket, s.tag): self._waiting_since.get((s.bucket, s.tag), now) for s in waiting}
        self._waiting_since = since
        if not waiting:
            return
        live = await self._live_gateways()
        untouched = await self._never_used(waiting)
        due = [s for s in waiting if s.bucket in untouched or now - since[s.bucket, s.tag] >= LEAST_WAIT_SECONDS]
        late = {s.bucket for s in due if now - since[s.bucket, s.tag] >= MOST_WAIT_SECONDS}
        replies = await run(self._redis, [scripts.open_bucket(s.bucket, s.tag, () if s.bucket in untouched else live) for s in due])
        behind = [s for s, reply in zip(due, replies, strict=True) if reply == 0 and s.bucket in late]
        if behind:
            log.warning("%d buckets admit again although not all of %s have replayed what they had charged", len(behind), live)
            replies += await run(self._redis, [scripts.open_bucket(s.bucket, s.tag, ()) for s in behind])
        report.opened, report.opened_late = sum(r == 1 for r in replies), len(behind)
        report.waiting = len(waiting) - report.opened
        self._observe("open")

    async def _never_used(self, waiting: Sequence[_State]) -> set[int]:
        """Buckets that nobody can have charged: under their very first epoch, in a house that knows no gateway. (No mark
        alone does not say so: what was charged before the first flush is in the journals only.)"""
        first = {s.bucket for s in waiting if s.epoch == 1}
        return first if first and not await self._truth.knows_gateways() else set()

    async def _live_gateways(self) -> list[str]:
        """Gateway processes whose last heartbeat is fresh on the store's own clock."""
        (seconds, micros), beats = await run(self._redis, [("TIME",), ("HGETALL", keys.WORKERS)])
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return sorted(name.decode() for name, beat in beats.items() if now_ms - _beat_ms(beat) < HEARTBEAT_LIVES_MS)


def _beat_ms(beat: bytes) -> int:
    """The instant of a heartbeat; one that cannot be read counts as long past."""
    try:
        return int(json.loads(beat)["at_ms"])
    except (ValueError, KeyError, TypeError):
        return 0
