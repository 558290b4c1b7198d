"""Decide whether calls may pass: those that ask in one loop turn share one script call (lua/admit.lua).

Exact by the script; this side keeps the promises of the protocol: one unresolved call a bucket, a grant is journaled
before its call goes on, an unanswered call is asked after before the next, and a dead store costs nobody a wait.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hiredis

from metering.model import keys
from metering.store.redis.link import Link, Server, pack

from . import draws, wire
from .charges import Charge
from .decisions import Asker, Awaiting, Decision, Group, Status, misses, parts, said, take
from .epochs import BucketEpoch, Epochs
from .failure import Grace
from .recorder import Recorder
from .scripts import RESOLVE
from .seats import BEAT_SECONDS, Seats

_NOT_CHARGED, _NOT_READY = b"!?", b"!"[0]
__all__ = ["Admission", "Asker", "BucketState", "Decision", "Status"]


@dataclass(slots=True)
class _Call:
    """One admit under way."""

    n: int
    tag: str
    epoch: int
    groups: list[Group]
    size: int  # calls
    names: int  # keys


@dataclass(slots=True)
class BucketState(BucketEpoch):
    """One bucket as this worker sees it: the calls that wait for it, the one admit under way, what is in flight."""

    n: int = 0
    waiting: dict[Charge, list[Asker]] = field(default_factory=dict)
    under_way: _Call | None = None
    unresolved: _Call | None = None
    seats: Seats | None = None
    tag_word: tuple[str, bytes] = ("", b"")  # the tag, and how it stands in an admit

    @property
    def held(self) -> bool:
        """An unanswered admit holds the bucket's records back until it is resolved."""
        return self.unresolved is not None


Turn = list[tuple[BucketState, _Call]]  # what one script asks


