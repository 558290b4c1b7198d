"""Decide whether calls may pass: those that ask in one loop turn share one script call (lua/admit.lua).

Exact by the script; this side keeps the promises of the protocol: one unresolved call a bucket, a grant is journaled
before its call goes on, an unanswered call is asked after before the next, and a dead store costs nobody a wait.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis

from metering.model import keys
from metering.store.redis.link import Link, Server, pack

from . import draws, wire
from .charges import Charge
from .decisions import Asker, Awaiting, Decision, Group, Status, misses, parts, said, take
from .epochs import BucketEpoch, Epochs
from .failure import Grace, Verdict
from .recorder import Recorder
from .scripts import RESOLVE
from .seats import BEAT_SECONDS, Seats

_RETRY_SECONDS = 0.05
_NOT_READY = b"!"
__all__ = ["Admission", "Asker", "BucketState", "Decision", "Status"]


class _Call:
    """What one admit under way asks of one bucket."""

    __slots__ = ("epoch", "groups", "n", "state", "tag")

    def __init__(self, state: "BucketState", tag: str, n: int, groups: list[Group]) -> None:
        self.state, self.tag, self.epoch, self.n, self.groups = state, tag, state.epoch, n, groups


class BucketState(BucketEpoch):
    """One bucket as this worker sees it: the calls that wait for it, the one admit under way, what is in flight."""

    def __init__(self, bucket: int) -> None:
        super().__init__(bucket)
        self.waiting: dict[Charge, list[Asker]] = {}
        self.to_send = False
        self.under_way: _Call | None = None
        self.unresolved: _Call | None = None
        self.seats: Seats | None = None

    @property
    def held(self) -> bool:
        """An unanswered admit holds the bucket's records back until it is resolved."""
        return self.unresolved is not None


Turn = list[_Call]  # what one script asks: of each bucket once, all under one tag


