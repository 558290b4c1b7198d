"""Ship a journal's batches into the buckets' live hashes (lua/settle.lua), each exactly once, again after a loss.

A batch stays here (or on disk, when there are many) until Postgres has committed it: the store's word is not enough. While Postgres
is away the live hashes grow up to a bound; then a bucket is `full`, its batches wait in the journal, and each second it is asked again.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from metering.model import keys
from metering.store.redis.link import Link, pack

from .backlog import Backlog
from .epochs import BucketEpoch
from .recorder import Recorder
from .scripts import SETTLE
from .tally import Batch
from .wire import packed

log = logging.getLogger("weighbridge.gateway")
EVERY_BUCKET = range(keys.BUCKETS)
SHA = SETTLE.sha.decode()
KEPT_ROWS = 100_000  # ledger rows kept in memory for a replay; beyond, a replay reads the journal
STORE_ROWS = 4_000_000  # that are enough for the store, over all buckets, while nobody drains it
_RECORDS_A_LOOK = 4_000  # of the journal, some 20 ms; looks are a tenth of a second apart


class _Lane:
    """One bucket's batches on their way. `acked` is the store's mark under `tag`, None while it is being asked.

    `target` is the batch that ends what earlier epochs had charged; None until it is cut. `full`: the store takes nothing more for now;
    what is recorded meanwhile is cut once a minute, the last time in `cut_minute`. `behind`: batches that it needs are in the journal
    alone, and come by the way through it that it has `joined`.
    """

    __slots__ = (
        "acked", "batches", "behind", "cut_minute", "full", "joined", "lacking", "oldest_minute", "oldest_seq", "sending", "tag", "target",
    )  # fmt: skip

    def __init__(self) -> None:
        self.tag: str | None = None
        self.acked: int | None = None
        self.target: int | None = None
        self.batches: deque[Batch] = deque()
        self.cut_minute = 0
        self.oldest_minute = self.oldest_seq = 0  # of what Postgres is not known to have; 0: of nothing
        self.sending = False
        self.full = self.behind = self.joined = self.lacking = False

    @property
    def reach(self) -> int:
        """The last batch that the store has, or that stands here in a row with it."""
        acked = self.acked or 0
        return max(acked, self.batches[-1].seq) if self.batches else acked


class Shipper:
    """Ships what `recorder` records. `store_rows` bounds what the store holds undrained, unless `alone`: then nobody drains it.

    `on_synced(bucket)` runs when what earlier epochs had charged has been taken; `on_unready(bucket, epoch value)` when
    the store says that the bucket is not what this process took it for.
    """

    def __init__(
        self,
        link: Link,
        recorder: Recorder,
        buckets: Sequence[BucketEpoch],
        on_synced: Callable[[int], None],
        on_unready: Callable[[int, bytes], None],
        store_rows: int = STORE_ROWS,
    ) -> None:
        self._link, self._recorder, self._buckets = link, recorder, buckets
        self._on_synced, self._on_unready = on_synced, on_unready
        self._lanes: dict[int, _Lane] = {}
        self._committed: dict[int, int] = {}
        self._kept_rows = 0
        self._enough = str(max(store_rows // keys.BUCKETS, 1))
        self._backlog: Backlog | None = None
        self._some_behind = False
        self.alone = True  # until it is known who drains

    # --- outward ---------------------------------------------------------------------------------------------------
    def cut_and_send(self, of: range = EVERY_BUCKET) -> None:
        """Make batches of everything recorded in these buckets, and in urgent ones, and send what can be sent."""
        urgent, self._recorder.urgent = self._recorder.urgent, set()
        for bucket in self._recorder.dirty_buckets():
            if (bucket in of or bucket in urgent) and not self._buckets[bucket].held:
                lane = self._lane(bucket)
                if lane.acked is not None and not (lane.full and lane.cut_minute == self._recorder.minute()):
                    self._push(self._recorder.cut(bucket))
        try:
            self._recorder.flush()
            self._recorder.rotate_if_large()
        except OSError:
            return  # what is not on disk stays buffered
        self._read_on()
        for bucket in {*of, *urgent} if urgent else of:
            if bucket in self._lanes:
                self._next(bucket)

    def cut_now(self) -> dict[int, int]:
        """Cut and send; bucket -> the seq by which all that is recorded now has been taken."""
        self.cut_and_send()
        held = {bucket: self._recorder.tally.seqs.get(bucket, 0) + 1 for bucket in self._recorder.dirty_buckets()}
        return {**self._recorder.tally.seqs, **held}

    def taken(self, seqs: dict[int, int]) -> bool:
        """Whether the store has taken these, under the epochs that stand now."""
        return all(self._taken(bucket) >= seq for bucket, seq in seqs.items())

    def _taken(self, bucket: int) -> int:
        lane = self._lane(bucket)
        known = lane.tag is not None and lane.tag == self._buckets[bucket].tag and lane.acked is not None
        return max(lane.acked or 0, 0) if known else self._committed.get(bucket, 0)

    def _push(self, batch: Batch) -> None:
        lane = self._lane(batch.bucket)
        if lane.full:
            lane.cut_minute = self._recorder.minute()
        if not lane.oldest_minute:
            lane.oldest_minute, lane.oldest_seq = batch.minute, batch.seq
        if not lane.behind:
            self._keep(lane, batch)
        if self._kept_rows > KEPT_ROWS:
            self._shed()

    def _keep(self, lane: _Lane, batch: Batch) -> None:
        lane.batches.append(batch)
        self._kept_rows += len(batch.sums.ledger)

    def _shed(self) -> None:
        """Forget batches that were taken, and those that the store has no room for; the journal still has them."""
        for lane in self._lanes.values():
            while lane.batches and lane.acked is not None and (lane.full or lane.batches[0].seq <= lane.acked):
                self._forget_first(lane)

    def _forget_first(self, lane: _Lane) -> None:
        self._kept_rows -= len(lane.batches.popleft().sums.ledger)

    def _lane(self, bucket: int) -> _Lane:
        lane = self._lanes.get(bucket)
        if lane is None:
            lane = self._lanes[bucket] = _Lane()
        return lane

    def _next(self, bucket: int) -> None:
        """Send the first batch that the store has not taken, one at a time."""
        lane, state = self._lane(bucket), self._buckets[bucket]
        if not self._link.up or state.tag is None:
            return
        if lane.tag != state.tag:
            self._ask_mark(bucket, lane, state.tag)
            return
        if lane.sending or lane.acked is None:
            return
        if lane.full:
            self._ask(bucket, lane, state.tag)
            return
        if lane.target is None and not state.held:
            lane.target = self._cut_here(bucket)
        if lane.target is not None and lane.acked >= lane.target:
            self._on_synced(bucket)
        if lane.acked >= self._recorder.tally.seqs.get(bucket, 0) or not self._written():
            return
        batch = next((b for b in lane.batches if b.seq > lane.acked), None)
        if batch is None or batch.seq != lane.acked + 1:
            lane.behind = self._some_behind = True
            return
        lane.sending = True
        self._link.call(self._pack(batch, state.tag), partial(self._settled, bucket, lane, state.tag))

    def _written(self) -> bool:
        """A cut that is not on disk is not sent: after a kill its number would stand for something else."""
        try:
            self._recorder.flush()
        except OSError:
            return False
        return True

    def _cut_here(self, bucket: int) -> int:
        """Everything so far as a batch; returns the last seq, which a new epoch must see taken before it opens."""
        if bucket in self._recorder.dirty_buckets():
            self._push(self._recorder.cut(bucket))
        return self._recorder.tally.seqs.get(bucket, 0)

    def _settled(self, bucket: int, lane: _Lane, tag: str, reply: Any) -> None:
        lane.sending = False
        if lane.tag != tag or isinstance(reply, Exception):
            lane.tag = None  # whatever became of it, the mark will say
            return
        if reply[0] == b"unready":
            lane.tag = None
            self._on_unready(bucket, reply[1])
            return
        lane.acked = int(reply[1])
        self._recorder.catch_up(bucket, lane.acked)
        if reply[0] == b"full":
            if not lane.full:
                lane.full, lane.joined, lane.cut_minute = True, False, self._recorder.minute()
        else:
            lane.full = False
            self._next(bucket)

    # --- a new connection or epoch ---------------------------------------------------------------------------------
    def epoch_changed(self, bucket: int) -> None:
        """The bucket has a new epoch, or must be confirmed under the one it has."""
        lane = self._lane(bucket)
        if lane.tag != self._buckets[bucket].tag:
            lane.sending = False
        self._next(bucket)

    def link_down(self) -> None:
        """An answer counts only on the connection it was given on."""
        for lane in self._lanes.values():
            lane.tag, lane.acked = None, None
            lane.sending = lane.full = lane.joined = False

    def _ask_mark(self, bucket: int, lane: _Lane, tag: str) -> None:
        """Only under this epoch, and from there on."""
        lane.tag, lane.acked, lane.target = tag, None, None
        lane.full = lane.behind = lane.joined = lane.lacking = False
        self._ask(bucket, lane, tag)

    def _ask(self, bucket: int, lane: _Lane, tag: str) -> None:
        """A settle of no batch (seq 0) tells the mark, and whether there is room."""
        lane.sending = True
        names = (keys.epoch(bucket), keys.marks(bucket), keys.live(bucket))
        command = packed(["EVALSHA", SHA, str(len(names)), *names, tag, self._recorder.worker, "0", "0", self._bound])
        self._link.call(command, partial(self._settled, bucket, lane, tag))

    @property
    def _bound(self) -> str:
        """How many rows of a bucket are enough; 0: nobody says."""
        return "0" if self.alone else self._enough

    # --- what is in the journal alone ------------------------------------------------------------------------------
    def _read_on(self) -> None:
        """Some more of what memory lacks and the store has room for; one way through the journal serves all buckets."""
        if self._backlog is None:
            if not self._some_behind:
                return
            joining = [lane for lane in self._lanes.values() if lane.behind and not (lane.full or lane.lacking)]
            if not joining:
                self._some_behind = False  # until the next one finds that it is
                return
            self._backlog = Backlog(self._recorder.directory, self._recorder.worker)
            for lane in joining:
                lane.joined = True
                while lane.batches:
                    self._forget_first(lane)
        if self._kept_rows > KEPT_ROWS:
            self._shed()
            if self._kept_rows > KEPT_ROWS:
                return  # the store is at it
        for batch in self._backlog.step(_RECORDS_A_LOOK):
            lane = self._lane(batch.bucket)
            if lane.joined and batch.seq == lane.reach + 1:
                self._keep(lane, batch)
        if self._backlog.ended:
            self._backlog = None
            for bucket, lane in self._lanes.items():
                if lane.joined:
                    self._caught_up(bucket, lane)

    def _caught_up(self, bucket: int, lane: _Lane) -> None:
        """All that is on disk was read, so from here on memory has all; unless the journal lacks something (Postgres restored from an
        older backup, a damaged file): then this bucket's batches of this worker stay where they are, until a person decides."""
        lane.joined = False
        if lane.reach >= self._recorder.tally.seqs.get(bucket, 0):
            lane.behind = False
        else:
            lane.lacking = True
            log.error("the journal of %s lacks batch %d of bucket %d: its later ones wait", self._recorder.worker, lane.reach + 1, bucket)

    # --- what Postgres has -----------------------------------------------------------------------------------------
    def ask_committed(self) -> None:
        """Learn which batches Postgres has; forget them, and the segments they were in."""
        field = self._recorder.worker

        def answered(bucket: int, reply: Any) -> None:
            if isinstance(reply, Exception) or reply is None:
                return
            self._committed[bucket] = max(int(reply), self._committed.get(bucket, 0))
            lane = self._lane(bucket)
            while lane.batches and lane.batches[0].seq <= self._committed[bucket]:
                self._forget_first(lane)
            self._look_for_oldest(bucket, lane)

        for bucket, seq in self._recorder.tally.seqs.items():
            if self._committed.get(bucket, 0) < seq:
                self._link.call(pack(("HGET", keys.committed(bucket), field)), partial(answered, bucket))
        self._recorder.trim(self._committed)

    @property
    def full_buckets(self) -> int:
        """How many the store takes nothing more of until somebody drains it."""
        return sum(lane.full for lane in self._lanes.values())

    @property
    def all_committed(self) -> bool:
        return self._recorder.all_committed(self._committed)

    def _look_for_oldest(self, bucket: int, lane: _Lane) -> None:
        """Where what comes next is in the journal alone, it counts as old as what came before it, until it has arrived."""
        committed = self._committed[bucket]
        if lane.oldest_seq > committed:
            return
        first = next((batch for batch in lane.batches if batch.minute), None)
        if first is not None:
            lane.oldest_seq = first.seq
            if first.seq == committed + 1:
                lane.oldest_minute = first.minute
        elif committed >= self._recorder.tally.seqs.get(bucket, 0):
            lane.oldest_minute = 0
        else:
            lane.oldest_seq = committed + 1

    def oldest_age_seconds(self) -> float:
        """Age of the oldest minute that Postgres is not known to have; 0 where it has all."""
        minutes = [lane.oldest_minute for lane in self._lanes.values() if lane.oldest_minute]
        return max(0, self._recorder.minute() - min(minutes)) * 60.0 if minutes else 0.0

    def replayed(self, bucket: int) -> bool:
        """Whether the store has taken all that earlier epochs charged in this bucket, under its present one."""
        lane = self._lane(bucket)
        if lane.tag is None or lane.tag != self._buckets[bucket].tag or lane.acked is None or lane.target is None:
            return False
        return lane.acked >= lane.target

    def _pack(self, batch: Batch, tag: str) -> bytes:
        bucket, sums = batch.bucket, batch.sums
        moves = sums.counter_moves(int(tag.split(" ", 1)[0]))
        fields: list[str] = []
        quantities: list[str] = []
        for field, quantity in sums.ledger.items():
            if quantity:
                fields.append(field)
                quantities.append(str(quantity))
        words = ["EVALSHA", SHA, str(3 + len(moves)), keys.epoch(bucket), keys.marks(bucket), keys.live(bucket), *moves]
        words += [tag, self._recorder.worker, str(batch.seq), str(len(fields)), *fields, *quantities]
        for counter, delta in moves.items():
            words.append(str(delta))
            words.append(str(sums.expires[counter]))
        words.append(self._bound)
        return packed(words)
