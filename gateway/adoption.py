"""Adopt the journals of workers that are gone: give back what was in flight, ask after the last admit, ship the rest.

The supervisor runs one adopter a journal folder. A dead worker's lock is free, so whoever takes it owns the files; the
rest goes out under the dead one's name, and the files go when Postgres has it all.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis

from metering.model import keys
from metering.model.clock import Clock
from metering.model.ledger import JOURNALS_TAKEN_DAYS
from metering.store import journal as journals
from metering.store.journal import JournalLocked
from metering.store.redis.link import Link, Server, pack

from . import scripts
from .decisions import said
from .epochs import BucketEpoch, Epochs
from .pulse import Pulse
from .recorder import Recorder
from .server_clock import ServerClock
from .shipper import STORE_ROWS, Shipper

log = logging.getLogger("weighbridge.adoption")
_BEYOND_EVERY_N = 2**52  # resolve.lua: "whatever ran last, and nothing after it"
_SCAN_SECONDS = 1.0
_MINUTES_A_DAY = 1_440


class _Ward(BucketEpoch):
    """A bucket of an adopted journal: held until it is known what the dead worker's last admit did."""

    retired = False

    @property
    def held(self) -> bool:
        return not self.retired


class Adopted:
    """One dead worker's journal on its way."""

    def __init__(
        self, link: Link, recorder: Recorder, on_synced: Callable[[int], None], on_unready: Callable[[int, bytes], None], store_rows: int
    ) -> None:
        self._link, self.recorder, self._on_unready = link, recorder, on_unready
        self.returned = recorder.close_open()
        self.buckets = [_Ward(b) for b in range(keys.BUCKETS)]
        self.shipper = Shipper(link, recorder, self.buckets, on_synced, on_unready, store_rows)
        touched = {t.bucket for t in recorder.tally.templates.values()} | set(recorder.tally.seqs)
        for ward in self.buckets:
            ward.retired = ward.bucket not in touched
        self._flush()

    @property
    def retired(self) -> bool:
        """Whether it is known of every bucket what the dead worker's last admit did."""
        return all(ward.retired for ward in self.buckets)

    def epoch_changed(self, state: BucketEpoch) -> None:
        """The bucket's epoch as it stands now."""
        ward = self.buckets[state.bucket]
        ward.learned(state.tag, state.open)
        if ward.tag is None:
            return
        if ward.retired:
            self.shipper.epoch_changed(ward.bucket)
        else:
            self._retire(ward, ward.tag)

    def ask_again(self) -> None:
        """Where the store had answered with an error (full, demoted), nothing else would ask a second time."""
        for ward in self.buckets:
            if not ward.retired and ward.tag is not None:
                self._retire(ward, ward.tag)

    def _retire(self, ward: _Ward, tag: str) -> None:
        names = (keys.epoch(ward.bucket), keys.marks(ward.bucket))
        command = pack(("EVALSHA", scripts.RESOLVE.sha, 2, *names, tag, self.recorder.worker, _BEYOND_EVERY_N))
        self._link.call(command, lambda reply: self._retired(ward, tag, reply))

    def _retired(self, ward: _Ward, tag: str, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            log.error("asking after %s failed: %s", self.recorder.worker, reply)
            if str(reply).startswith("NOSCRIPT"):
                self._link.reset()
        if ward.retired or isinstance(reply, Exception):
            return
        if reply[0] == b"unready":
            self._on_unready(ward.bucket, reply[1])
            return
        tally, bucket = self.recorder.tally, ward.bucket
        real = int(reply[1]) if reply[0] == b"ok" else 0
        epoch = int(tag.split(" ", 1)[0])
        for unanswered in [n for b, n in tally.by_rule if b == bucket]:
            self.recorder.resolved(bucket, unanswered, epoch, self._charged(reply) if unanswered == real else [])
        if real > tally.last_n.get(bucket, 0):
            for template, count in self._charged(reply):
                self.recorder.refunded(template, epoch, real, count)
        ward.retired = True
        self._flush()
        self.shipper.epoch_changed(bucket)

    def _flush(self) -> None:
        """On a full disk it stays buffered: the shipper sends nothing that is not written, and tries each second."""
        with contextlib.suppress(OSError):
            self.recorder.flush()

    def _charged(self, reply: list[Any]) -> list[tuple[Any, int]]:
        """What the admit in this reply charged, by the tickets that the journal explains."""
        charged = []
        for ticket, count in said(reply[2]) if reply[0] == b"ok" else ():
            template = self.recorder.tally.templates.get(ticket)
            if template is None:
                log.error("the journal of %s does not explain ticket %d: %d calls stay charged", self.recorder.worker, ticket, count)
            else:
                charged.append((template, count))
        return charged


class Adopter:
    """Run by the supervisor: `await run()` for ever; `await adopt(worker)` when one died."""

    def __init__(
        self, redis_url: str, journal_dir: Path, clock: Clock, name: str, *, deadline_seconds: float = 1.0, store_rows: int = STORE_ROWS,
        takes_old: bool = False,
    ) -> None:  # fmt: skip
        """`takes_old`: somebody has looked whether Postgres knows how far it has these journals, however old they are."""
        self._directory, self._name, self._store_rows = journal_dir, name, store_rows
        self._takes_old, self._left = takes_old, set[str]()
        self._link = Link(
            redis_url, deadline_seconds=deadline_seconds, scripts=scripts.BODIES, on_up=self._up, on_down=self._down
        )  # fmt: skip
        self._clock = ServerClock(clock, self._link)
        self._states = [BucketEpoch(b) for b in range(keys.BUCKETS)]
        self._epochs = Epochs(self._link, self._states, self._epoch_changed)
        self._adopted: dict[str, Adopted] = {}
        self.pulse = Pulse(self._link, name, "supervisor", self._clock, self._epochs, self._shippers)
        self._scanned = False

    def _shippers(self) -> Sequence[Shipper]:
        return [a.shipper for a in self._adopted.values()]

    async def run(self) -> None:
        self._scan()
        self._link.start()
        beating = asyncio.ensure_future(self.pulse.run())
        try:
            while True:
                self._scan()
                self._let_go()
                await asyncio.wait({beating}, timeout=_SCAN_SECONDS)
                if beating.done():
                    beating.result()
        finally:
            beating.cancel()
            self.pulse.say_goodbye()
            await asyncio.sleep(0)
            await self._link.close()
            for adopted in self._adopted.values():
                adopted.recorder.close()

    async def adopt(self, worker: str) -> None:
        """A worker has died: take its journal now, not at the next scan."""
        self._take(worker)

    @property
    def waiting(self) -> list[str]:
        """The adopted journals that Postgres does not have whole yet."""
        return sorted(self._adopted)

    def _scan(self) -> None:
        for worker in journals.workers(self._directory):
            if worker not in self._adopted and worker not in self._left:
                self._take(worker)
        if not self._scanned:
            self._scanned = True
            for state in self._states:
                self._report(state.bucket)

    def _take(self, worker: str) -> None:
        try:
            recorder = Recorder(self._directory, worker, self._clock.now_ms)
        except JournalLocked:
            return  # it lives
        except OSError as exc:
            log.error("the journal of %s cannot be taken yet: %s", worker, exc)
            return  # the next scan tries again
        if self._is_too_old(recorder):
            recorder.close()
            self._left.add(worker)
            return
        adopted = self._adopted[worker] = Adopted(self._link, recorder, self._report, self._epochs.learn, self._store_rows)
        if adopted.returned:
            log.warning("worker %s is gone: %d calls in flight were given back", worker, adopted.returned)
        for state in self._states:
            if state.tag is not None:
                adopted.epoch_changed(state)

    def _is_too_old(self, recorder: Recorder) -> bool:
        """Nobody may remember what Postgres has of it."""
        days = (self._clock.now_ms() // 60_000 - recorder.last_minute) // _MINUTES_A_DAY
        if self._takes_old or not recorder.last_minute or days < JOURNALS_TAKEN_DAYS:
            return False
        log.error(
            "the journal of %s ends %d days ago, and is left where it lies: `weighbridge journal replay` looks whether Postgres has it",
            recorder.worker, days,
        )  # fmt: skip
        return True

    def _let_go(self) -> None:
        """Files that Postgres has whole are not needed any more."""
        for worker, adopted in list(self._adopted.items()):
            if not adopted.retired:
                adopted.ask_again()
            elif adopted.shipper.all_committed:
                del self._adopted[worker]
                adopted.recorder.destroy()
                for bucket in adopted.recorder.tally.seqs:  # "s:" stays for long, as in Postgres (aggregator/old_marks.py)
                    self._link.call(pack(("HDEL", keys.marks(bucket), f"a:{worker}", f"r:{worker}")), lambda _: None)
                self._link.call(pack(("HDEL", keys.WORKERS, worker)), lambda _: None)  # it had no time to say goodbye

    # --- the store -------------------------------------------------------------------------------------------------
    def _up(self, server: Server) -> None:
        self._epochs.link_up(server)

    def _down(self) -> None:
        self._epochs.link_down()
        for adopted in self._adopted.values():
            adopted.shipper.link_down()

    def _epoch_changed(self, state: BucketEpoch) -> None:
        for adopted in self._adopted.values():
            adopted.epoch_changed(state)
        self._report(state.bucket)

    def _report(self, bucket: int) -> None:
        """Recovery may open the bucket as far as this process is concerned once every adopted journal is replayed.

        It also answers for the dead: their last heartbeat may still be fresh, and recovery then waits for them.
        """
        state, missing = self._states[bucket], False
        for worker, adopted in self._adopted.items():
            done = adopted.shipper.replayed(bucket) or self._untouched(adopted, bucket)
            self.pulse.synced(state, done, worker)
            missing = missing or not done
        self.pulse.synced(state, self._scanned and not missing)

    @staticmethod
    def _untouched(adopted: Adopted, bucket: int) -> bool:
        return bucket not in adopted.recorder.tally.seqs and bucket not in adopted.recorder.tally.sums and not adopted.buckets[bucket].held
