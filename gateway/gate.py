"""Where a quota cuts: stands between the two connections of a call, and lets pass what was drawn before.

Only calls with such a quota have a gate. It is told what their connections read (in place of gateway/transfer.py, to which it hands on),
holds what is not drawn yet (no more than one read), and stops the reading meanwhile. What passes is in the journal before it is
written to a socket. Where nothing more can be drawn both connections are broken off; an answer that has not begun becomes a 429.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.model.errors import StoreUnavailable, WeighbridgeError

from . import responses
from .admission import Decision, Status
from .charges import Charge
from .draws import Draw
from .exchange import Metered
from .flow import Flow
from .frames import Frames
from .outcome import Outcome
from .recorder import Recorder
from .service import UpstreamConnection
from .sluice import Sluice, split
from .tunnel import Tunnel

if TYPE_CHECKING:
    from .call import Call

_WITHOUT_BODY = (204, 304)
_TRIES = 4
_REQUEST, _RESPONSE = "request", "response"


def sized(call: "Call", charge: Charge) -> Charge:
    """The charge that a call whose bytes are drawn is admitted by: with its request's bytes, where it says how many they are."""
    assert charge.cut is not None
    length = call.request.content_length
    return (charge.cut.sized(length) if length else None) or charge


class Gate:
    """The gate of one call. `charge` is the one that it was admitted by."""

    __slots__ = (
        "_body", "_body_ended", "_bucket", "_free", "_lost", "_measures", "_out", "_refusal", "_seen", "_sluices", "_tries", "_up",
        "beyond", "call", "monotonic", "recorder", "xid",
    )  # fmt: skip

    def __init__(self, call: "Call", charge: Charge, decision: Decision) -> None:
        cut, handler = charge.cut, call.handler
        assert cut is not None
        self.call, self.xid, self.beyond = call, decision.xid, decision.beyond
        self.recorder: Recorder = handler.recorder
        self.monotonic, self._bucket = handler.monotonic, charge.bucket
        self._up = Flow(self, cut.inward) if cut.inward else None
        self._out = Flow(self, cut.outward) if cut.outward else None
        self._measures = {*cut.inward, *cut.outward}
        self._body: list[bytes] = []  # read from the client, not drawn yet
        self._body_ended = False
        self._free = False  # the response has no bytes to draw
        self._lost: bool | None = None  # the service's connection has ended (well or not) behind what is held
        self._refusal: tuple[Charge, Decision] | None = None
        self._tries = 0
        self._sluices: dict[Flow, Sluice] = {}
        self._seen: tuple[Charge, Charge] | None = None
        call.client.watch(self)
        self._take_upload(charge)

    def _take_upload(self, charge: Charge) -> None:
        up = self._up
        if up is None:
            return
        if charge.upload is not None:
            templates = self.recorder.tally.templates
            for tid, minute, units in self.recorder.tally.hands.rows(self.xid):
                up.give_all(templates[tid], minute, units)
        elif self.call.request.chunked or self.call.request.content_length:
            up.draw()

    # --- what a flow asks --------------------------------------------------------------------------------------------
    def charge(self) -> Charge:
        """The one that holds now. The call keeps its own, beside which its `used` stands."""
        return self.call.charge_of_now()

    def ask(self, draw: Draw) -> None:
        self.call.handler.admission.ask(draw.drawing, draw)

    def go_on(self, flow: Flow) -> None:
        """Bytes were drawn."""
        call = self.call
        self._tries = 0
        if call.over or not flow.stalled:
            return
        flow.stalled = False
        if flow in self._sluices:
            self._sluices[flow].go_on()
        elif flow is self._out:
            self._resume_service()
            self.response_read()
        else:
            self._resume_client()
            self._pass_body()
        if self._lost is not None and not (self._out and self._out.stalled):
            call.upstream_lost(self._lost)

    def _pause_service(self) -> None:
        connection = self.call._connection
        if connection is not None and not connection.lost:
            connection.transport.pause_reading()

    def _resume_service(self) -> None:
        connection = self.call._connection
        if not (connection is None or connection.lost or self.call._paused_by_client):
            connection.transport.resume_reading()

    def _resume_client(self) -> None:
        if not self.call._paused_by_upstream:
            self.call.client.resume_body()

    def renew(self, flow: Flow, status: Status) -> None:
        """Its windows have turned, or its limits changed: ask again by those of now."""
        if not self.call.over:
            self.call.client.run(self._renewed(flow, status))

    async def _renewed(self, flow: Flow, status: Status) -> None:
        call = self.call
        self._tries += 1
        try:
            if self._tries >= _TRIES:
                raise StoreUnavailable
            may_go_on = await call.handler.renew(call, status)
        except WeighbridgeError:
            may_go_on = False
        if call.over:
            return
        if may_go_on:
            flow.again()
        elif flow.stalled:
            self.cut(flow, self.charge(), Decision(Status.REFUSED_BY_RULE, rule="closed"))

    def cut(self, flow: Flow, drawing: Charge, decision: Decision) -> None:
        """Nothing more may pass."""
        call, handler = self.call, self.call.handler
        if call.over:
            return
        self._refusal = drawing, decision
        call.told_used(drawing, decision)
        way = _REQUEST if flow is self._up else _RESPONSE
        meter = drawing.limits[decision.refusing].meter if decision.status is Status.REFUSED else flow.measures[0]
        handler.metrics.cut.add(1, meter, way)
        handler.log_refusal(call, 0, "cut", meter=meter, way=way, rule=decision.rule, bytes_out=str(call.bytes_out))
        call.cut_off(f"the {way} was cut off at a limit")

    # --- the answer where there is none of the service's -------------------------------------------------------------
    @property
    def status(self) -> int:
        return 429 if self._refusal is not None and self._refusal[1].status is Status.REFUSED else 503

    def answer(self) -> tuple[int, responses.Headers, bytes]:
        """In place of a response that did not fit."""
        if self.status == 503 or self._refusal is None:
            rule = self._refusal[1].rule if self._refusal else "closed"
            return responses.error_answer(
                StoreUnavailable("bytes cannot be counted right now, and this quota then refuses them", rule=rule)
            )
        handler = self.call.handler
        refusal = responses.refused(*self._refusal, handler.now_ms(), handler.policy.upgrade_url)
        handler.metrics.refused.add(1, refusal.meter, refusal.mode, refusal.reason)
        return refusal.status, refusal.headers, refusal.body

    # --- from the client ---------------------------------------------------------------------------------------------
    def start(self, connection: UpstreamConnection, head: bytes) -> None:
        """In place of Transfer.start: what has come of the body goes through here as well."""
        call, request, up = self.call, self.call.request, self._up
        held: list[bytes] | None = None
        ended = request.body_ended
        if up is not None and not (call.client.gone or request.responded or call.over) and call._replay is None:
            size = sum(map(len, request.buffered))
            if request.chunked or size > up.left:
                held, request.buffered = request.buffered, []
                request.body_ended = False  # for the moment: the body follows
            elif size and not self.spend(up, size):
                connection.release(True)
                return
        call.start(connection, head, by_gate=True)
        request.body_ended = ended
        if connection.taker is call:
            connection.taker = self
            if held or (held is not None and ended):
                self.take_body(held, ended)

    def take_body(self, pieces: list[bytes], ended: bool) -> None:
        if self._up is None:
            self.call.take_body(pieces, ended)
            return
        self._body += pieces
        self._body_ended = ended
        self._pass_body()

    def _pass_body(self) -> None:
        call, up = self.call, self._up
        connection = call._connection
        assert up is not None
        if connection is None or connection.lost:
            self._body.clear()
            return
        if up.stalled:
            return
        size = sum(map(len, self._body))
        fits = min(size, up.left)
        if fits and not self.spend(up, fits):
            return
        now, self._body = split(self._body, fits)
        whole = fits == size
        if now or (whole and self._body_ended):
            call.take_body(now, whole and self._body_ended)
        if not whole and not call.over:
            up.stalled = True
            call.client.pause_body()
            up.draw(size - fits)
        elif not (call.over or self._body_ended):
            up.ahead()

    def client_gone(self) -> None:
        self.call.client_gone()

    def client_paused(self) -> None:
        self.call.client_paused()

    def client_resumed(self) -> None:
        call = self.call
        if self._out is not None and self._out.stalled:
            call._paused_by_client = False
        else:
            call.client_resumed()

    # --- from the service --------------------------------------------------------------------------------------------
    def response_read(self) -> None:
        call = self.call
        connection = call._connection
        if connection is None:
            return
        call._moved = True
        if self._body and connection.complete:
            call.request.body_ended = False  # the service has answered without it, and shall not see it end
        if not call.first_byte_sent and not self._may_begin(connection):
            return
        if self._free or connection.switched:
            call.response_read()
        elif self._out is not None and not self._out.stalled:
            self._pass_response(connection, self._out)

    def _may_begin(self, connection: UpstreamConnection) -> bool:
        """Whether the response's head may go on: once it is there, and bytes behind it are drawn."""
        head, out = connection.head, self._out
        if head is None or head.fault:
            self.call.response_read()
            return False
        if out is None or connection.bodiless or head.status in _WITHOUT_BODY or head.content_length == 0:
            self._free = True
            return True
        if not out.begun:
            out.stalled = True
            self._pause_service()
            if head.content_length is None or connection.switched:
                out.draw()
            else:
                out.draw_whole(head.content_length)
        return not out.stalled

    def _pass_response(self, connection: UpstreamConnection, out: Flow) -> None:
        call, pieces = self.call, connection.pieces
        size = sum(map(len, pieces))
        fits = min(size, out.left)
        if fits and not self.spend(out, fits):
            return
        if fits == size:
            call.response_read()
            if not call.over:
                out.ahead()
            return
        now, rest = split(pieces, fits)
        if now:
            complete, connection.complete, connection.pieces = connection.complete, False, now
            call.response_read()
            if call.over:
                return
            connection.complete = complete
        connection.pieces = rest
        out.stalled = True
        self._pause_service()
        out.draw(size - fits)

    def spend(self, flow: Flow, size: int) -> bool:
        """Bytes are about to pass: the journal first."""
        flow.use(size)
        try:
            self.recorder.flush()
        except OSError as exc:
            self.call.handler.metrics.journal_error(str(exc))
            self.cut(flow, self.charge(), Decision(Status.REFUSED_BY_RULE, rule="journal"))
            return False
        for measure in flow.measures:
            self.call.handler.metrics.admitted_units.add(size, measure)
        return True

    def upstream_lost(self, clean_end: bool) -> None:
        if self._out is not None and self._out.stalled and not self.call.over:
            self._lost = clean_end
        else:
            self.call.upstream_lost(clean_end)

    def upstream_faulty(self, why: str) -> None:
        self.call.upstream_faulty(why)

    def upstream_paused(self) -> None:
        self.call.upstream_paused()

    def upstream_resumed(self) -> None:
        call = self.call
        if self._up is not None and self._up.stalled:
            call._moved, call._paused_by_upstream = True, False
        else:
            call.upstream_resumed()

    def stand_in(self, tunnel: Tunnel) -> None:
        """The connections have changed protocols: what either end says goes through a sluice, where it is drawn."""
        client = self.call.client
        if self._up is not None:
            inwards = self._sluices[self._up] = Sluice(self, self._up, tunnel.inwards.write, client.pause_body, self._resume_client)
            tunnel.inwards.write = inwards
        if self._out is not None:
            outwards = self._sluices[self._out] = Sluice(self, self._out, tunnel.outwards.write, self._pause_service, self._resume_service)
            tunnel.outwards.write = outwards

    # --- ending ------------------------------------------------------------------------------------------------------
    def close(self, *, free: bool) -> None:
        """The exchange is over: what is not used goes back; `free`: what was used as well."""
        scarce = False
        for flow in self._flows():
            scarce = flow.close() or scarce
            if free:
                for template, units in flow.used.items():
                    self.recorder.progress(self.xid, template, 0, 0, dict.fromkeys(flow.measures, -units))
        self.recorder.give_back(self.xid)
        if scarce:
            self.call.handler.ship_soon(self._bucket)

    def _flows(self) -> Iterator[Flow]:
        yield from (flow for flow in (self._up, self._out) if flow is not None)

    def others(self, charge: Charge) -> Charge:
        """The charge without what is drawn here, for what is weighed as it goes."""
        if self._seen is None or self._seen[0] is not charge:
            rest = tuple((measure, cost) for measure, cost in charge.weighed if measure not in self._measures)
            self._seen = charge, replace(charge, weighed=rest)
        return self._seen[1]


class CutMetered:
    """The ledger's side of an exchange whose bytes are drawn: the rest of it is weighed as any other's."""

    __slots__ = ("_gate", "_inner", "xid")

    def __init__(self, inner: Metered, gate: Gate) -> None:
        self.xid, self._inner, self._gate = inner.xid, inner, gate

    def count(self, frames: tuple[Frames, Frames]) -> None:
        self._inner.count(frames)

    def progress(self, charge: Charge, bytes_in: int, bytes_out: int) -> None:
        self._inner.progress(self._gate.others(charge), bytes_in, bytes_out)

    def end(self, charge: Charge, outcome: Outcome, status: int, ms: int, cause: str, minute: int = 0) -> None:
        self._gate.close(free=bool(cause) and not outcome.first_byte_sent)
        self._inner.end(self._gate.others(charge), outcome, status, ms, cause, minute)
