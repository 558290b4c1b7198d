"""Decide whether calls may pass: those that ask in one loop turn share one script call a bucket (lua/admit.lua).

Exact by the script; this side keeps the promises of the protocol: one unresolved call a bucket, a grant is journaled
before its call goes on, an unanswered call is asked after before the next, and a dead store costs nobody a wait.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import hiredis

from metering.model import keys
from metering.store.redis.link import Link, LinkLost, Server, pack

from .charges import Charge
from .epochs import BucketEpoch, Epochs
from .failure import Grace, Verdict
from .recorder import Recorder
from .scripts import ADMIT, RESOLVE

CALLS_A_SCRIPT = 256


class Status(Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    LATE = "late"
    STALE = "stale"
    PASSED_BY_RULE = "passed_by_rule"
    REFUSED_BY_RULE = "refused_by_rule"


@dataclass(slots=True)
class Decision:
    """`used` stands beside the charge's limits; `refusing` is the index of the limit that refused."""

    status: Status
    xid: int = 0
    used: tuple[int, ...] = ()
    refusing: int = -1
    rule: str = ""


class Asker(Protocol):
    """Who asks for one call. Once `gone`, its client has left: it leaves the batch, and what it was granted is given back."""

    @property
    def gone(self) -> bool: ...

    def decided(self, decision: Decision) -> None:
        """Called once, never from inside `ask`, when the journal holds what it says. Not called where the asker is gone."""


class _Awaiting:
    """An asker for who would rather await."""

    __slots__ = ("future",)

    def __init__(self, future: "asyncio.Future[Decision]") -> None:
        self.future = future

    @property
    def gone(self) -> bool:
        return self.future.done()

    def decided(self, decision: Decision) -> None:
        self.future.set_result(decision)


Group = tuple[Charge, list[Asker]]


@dataclass(slots=True)
class _Call:
    """One admit under way. `passed` counts, group by group, what a failure rule let through meanwhile."""

    n: int
    tag: str
    epoch: int
    groups: list[Group]
    passed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class BucketState(BucketEpoch):
    """One bucket as this worker sees it: the calls that wait for it, and the one admit under way."""

    n: int = 0
    waiting: dict[Charge, list[Asker]] = field(default_factory=dict)
    under_way: _Call | None = None
    unresolved: _Call | None = None

    @property
    def held(self) -> bool:
        """An unanswered admit holds the bucket's records back until it is resolved."""
        return self.unresolved is not None