class Admission:
    """Asks the store, or a failure rule where the store is away."""

    def __init__(self, link: Link, recorder: Recorder, grace: Grace, *, on_epoch: Callable[[int], None], metrics: Any) -> None:
        self._link, self._recorder, self._grace = link, recorder, grace
        self._on_epoch, self._metrics = on_epoch, metrics
        self.buckets = [BucketState(b) for b in range(keys.BUCKETS)]
        self._who = wire.who(recorder.worker)
        self.epochs = Epochs(link, self.buckets, self._epoch_changed)
        self._to_send: set[int] = set()
        self._decided: list[tuple[Asker, Decision]] = []
        self._publishing = self._beating = False
        self._loop = asyncio.get_running_loop()
        link.on_replies = self._publish

    # --- asking ----------------------------------------------------------------------------------------------------
    def ask(self, charge: Charge, asker: Asker) -> None:
        """Decide one call; `asker.decided` tells."""
        state = self.buckets[charge.bucket]
        if not (state.open and state.tag is not None and self.epochs.server is not None):
            self._by_rule(state, charge, [asker], None)
            return
        waiting = state.waiting.get(charge)
        if waiting is None:
            state.waiting[charge] = [asker]
        else:
            waiting.append(asker)
        if state.under_way is None:
            self._wake(state)

    def answers(self, bucket: int) -> bool:
        """Whether it is the store that would decide, and not a rule."""
        state = self.buckets[bucket]
        return state.open and state.tag is not None and self.epochs.server is not None

    async def decide(self, charge: Charge) -> Decision:
        """The decision on one call, awaited. Cancelled, the call leaves the batch."""
        asker = Awaiting(self._loop.create_future())
        self.ask(charge, asker)
        try:
            return await asker.future
        except asyncio.CancelledError:
            if asker.future.done() and not asker.future.cancelled():
                self._abandoned(asker.future.result())
            raise

    def release(self, decision: Decision) -> None:
        """The call that was let pass so has ended: its slots are free. More than once is once."""
        slots, decision.slots = decision.slots, ()
        if slots:
            state = self.buckets[slots[0].bucket]
            self._seats(state).give(slots)
            self._wake(state)

    def _wake(self, state: BucketState) -> None:
        if state.under_way is None:
            if not self._to_send:
                self._loop.call_soon(self._send)
            self._to_send.add(state.bucket)

    def _send(self) -> None:
        """Once a turn: every bucket with something to ask or to say, all in one write."""
        buckets, self._to_send = self._to_send, set()
        if self.epochs.server is None:
            return
        begun: list[BucketState] = []
        for bucket in buckets:
            state = self.buckets[bucket]
            if state.under_way is not None or state.tag is None:
                continue
            if state.unresolved is not None:
                self._send_resolve(state, state.unresolved)
                continue
            if state.seats is not None and state.seats.due:
                self._link.call(state.seats.statement(state.tag, self._recorder.worker), partial(self._said, state))
            if state.waiting and state.open and self._begin(state, state.tag):
                begun.append(state)
        if begun and not self._names_written():  # a successor must be able to read what the tickets of these calls stand for
            for state in begun:
                self._refuse_unwritten(state)
            return
        for turn in _scripts(begun):
            self._link.call(self._pack(turn), partial(self._admitted, turn))

    def _begin(self, state: BucketState, tag: str) -> bool:
        groups = take(state.waiting, wire.CALLS_A_SCRIPT, wire.KEYS_A_SCRIPT)
        if not groups:
            return False
        state.n += 1
        state.under_way = _Call(state.n, tag, state.epoch, groups, *_sizes(groups))
        for charge, _ in groups:
            if charge.counted:
                for template in charge.templates:
                    self._recorder.name(template)
        return True

    def _pack(self, turn: Turn) -> bytes:
        """One script for all of these."""
        self._metrics.admission_batch(sum([call.size for _, call in turn]))
        if len(turn) == 1 and len(turn[0][1].groups) == 1:
            state, call = turn[0]
            charge, askers = call.groups[0]
            slots = self._slots(state, charge) if charge.slots else b""
            count = len(askers) if charge.plain else _count(charge, askers)
            return wire.admit_one(self._who, _tag_word(state, call.tag), wire.number(call.n), charge.pieces, count, slots)
        return wire.admit(self._who, [self._section(state, call) for state, call in turn])

    def _section(self, state: BucketState, call: _Call) -> wire.Section:
        groups = [
            (
                charge.pieces,
                len(askers) if charge.plain else _count(charge, askers),
                self._slots(state, charge) if charge.slots else b"",
            )
            for charge, askers in call.groups
        ]
        return state.bucket, _tag_word(state, call.tag), wire.number(call.n), groups

    def _refuse_unwritten(self, state: BucketState) -> None:
        """Nothing can be written down, so nothing is charged and nothing goes on."""
        call, state.under_way = state.under_way, None
        assert call is not None
        for _, askers in call.groups:
            self._decided += [(a, Decision(Status.REFUSED_BY_RULE, rule="journal")) for a in askers]
        self._publish_soon()
        self._go_on(state)

    def _send_resolve(self, state: BucketState, call: _Call) -> None:
        state.under_way, bucket = call, state.bucket
        command = ("EVALSHA", RESOLVE.sha, 2, keys.epoch(bucket), keys.marks(bucket), state.tag, self._recorder.worker, call.n)
        self._link.call(pack(command), partial(self._resolved, state, call))

    # --- answers ---------------------------------------------------------------------------------------------------
    def _admitted(self, turn: Turn, reply: Any) -> None:
        if type(reply) is not bytes:
            self._failed(reply)
            for state, call in turn:
                state.under_way = None
                self._give_up(state, call)
                self._go_on(state)
            return
        for (state, call), text in zip(turn, reply.split(b"|"), strict=True):
            state.under_way = None
            if text[0] in _NOT_CHARGED:
                self._not_charged(state, call, text)
            else:
                self._grant(state, call, text)
            if state.waiting or state.seats is not None:
                self._go_on(state)

    def _not_charged(self, state: BucketState, call: _Call, text: bytes) -> None:
        """The bucket is not ready, or the call was given up meanwhile."""
        if text[0] == _NOT_READY:
            self.epochs.learn(state.bucket, text[1:])
        for charge, askers in call.groups:
            self._by_rule(state, charge, askers, None)

    def _go_on(self, state: BucketState) -> None:
        if state.waiting or (state.seats is not None and state.seats.due):
            self._wake(state)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, hiredis.ReplyError):
            self._metrics.store_error(str(error))
            if str(error).startswith("NOSCRIPT"):
                self._link.reset()

    def _grant(self, state: BucketState, call: _Call, reply: bytes) -> None:
        groups = call.groups
        if len(groups) == 1 and groups[0][0].plain and len(groups[0][1]) == 1 and not groups[0][1][0].gone:
            self._grant_group(state, call, *groups[0], reply)
            return
        with self._recorder.together():  # what one script charged is one record: all of it is on disk, or none
            for (charge, askers), text in zip(groups, reply.split(b";"), strict=True):
                if charge.draws:
                    self._decided += draws.grant(self._recorder, charge, askers, call.epoch, call.n, text)
                else:
                    self._grant_group(state, call, charge, [a for a in askers if not a.gone], text)

    def _grant_group(self, state: BucketState, call: _Call, charge: Charge, alive: list[Asker], text: bytes) -> None:
        granted, refusing, *now = map(int, text.split())
        if granted < 0:
            outcome = Decision(Status.LATE if granted == -1 else Status.STALE)
            self._decided += [(a, outcome) for a in alive]
            return
        used = tuple(now) if charge.plain else tuple(now[: charge.shown])
        going = min(granted, len(alive))
        if charge.plain and granted == going:
            if granted:
                xid = self._recorder.granted(charge.template, call.epoch, call.n, granted)
                for i in range(granted):
                    self._decided.append((alive[i], Decision(Status.ADMITTED, xid + i, used)))
        else:
            self._grant_parts(state, call, charge, alive, granted, now)
        if len(alive) > going:
            refused = Decision(Status.REFUSED, 0, used, refusing - 1)
            self._decided += [(a, refused) for a in alive[going:]]
        if charge.shadows:
            for meter, count in misses(charge, granted, now):
                self._metrics.shadow_refused.add(count, meter)

    def _grant_parts(self, state: BucketState, call: _Call, charge: Charge, alive: list[Asker], granted: int, now: list[int]) -> None:
        """Where calls of one group are charged differently, hold slots, or have left meanwhile."""
        used, at = tuple(now[: charge.shown]), 0
        for beyond, count in parts(charge, granted, now):
            going = max(min(count, len(alive) - at), 0)
            xid, template = 0, charge.templates[beyond]
            if charge.counted and going:
                if charge.upload is None:
                    xid = self._recorder.granted(template, call.epoch, call.n, going)
                else:
                    xid = charge.upload.granted(self._recorder, beyond, call.epoch, call.n, going)
            if charge.counted and count > going:
                self._recorder.refunded(template, call.epoch, call.n, count - going)
            for i in range(going):
                decision = Decision(Status.ADMITTED, xid + i if xid else 0, used, beyond=beyond, slots=charge.slots)
                self._decided.append((alive[at + i], decision))
            at += going
        if charge.slots and granted:
            self._hold(state, charge, at)
            if granted > at:
                self._seats(state).unsure(charge.slots)

    def _give_up(self, state: BucketState, call: _Call) -> None:
        """No answer came: the failure rules decide now, the call itself is asked after when the store is back."""
        for charge, askers in call.groups:
            self._by_rule(state, charge, askers, call)
        state.unresolved = call
        if self.epochs.server is not None:
            self._wake(state)

    def _resolved(self, state: BucketState, call: _Call, reply: Any) -> None:
        state.under_way = None
        if isinstance(reply, Exception):  # still unresolved: asked again by the next call, or on the next connection
            self._failed(reply)
            self._drain_waiting(state)
            return
        if reply[0] == b"unready" and self.epochs.tag_of(reply[1]) is None:
            self.epochs.learn(state.bucket, reply[1])
            return  # nobody can say yet
        state.unresolved = None
        templates = {t.tid: t for charge, _ in call.groups for t in charge.templates}
        charged = [(templates[ticket], count) for ticket, count in said(reply[2])] if reply[0] == b"ok" else []
        self._recorder.resolved(state.bucket, call.n, call.epoch, charged)
        for charge, _ in call.groups:
            if charge.slots:
                self._seats(state).unsure(charge.slots)
        self._flush()
        self._on_epoch(state.bucket)
        self._go_on(state)

    # --- failure rules ---------------------------------------------------------------------------------------------
    def _by_rule(self, state: BucketState, charge: Charge, askers: list[Asker], call: _Call | None) -> None:
        """Decide without the store."""
        alive = [a for a in askers if not a.gone]
        if not alive:
            return
        verdict = self._grace.decide(charge, len(alive))
        if verdict.passed:
            xid, n = 0, call.n if call else 0
            epoch = call.epoch if call else state.epoch
            if charge.draws:
                draws.let(self._recorder, charge, alive[: verdict.passed], epoch, n)
            elif charge.upload is not None:
                xid = charge.upload.passed(self._recorder, epoch, n, verdict.passed)
            elif charge.counted:
                xid = self._recorder.passed(charge.template, epoch, n, verdict.passed)
            for i, asker in enumerate(alive[: verdict.passed]):
                decision = Decision(Status.PASSED_BY_RULE, xid + i if xid else 0, rule=verdict.rule, slots=charge.slots)
                self._decided.append((asker, decision))
            if charge.slots:
                self._hold(state, charge, verdict.passed)
                self._seats(state).unsure(charge.slots)
        refused = Decision(Status.REFUSED_BY_RULE, rule=verdict.rule)
        self._decided += [(a, refused) for a in alive[verdict.passed :]]
        self._metrics.by_rule(verdict.rule, verdict.passed, len(alive) - verdict.passed)
        self._publish_soon()

    # --- telling ---------------------------------------------------------------------------------------------------
    def _publish_soon(self) -> None:
        """Where no reply of the store is at hand, after which it happens anyway."""
        if not self._publishing:
            self._publishing = True
            self._loop.call_soon(self._publish)

    def _publish(self) -> None:
        """The journal first, then the calls go on."""
        self._publishing = False
        decided = self._decided
        if not decided:
            return
        self._decided = []
        written = self._flush()
        for asker, decision in decided:
            if asker.gone:
                self._abandoned(decision)
                continue
            if not written and decision.xid:
                self._abandoned(decision)
                decision = Decision(Status.REFUSED_BY_RULE, rule="journal")
            try:
                asker.decided(decision)
            except Exception as exc:  # noqa: BLE001  told to the loop, which logs it; the other calls go on
                self._loop.call_exception_handler({"message": "a call failed on its decision", "exception": exc})
                self._abandoned(decision)

    def _abandoned(self, decision: Decision) -> None:
        """The client left between its grant and its call: never forwarded, so given back."""
        self.release(decision)
        if decision.xid:
            self._recorder.left_before(decision.xid)

    def _flush(self) -> bool:
        return self._on_disk(self._recorder.flush)

    def _names_written(self) -> bool:
        return self._on_disk(self._recorder.flush_names)

    def _on_disk(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as exc:
            self._metrics.journal_error(str(exc))
            return False
        return True

    # --- slots -----------------------------------------------------------------------------------------------------
    def _seats(self, state: BucketState) -> Seats:
        if state.seats is None:
            state.seats = Seats(state.bucket)
        return state.seats

    def _slots(self, state: BucketState, charge: Charge) -> bytes:
        return self._seats(state).words(charge)

    def _hold(self, state: BucketState, charge: Charge, count: int) -> None:
        self._seats(state).take(charge.slots, count)
        if not self._beating:
            self._beating = True
            self._loop.call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        """Each second, while anything is in flight: this worker lives."""
        self._beating = False
        for state in self.buckets:
            if state.seats is not None and state.seats.held:
                self._beating = True
                state.seats.beat()
                self._wake(state)
        if self._beating:
            self._loop.call_later(BEAT_SECONDS, self._beat)

    def _said(self, state: BucketState, reply: Any) -> None:
        if state.seats is not None and reply != 1:
            if isinstance(reply, Exception):
                self._failed(reply)
            state.seats.say_all()
            if reply == 0:
                self._wake(state)

    # --- epochs ----------------------------------------------------------------------------------------------------
    def link_up(self, server: Server) -> None:
        self.epochs.link_up(server)

    def link_down(self) -> None:
        self.epochs.link_down()
        for state in self.buckets:
            self._drain_waiting(state)

    def _epoch_changed(self, state: BucketState) -> None:
        if state.seats is not None:
            state.seats.say_all()
        if state.tag is not None and (state.unresolved is not None or state.seats is not None):
            self._wake(state)
        self._on_epoch(state.bucket)
        if not state.open:
            self._drain_waiting(state)

    def _drain_waiting(self, state: BucketState) -> None:
        waiting, state.waiting = state.waiting, {}
        for charge, askers in waiting.items():
            self._by_rule(state, charge, askers, None)


def _count(charge: Charge, askers: list[Asker]) -> int:
    """How many are asked for: calls, or units of a drawing."""
    return draws.asked(charge, askers) if charge.draws else len(askers)


def _tag_word(state: BucketState, tag: str) -> bytes:
    if state.tag_word[0] != tag:
        state.tag_word = (tag, wire.bulks((tag,)))
    return state.tag_word[1]


def _sizes(groups: list[Group]) -> tuple[int, int]:
    if len(groups) == 1:
        charge, askers = groups[0]
        return len(askers), charge.pieces.key_count
    return sum([len(askers) for _, askers in groups]), sum([charge.pieces.key_count for charge, _ in groups])


def _scripts(begun: list[BucketState]) -> list[Turn]:
    """One script for all buckets of a turn, or several where the calls are very many."""
    turns: list[Turn] = []
    calls = names = 0
    for state in begun:
        call = state.under_way
        assert call is not None
        calls += call.size
        names += call.names
        if calls > wire.CALLS_A_SCRIPT or names > wire.KEYS_A_SCRIPT or not turns:
            turns.append([])
            calls, names = call.size, call.names
        turns[-1].append((state, call))
    return turns