class Admission:
    """Asks the store, or a failure rule where the store is away."""

    def __init__(self, link: Link, recorder: Recorder, grace: Grace, *, on_epoch: Callable[[int], None], metrics: Any) -> None:
        self._link, self._recorder, self._grace = link, recorder, grace
        self._on_epoch, self._metrics = on_epoch, metrics
        self.buckets = [BucketState(b) for b in range(keys.BUCKETS)]
        self._who, self._n = wire.who(recorder.worker), 0
        self._tag_word = ("", b"")  # the last tag, and how it stands in an admit
        self.epochs = Epochs(link, self.buckets, self._epoch_changed)
        self._to_send: list[BucketState] = []
        self._decided: list[tuple[Asker, Decision]] = []
        self._publishing = self._beating = False
        self._retry_at = 0.0  # when the disk, which took nothing, is given its next chance; 0: it takes what it gets
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
        if state.under_way is None and not state.to_send:
            state.to_send = True
            if not self._to_send:
                self._loop.call_soon(self._send)
            self._to_send.append(state)

    def _send(self) -> None:
        """Once a turn: every bucket with something to ask or to say, all in one write."""
        states, self._to_send = self._to_send, []
        for state in states:  # before anything can fail: a bucket that keeps the mark is never woken again
            state.to_send = False
        if self.epochs.server is None:
            return
        turn, n = list[_Call](), self._n + 1
        for state in states:
            tag = state.tag
            if tag is None or state.under_way is not None:
                continue
            try:
                if state.unresolved is not None:
                    self._send_resolve(state, state.unresolved)
                    continue
                if state.seats is not None and state.seats.due:
                    self._link.call(state.seats.statement(tag, self._recorder.worker), partial(self._said, state))
                if state.waiting and state.open:
                    groups = take(state.waiting, wire.CALLS_A_SCRIPT, wire.KEYS_A_SCRIPT)
                    if groups:
                        call = _Call(state, tag, n, groups)
                        turn.append(call)
                        state.under_way = call
            except Exception as exc:  # noqa: BLE001  told to the loop, which logs it; the other buckets are asked
                state.under_way = None
                self._tell(exc)
                self._drain_waiting(state)
        if turn:
            self._n = n  # one for all of them: in each bucket it is higher than any before
            self._ask_store(turn)

    def _ask_store(self, turn: Turn) -> None:
        if not self._explained(turn):
            for call in turn:
                self._decide_unwritten(call)
            return
        for script in _scripts(turn):
            try:
                self._link.call(self._pack(script), partial(self._admitted, script))
            except Exception as exc:  # noqa: BLE001  as above; whether it was sent before that, the store will say
                self._tell(exc)
                self._unread(script)

    def _explained(self, turn: Turn) -> bool:
        """Whether a successor can read what the tickets of these calls stand for."""
        name = self._recorder.name
        try:
            for call in turn:
                for charge, _ in call.groups:
                    if charge.counted:
                        for template in charge.templates:
                            name(template)
        except Exception as exc:  # noqa: BLE001  as above
            self._tell(exc)
            return False
        return self._names_written()

    def _tell(self, exc: Exception) -> None:
        self._loop.call_exception_handler({"message": "asking the store failed", "exception": exc})

    def _pack(self, turn: Turn) -> bytes:
        """One script for all of these."""
        first = turn[0]
        if self._tag_word[0] != first.tag:
            self._tag_word = (first.tag, wire.bulks((first.tag,)))
        caller, script, calls = self._who + wire.number(first.n) + self._tag_word[1], wire.Script(), 0
        for call in turn:
            groups = call.groups
            script.bucket(call.state.bucket, len(groups))
            for charge, askers in groups:
                slots = self._slots(call.state, charge) if charge.slots else b""
                count = len(askers)
                calls += count
                script.group(charge.pieces, draws.asked(charge, askers) if charge.draws else count, slots)
        self._metrics.admission_batch(calls)
        return script.packed(caller)

    def _decide_unwritten(self, call: _Call) -> None:
        """Nothing can be written down, so nothing is charged; the rules say what goes on."""
        call.state.under_way = None
        for charge, askers in call.groups:
            self._by_rule(call.state, charge, askers, None)
        self._go_on(call.state)

    def _send_resolve(self, state: BucketState, call: _Call) -> None:
        state.under_way, bucket = call, state.bucket
        command = ("EVALSHA", RESOLVE.sha, 2, keys.epoch(bucket), keys.marks(bucket), state.tag, self._recorder.worker, call.n)
        self._link.call(pack(command), partial(self._resolved, state, call))

    # --- answers ---------------------------------------------------------------------------------------------------
    def _admitted(self, turn: Turn, reply: Any) -> None:
        if type(reply) is not list:
            self._failed(reply)
            for call in turn:
                call.state.under_way = None
                self._give_up(call.state, call)
                self._go_on(call.state)
            return
        at, minute, reading = 0, self._recorder.minute(), turn[0]
        try:
            for reading in turn:
                state = reading.state
                state.under_way = None
                first = reply[at]
                if type(first) is bytes:
                    self._not_charged(reading, first)
                    at += 1
                else:
                    at = self._grant(reading, reply, at, minute)
                if state.waiting or state.seats is not None:
                    self._go_on(state)
        except Exception:
            self._unread(turn, reading)
            raise  # to the link, which tells the loop

    def _unread(self, turn: Turn, failed: _Call | None = None) -> None:
        """A fault of ours in the middle of an answer, or before there could be one: nobody shall wait for ever.

        What was not read of an answer is asked after. Where some of the call in which it `failed` were granted something, they go on, and
        what it charged for the others stays charged: rather too much than too little.
        """
        told = {id(asker) for asker, _ in self._decided}
        for call in turn:
            state = call.state
            if call is failed and any(id(asker) in told for _, askers in call.groups for asker in askers):
                for charge, askers in call.groups:
                    self._by_rule(state, charge, [asker for asker in askers if id(asker) not in told], None)
                self._go_on(state)
            elif call is failed or state.under_way is call:
                state.under_way = None
                self._give_up(state, call)

    def _not_charged(self, call: _Call, text: bytes) -> None:
        """The bucket is not ready, or the call was given up meanwhile."""
        if text.startswith(_NOT_READY):
            self.epochs.learn(call.state.bucket, text[1:])
        for charge, askers in call.groups:
            self._by_rule(call.state, charge, askers, None)

    def _go_on(self, state: BucketState) -> None:
        if state.waiting or (state.seats is not None and state.seats.due):
            self._wake(state)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, hiredis.ReplyError):
            self._metrics.store_error(str(error))
            if str(error).startswith("NOSCRIPT"):
                self._link.reset()

    def _grant(self, call: _Call, reply: list[Any], at: int, minute: int) -> int:
        """What the reply says from `at` on of one bucket; returns where the next one begins."""
        groups = call.groups
        if len(groups) == 1:
            charge, askers = groups[0]
            if charge.plain and len(askers) == 1 and not askers[0].gone:
                return self._grant_group(call, charge, askers, reply, at, minute)
        with self._recorder.together():  # what one script charged is one record: all of it is on disk, or none
            for charge, askers in groups:
                if charge.draws:
                    granted, refusing, upto = reply[at], reply[at + 1], _end(charge, reply, at)
                    now = _numbers(reply, at + 2, upto)
                    self._decided += draws.grant(self._recorder, charge, askers, call.epoch, call.n, granted, refusing, now)
                    at = upto
                else:
                    at = self._grant_group(call, charge, [a for a in askers if not a.gone], reply, at, minute)
        return at

    def _grant_group(self, call: _Call, charge: Charge, alive: list[Asker], reply: list[Any], at: int, minute: int) -> int:
        granted: int = reply[at]
        if granted < 0:
            outcome = Decision(Status.LATE if granted == -1 else Status.STALE)
            self._decided += [(a, outcome) for a in alive]
            return at + 2
        upto = at + 2 + charge.told
        now = _numbers(reply, at + 2, upto)
        going = min(granted, len(alive))
        if charge.plain and granted == going:
            used = tuple(now)
            if granted:
                xid = self._recorder.granted(charge.template, call.epoch, call.n, granted, minute)
                for i in range(granted):
                    self._decided.append((alive[i], Decision(Status.ADMITTED, xid + i, used)))
        else:
            used = tuple(now[: charge.shown])
            self._grant_parts(call, charge, alive, granted, now, minute)
        if len(alive) > going:
            refusing: int = reply[at + 1]
            refused = Decision(Status.REFUSED, 0, used, refusing - 1)
            self._decided += [(a, refused) for a in alive[going:]]
        if charge.shadows:
            for meter, count in misses(charge, granted, now):
                self._metrics.shadow_refused.add(count, meter)
        return upto

    def _grant_parts(self, call: _Call, charge: Charge, alive: list[Asker], granted: int, now: list[int], minute: int) -> None:
        """Where calls of one group are charged differently, hold slots, or have left meanwhile."""
        state, used, at = call.state, tuple(now[: charge.shown]), 0
        for beyond, count in parts(charge, granted, now):
            going = max(min(count, len(alive) - at), 0)
            xid, template = 0, charge.templates[beyond]
            if charge.counted and going:
                if charge.upload is None:
                    xid = self._recorder.granted(template, call.epoch, call.n, going, minute)
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
        verdict = self._grace.decide(charge, len(alive)) if self._recorder.has_room else Verdict("journal", 0)
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
        """The journal first, then the calls go on. What a rule let pass goes on without: its records wait in memory."""
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
            if not written and decision.xid and decision.status is not Status.PASSED_BY_RULE:
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
        if self._retry_at and self._loop.time() < self._retry_at:
            return False
        try:
            write()
        except OSError as exc:
            self._metrics.journal_error(str(exc))
            self._retry_at = self._loop.time() + _RETRY_SECONDS
            return False
        self._retry_at = 0.0
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


def _end(charge: Charge, reply: list[Any], at: int) -> int:
    """Where the next group begins."""
    return at + 2 if reply[at] < 0 else at + 2 + charge.told


def _numbers(reply: list[Any], at: int, upto: int) -> list[int]:
    """What Lua could not hold as a number came as a text."""
    if upto > len(reply):
        raise IndexError("the store's answer ends in the middle of a group")
    return [each if type(each) is int else int(each) for each in reply[at:upto]]


def _scripts(turn: Turn) -> list[Turn]:
    """One script for all buckets of a turn, or several where the calls are very many, or asked under several tags."""
    scripts: list[Turn] = []
    calls = names = 0
    tag = turn[0].tag
    for call in turn:
        if call.tag != tag:
            turn = sorted(turn, key=lambda call: call.tag)
            break
    tag = ""
    for call in turn:
        size = wanted = 0
        for charge, askers in call.groups:
            size += len(askers)
            wanted += charge.pieces.key_count
        calls += size
        names += wanted
        if calls > wire.CALLS_A_SCRIPT or names > wire.KEYS_A_SCRIPT or call.tag != tag:
            scripts.append([])
            calls, names, tag = size, wanted, call.tag
        scripts[-1].append(call)
    return scripts