class Admission:
    """Asks the store, or a failure rule where the store is away."""

    def __init__(self, link: Link, recorder: Recorder, grace: Grace, *, on_epoch: Callable[[int], None], metrics: Any) -> None:
        self._link, self._recorder, self._grace = link, recorder, grace
        self._on_epoch, self._metrics = on_epoch, metrics
        self.buckets = [BucketState(b) for b in range(keys.BUCKETS)]
        self.epochs = Epochs(link, self.buckets, self._epoch_changed)
        self._to_send: set[int] = set()
        self._decided: list[tuple[Asker, Decision]] = []
        self._publishing = False
        self._loop = asyncio.get_running_loop()

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
        self._wake(state)

    async def decide(self, charge: Charge) -> Decision:
        """The decision on one call, awaited. Cancelled, the call leaves the batch."""
        asker = _Awaiting(self._loop.create_future())
        self.ask(charge, asker)
        try:
            return await asker.future
        except asyncio.CancelledError:
            if asker.future.done() and not asker.future.cancelled() and asker.future.result().xid:
                self._abandoned(asker.future.result())
            raise

    def _wake(self, state: BucketState) -> None:
        if state.under_way is not None:
            return
        if not self._to_send:
            self._loop.call_soon(self._send)
        self._to_send.add(state.bucket)

    def _send(self) -> None:
        """Once a turn: every bucket with calls waiting, all in one write."""
        buckets, self._to_send = self._to_send, set()
        for bucket in buckets:
            state = self.buckets[bucket]
            if state.under_way is not None or self.epochs.server is None or state.tag is None:
                continue
            if state.unresolved is not None:
                self._send_resolve(state)
            elif state.waiting and state.open:
                self._send_admit(state)
        self._flush()

    def _send_admit(self, state: BucketState) -> None:
        assert state.tag is not None
        groups = _take(state.waiting, CALLS_A_SCRIPT)
        if not groups:
            return
        state.n += 1
        call = state.under_way = _Call(state.n, state.tag, state.epoch, groups)
        for charge, _ in groups:
            self._recorder.name(charge.template)
        if not self._flush():  # a successor must be able to read what the tickets of this call stand for
            state.under_way = None
            self._refuse_unwritten(groups)
            return
        self._metrics.admission_batch(sum(len(askers) for _, askers in groups))
        self._link.call(_pack_admit(state, call, self._recorder.worker), lambda reply: self._admitted(state, call, reply))

    def _refuse_unwritten(self, groups: list[Group]) -> None:
        """Nothing can be written down, so nothing is charged and nothing goes on."""
        for _, askers in groups:
            self._decided += [(a, Decision(Status.REFUSED_BY_RULE, rule="journal")) for a in askers]
        self._publish_soon()

    def _send_resolve(self, state: BucketState) -> None:
        call, bucket = state.unresolved, state.bucket
        assert call is not None
        state.under_way = call
        command = ("EVALSHA", RESOLVE.sha, 2, keys.epoch(bucket), keys.marks(bucket), state.tag, self._recorder.worker, call.n)
        self._link.call(pack(command), lambda reply: self._resolved(state, call, reply))

    # --- answers ---------------------------------------------------------------------------------------------------
    def _admitted(self, state: BucketState, call: _Call, reply: Any) -> None:
        state.under_way = None
        if isinstance(reply, hiredis.ReplyError):
            self._metrics.store_error(str(reply))
            self._give_up(state, call)
            if str(reply).startswith("NOSCRIPT"):
                self._link.reset()
        elif isinstance(reply, LinkLost):
            self._give_up(state, call)
        elif reply[0] == b"ok":
            self._grant(state, call, reply)
        else:  # unready: nothing was charged
            if reply[0] == b"unready":
                self.epochs.learn(state.bucket, reply[1])
            for charge, askers in call.groups:
                self._by_rule(state, charge, askers, None)
        if state.waiting:
            self._wake(state)

    def _grant(self, state: BucketState, call: _Call, reply: list[Any]) -> None:
        at = 1
        with self._recorder.together():  # what one script charged is one record: all of it is on disk, or none
            for charge, askers in call.groups:
                _, status, granted, refusing, limits = reply[at : at + 5]
                used = tuple(reply[at + 5 : at + 5 + limits])
                at += 5 + limits
                alive = [a for a in askers if not a.gone]
                if status:
                    outcome = Decision(Status.LATE if status == 1 else Status.STALE)
                    self._decided += [(a, outcome) for a in alive]
                    continue
                self._grant_group(charge, call, granted, alive, used, refusing)
        self._publish_soon()

    def _grant_group(self, charge: Charge, call: _Call, granted: int, alive: list[Asker], used: tuple[int, ...], refusing: int) -> None:
        going = min(granted, len(alive))
        if going:
            xid = self._recorder.granted(charge.template, call.epoch, call.n, going)
            self._decided += [(a, Decision(Status.ADMITTED, xid + i, used)) for i, a in enumerate(alive[:going])]
        if granted > going:
            self._recorder.refunded(charge.template, call.epoch, call.n, granted - going)
        if len(alive) > going:
            refused = Decision(Status.REFUSED, 0, used, refusing - 1)
            self._decided += [(a, refused) for a in alive[going:]]

    def _give_up(self, state: BucketState, call: _Call) -> None:
        """No answer came: the failure rules decide now, the call itself is asked after when the store is back."""
        call.passed = []
        for charge, askers in call.groups:
            call.passed.append(self._by_rule(state, charge, askers, call))
        state.unresolved = call
        if self.epochs.server is not None:
            self._wake(state)

    def _resolved(self, state: BucketState, call: _Call, reply: Any) -> None:
        state.under_way = None
        if isinstance(reply, Exception):  # still unresolved: asked again by the next call, or on the next connection
            if isinstance(reply, hiredis.ReplyError):
                self._metrics.store_error(str(reply))
                if str(reply).startswith("NOSCRIPT"):
                    self._link.reset()
            self._drain_waiting(state)
            return
        if reply[0] == b"unready" and self.epochs.tag_of(reply[1]) is None:
            self.epochs.learn(state.bucket, reply[1])
            return  # nobody can say yet
        state.unresolved = None
        charged = []
        if reply[0].startswith(b"ok"):
            at = 1
            for charge, _ in call.groups:
                _, status, granted, _, limits = reply[at : at + 5]
                at += 5 + limits
                if not status and granted:
                    charged.append((charge.template, granted))
        self._recorder.resolved(state.bucket, call.n, call.epoch, charged)
        self._flush()
        self._on_epoch(state.bucket)
        if state.waiting:
            self._wake(state)

    # --- failure rules ---------------------------------------------------------------------------------------------
    def _by_rule(self, state: BucketState, charge: Charge, askers: list[Asker], call: _Call | None) -> int:
        """Decide without the store; returns how many passed."""
        alive = [a for a in askers if not a.gone]
        if not alive:
            return 0
        verdict: Verdict = self._grace.decide(charge, len(alive))
        if verdict.passed:
            n = call.n if call else 0
            xid = self._recorder.passed(charge.template, call.epoch if call else state.epoch, n, verdict.passed)
            for i, asker in enumerate(alive[: verdict.passed]):
                self._decided.append((asker, Decision(Status.PASSED_BY_RULE, xid + i, rule=verdict.rule)))
        refused = Decision(Status.REFUSED_BY_RULE, rule=verdict.rule)
        self._decided += [(a, refused) for a in alive[verdict.passed :]]
        self._metrics.by_rule(verdict.rule, verdict.passed, len(alive) - verdict.passed)
        self._publish_soon()
        return verdict.passed

    def _publish_soon(self) -> None:
        if not self._publishing:
            self._publishing = True
            self._loop.call_soon(self._publish)

    def _publish(self) -> None:
        """The journal first, then the calls go on."""
        self._publishing = False
        decided, self._decided = self._decided, []
        if not decided:
            return
        written = self._flush()
        for asker, decision in decided:
            if asker.gone:
                if decision.xid:
                    self._abandoned(decision)
                continue
            if not written and decision.xid:
                self._abandoned(decision)
                decision = Decision(Status.REFUSED_BY_RULE, rule="journal")
            try:
                asker.decided(decision)
            except Exception as exc:  # noqa: BLE001  told to the loop, which logs it; the other calls go on
                self._loop.call_exception_handler({"message": "a call failed on its decision", "exception": exc})

    def _abandoned(self, decision: Decision) -> None:
        """The client left between its grant and its call: never forwarded, so given back."""
        tid, _ = self._recorder.tally.open[decision.xid]
        self._recorder.ended(decision.xid, self._recorder.tally.templates[tid], "client_left_before", 0, 0, 0, 0, {})

    def _flush(self) -> bool:
        try:
            self._recorder.flush()
        except OSError as exc:
            self._metrics.journal_error(str(exc))
            return False
        return True

    # --- epochs ----------------------------------------------------------------------------------------------------
    def link_up(self, server: Server) -> None:
        self.epochs.link_up(server)

    def link_down(self) -> None:
        self.epochs.link_down()
        for state in self.buckets:
            self._drain_waiting(state)

    def _epoch_changed(self, state: BucketState) -> None:
        if state.tag is not None and state.unresolved is not None:
            self._wake(state)
        self._on_epoch(state.bucket)
        if not state.open:
            self._drain_waiting(state)

    def _drain_waiting(self, state: BucketState) -> None:
        waiting, state.waiting = state.waiting, {}
        for charge, askers in waiting.items():
            self._by_rule(state, charge, askers, None)


def _take(waiting: dict[Charge, list[Asker]], most: int) -> list[Group]:
    """Groups in order of arrival, at most `most` calls; those whose client left are dropped."""
    groups, taken = [], 0
    for charge in list(waiting):
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


def _pack_admit(state: BucketState, call: _Call, worker: str) -> bytes:
    """The command for these groups; every counter is named once in KEYS."""
    counters: dict[str, int] = {}
    arguments: list[str | int] = [call.tag, worker, call.n]
    for charge, askers in call.groups:
        arguments += [charge.template.tid, charge.org_id, charge.version, len(askers), charge.from_ms, charge.until_ms, len(charge.limits)]
        for limit in charge.limits:
            index = counters.setdefault(limit.counter, len(counters) + 4)
            enforced: str | int = "" if limit.enforced is None else limit.enforced
            arguments += [index, limit.cost, enforced, limit.expires_ms]
    bucket = state.bucket
    names = (keys.epoch(bucket), keys.versions(bucket), keys.marks(bucket), *counters)
    return pack(("EVALSHA", ADMIT.sha, len(names), *names, *arguments))
