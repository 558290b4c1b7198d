"""Ship a journal's batches into the buckets' live hashes (lua/settle.lua), each exactly once, again after a loss.

A batch stays here (or on disk, when there are many) until Postgres has committed it: the store's word is not enough.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from metering.model import keys
from metering.store.redis.link import Link, pack

from .epochs import BucketEpoch
from .recorder import Recorder
from .scripts import SETTLE
from .tally import Batch
from .wire import packed

log = logging.getLogger("weighbridge.gateway")
EVERY_BUCKET = range(keys.BUCKETS)
SHA = SETTLE.sha.decode()
KEPT_ROWS = 100_000  # ledger rows kept in memory for a replay; beyond, a replay reads the journal


class _Lane:
    """One bucket's batches on their way. `acked` is the store's mark under `tag`, None while it is being asked.

    `target` is the batch that ends what earlier epochs had charged; None until it is cut.
    """

    __slots__ = ("acked", "batches", "lacking", "sending", "tag", "target")

    def __init__(self) -> None:
        self.tag: str | None = None
        self.acked: int | None = None
        self.target: int | None = None
        self.batches: deque[Batch] = deque()
        self.sending = False
        self.lacking = False


class Shipper:
    """Ships what `recorder` records.

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
    ) -> None:
        self._link, self._recorder, self._buckets = link, recorder, buckets
        self._on_synced, self._on_unready = on_synced, on_unready
        self._lanes: dict[int, _Lane] = {}
        self._committed: dict[int, int] = {}
        self._kept_rows = 0

    # --- outward ---------------------------------------------------------------------------------------------------
    def cut_and_send(self, of: range = EVERY_BUCKET) -> None:
        """Make batches of everything recorded in these buckets, and in urgent ones, and send what can be sent."""
        urgent, self._recorder.urgent = self._recorder.urgent, set()
        for bucket in self._recorder.dirty_buckets():
            if (bucket in of or bucket in urgent) and not self._buckets[bucket].held and self._lane(bucket).acked is not None:
                self._push(self._recorder.cut(bucket))
        try:
            self._recorder.flush()
            self._recorder.rotate_if_large()
        except OSError:
            return  # what is not on disk stays buffered
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
        self._lane(batch.bucket).batches.append(batch)
        self._kept_rows += len(batch.sums.ledger)
        if self._kept_rows > KEPT_ROWS:
            self._shed()

    def _shed(self) -> None:
        """Forget taken batches; the journal still has them."""
        for lane in self._lanes.values():
            while lane.batches and lane.acked is not None and lane.batches[0].seq <= lane.acked:
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
        if lane.target is None and not state.held:
            lane.target = self._cut_here(bucket)
        if lane.target is not None and lane.acked >= lane.target:
            self._on_synced(bucket)
        if lane.acked >= self._recorder.tally.seqs.get(bucket, 0) or not self._written():
            return
        batch = next((b for b in lane.batches if b.seq > lane.acked), None)
        if batch is None or batch.seq != lane.acked + 1:
            batch = self._reload(bucket, lane, lane.acked)
        if batch is None:
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
        if reply[0] == b"mark":
            lane.acked = int(reply[1])
            self._recorder.catch_up(bucket, lane.acked)
            self._next(bucket)
        else:
            lane.tag = None
            self._on_unready(bucket, reply[1])

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
            lane.tag, lane.acked, lane.sending = None, None, False

    def _ask_mark(self, bucket: int, lane: _Lane, tag: str) -> None:
        """A settle of no batch (seq 0) tells the mark, and only under this epoch."""
        lane.tag, lane.acked, lane.target, lane.sending = tag, None, None, True
        names = (keys.epoch(bucket), keys.marks(bucket), keys.live(bucket))
        command = packed(["EVALSHA", SHA, str(len(names)), *names, tag, self._recorder.worker, "0", "0"])
        self._link.call(command, partial(self._settled, bucket, lane, tag))

    def _reload(self, bucket: int, lane: _Lane, above: int) -> Batch | None:
        """Memory lacks the batch that the store asks for: read what is above its mark from the journal.

        None where the journal lacks it too (Postgres restored from an older backup, a damaged file): this bucket's
        batches of this worker stay where they are, and the log says so until a person decides.
        """
        found = self._recorder.batches_above({bucket: above})
        if not found or found[0].seq != above + 1:
            if not lane.lacking:
                log.error("the journal of %s lacks batch %d of bucket %d: its later ones wait", self._recorder.worker, above + 1, bucket)
            lane.lacking = True
            return None
        lane.lacking = False
        self._kept_rows += sum(len(b.sums.ledger) for b in found) - sum(len(b.sums.ledger) for b in lane.batches)
        lane.batches = deque(found)
        return found[0]

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
                self._kept_rows -= len(lane.batches.popleft().sums.ledger)

        for bucket, seq in self._recorder.tally.seqs.items():
            if self._committed.get(bucket, 0) < seq:
                self._link.call(pack(("HGET", keys.committed(bucket), field)), partial(answered, bucket))
        self._recorder.trim(self._committed)

    @property
    def all_committed(self) -> bool:
        return self._recorder.all_committed(self._committed)

    def oldest_age_seconds(self) -> float:
        """Age of the oldest minute that Postgres is not known to have; 0 where it has all."""
        minutes = [b.minute for lane in self._lanes.values() for b in lane.batches if b.minute]
        now = self._recorder.minute()
        return max(0, now - min(minutes)) * 60.0 if minutes else 0.0

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
        return packed(words)
