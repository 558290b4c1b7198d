"""One request's story, told by callbacks: identify, admit, forward, settle. No task and no future where nothing has to wait.

What is decided where: who calls in identity.py, whether it may pass in admission.py, the bytes in transfer.py, what it weighs in
exchange.py. What has to be waited for (a key seen for the first time, an entitlement that changed) is in handler.py.
"""

from typing import TYPE_CHECKING, Final

from config.gateway import Messages, Route
from metering.model.errors import NotFound, PaymentRequired, StoreUnavailable, WeighbridgeError

from . import responses
from .admission import Decision, Status
from .charges import Charge
from .directory import Caller
from .downstream import Request
from .errors import LoopDetected, UpstreamBroken, UpstreamBusy, UpstreamTimeout, UpstreamUnreachable
from .exchange import Metered, cause_of_return
from .frames import Frames
from .gate import CutMetered, Gate, sized
from .headers import AddedNames, lines_of, names_of
from .identity import check_scopes
from .looks import Lookout
from .loops import loops
from .metrics import STATUS_CLASSES, UNMATCHED
from .reserve import Reserved
from .tenants import tenant_of
from .transfer import UNREADABLE, Transfer
from .tunnel import Counters
from .units import Reading

if TYPE_CHECKING:
    from .handler import Handler, World

_OUR_NAMES: Final = (b"X-Request-Id", b"traceparent")
_LIMITED_NAMES: Final = (b"X-Request-Id", b"traceparent", b"RateLimit-Policy", b"RateLimit")
_UPSTREAM_ERRORS: dict[str, type[WeighbridgeError]] = {
    "unreachable": UpstreamUnreachable,
    "busy": UpstreamBusy,
    "timeout": UpstreamTimeout,
    "upstream_reset": UpstreamBroken,
    "bad_response": UpstreamBroken,
}


class Call(Transfer):
    """One request from its head to its last byte. Each step ends it, hands it on, or leaves it waiting for a callback."""

    __slots__ = (
        "asked", "caller", "charge", "gone", "handler", "held", "lines", "lookout", "metered", "rid", "started", "tries",
        "used", "waiting", "world",
    )  # fmt: skip

    lookout: Lookout
    metered: Metered | CutMetered | None
    started: float

    def __init__(self, handler: "Handler", request: Request) -> None:
        super().__init__(request)
        self.handler = handler
        self.world: World = handler.world
        self.started = handler.monotonic()
        self.rid, self.lines = handler.ids(request)
        self.caller: Caller | None = None
        self.charge: Charge | None = None
        self.metered = None
        self.held: Decision | None = None  # by which it passed, where it holds slots
        self.used: tuple[int, ...] = ()
        self.gone = False
        self.waiting = False  # for a decision
        self.tries = 0

    # --- identify ----------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """The first step. Raises WeighbridgeError for what is refused at once."""
        request, world = self.request, self.world
        asks_for = preflight_for(request) if request.method == "OPTIONS" else None
        self.route = route = world.router.match(asks_for or request.method, request.host, request.path)
        if route is None:
            raise NotFound("no route matches this method, host and path")
        if request.fields.has_via and loops(request, world.relay.via):
            raise LoopDetected
        if asks_for is not None and route.preflight == "free":
            self._forward(route, self.started)
            return
        if route.auth == "none":
            if route.quotas or route.rates or route.concurrency:
                self._ask(self.handler.nobodys_charge(self, route), self.started)
            else:
                self._forward(route, self.started)
            return
        caller = world.identities.known(request)
        if caller is None:
            self.client.run(self.handler.identify(self))
        else:
            self.identified(caller, self.started)

    def identified(self, caller: Caller, now: float) -> None:
        """Who calls is known, at this time. Raises WeighbridgeError."""
        self.caller = caller
        route = self.route
        assert route is not None
        if route.scopes:
            check_scopes(caller, route)
        refused = caller.org.entitlement.refused
        if refused:
            raise PaymentRequired(refused, upgrade_url=self.handler.policy.upgrade_url)
        charge = self._charge_of(caller, route, self.handler.clock.at(now))
        if charge.decides:
            self._ask(charge, now)
        else:
            self._forward(route, now)

    # --- admit -------------------------------------------------------------------------------------------------------
    def _ask(self, charge: Charge, now: float) -> None:
        """Ask whether this call may pass; the answer comes to `decided`."""
        self.charge = charge
        self.waiting = True
        self.asked = now
        self.handler.admission.ask(charge, self)

    def _charge_of(self, caller: Caller, route: Route, now_ms: int) -> Charge:
        charge = self.handler.charge_of(caller, route, self.request.method, now_ms)
        return self._own(charge, caller, route) if charge.varies else charge

    def _own(self, charge: Charge, caller: Caller, route: Route) -> Charge:
        """The charge by this call's address and tenant, and with its bytes where they are drawn."""
        if charge.make is not None:
            charge = self._variant(charge, caller, route)
        return sized(self, charge) if charge.cut is not None and self.metered is None else charge

    def _variant(self, charge: Charge, caller: Caller, route: Route) -> Charge:
        return charge.variant(self.handler.address(self) if charge.by_address else "", tenant_of(self.request, route, caller.tenant))

    def ask_nobodys(self, route: Route) -> None:
        """Ask again for a call without a caller: its windows had turned."""
        self._ask(self.handler.nobodys_charge(self, route), self.handler.monotonic())

    def decided(self, decision: Decision) -> None:
        """The store's answer, or a rule's where it is away."""
        self.waiting = False
        try:
            status = decision.status
            if status is Status.ADMITTED or status is Status.PASSED_BY_RULE:
                self._admitted(decision)
            elif status is Status.REFUSED:
                self._refused(decision)
            elif status is Status.REFUSED_BY_RULE:
                raise StoreUnavailable("calls cannot be counted right now, and this quota then refuses them", rule=decision.rule)
            else:
                self.client.run(self.handler.ask_again(self, status))
        except WeighbridgeError as error:
            self.reject(error)
        except Exception:
            self.client.failed(self.request)
            raise  # to admission, which gives back what was granted

    def _admitted(self, decision: Decision) -> None:
        handler, charge, route = self.handler, self.charge, self.route
        assert charge is not None
        assert route is not None
        now = handler.monotonic()
        handler.metrics.waited.observe(now - self.asked)
        self.used = decision.used
        if decision.slots:
            self.held = decision
        if charge.counted:
            if charge.ordinary:
                self.metered = Metered(decision.xid, charge, handler.recorder, handler.metrics, decision.beyond)
            else:
                self._begin_metering(decision, charge)
        self._forward(route, now)

    def _begin_metering(self, decision: Decision, charge: Charge) -> None:
        """Where its answer will say what it takes, or its bytes are drawn before they pass."""
        handler = self.handler
        self.charge = own = charge.upload.base if charge.upload else charge
        facts = (decision.xid, own, handler.recorder, handler.metrics, decision.beyond)
        if charge.wanted is None:
            self.metered = metered = Metered(*facts)
        else:
            self.tap = reading = Reading(charge.wanted)
            self.metered = metered = Reserved(*facts, reading, handler, decision.used)
        if charge.cut is not None:
            self.gate = Gate(self, charge, decision)
            self.metered = CutMetered(metered, self.gate)

    def _refused(self, decision: Decision) -> None:
        handler, charge = self.handler, self.charge
        assert charge is not None
        told = charge.upload.base if charge.upload else charge
        refusal = responses.refused(told, decision, handler.now_ms(), handler.policy.upgrade_url)
        handler.metrics.refused.add(1, refusal.meter, refusal.mode, refusal.reason)
        handler.log_refusal(self, 429, refusal.code, meter=refusal.meter, limit=refusal.limit)
        self.used = decision.used
        self.answer(refusal.status, refusal.headers + self._limits(), refusal.body)

    def _limits(self) -> responses.Headers:
        if self.charge is None or not self.used:
            return []
        legacy = self.world.config.x_ratelimit_headers
        return responses.rate_limit_headers(self.charge, self.used, self.handler.now_ms(), legacy=legacy)

    # --- forward -----------------------------------------------------------------------------------------------------
    def _forward(self, route: Route, now: float) -> None:
        self.to_service = self.handler.to_service(self)
        self.world.relay.begin(self, route, now)

    def to_client(self) -> tuple[AddedNames, bytes]:
        lines, charge = self.lines, self.charge
        if charge is None or not self.used:
            return _OUR_NAMES, lines
        if self.world.config.x_ratelimit_headers:
            limits = self._limits()
            return (*_OUR_NAMES, *names_of(limits)), lines + lines_of(limits)
        told = responses.limit_lines(charge, self.used, self.handler.clock.now_ms())
        if not told:
            return _OUR_NAMES, lines
        return _LIMITED_NAMES, lines + told

    def progressed(self) -> None:
        if self.metered is not None:
            self.metered.progress(self.charge_now(self.handler.now_ms()), self.request.body_bytes, self.bytes_out)
        if self.tunnel is not None:
            self.lookout.look()

    def charge_now(self, now_ms: int) -> Charge:
        """The charge that holds now; windows turn under a long exchange."""
        charge, caller, route = self.charge, self.caller, self.route
        assert charge is not None
        if charge.from_ms <= now_ms < charge.until_ms or caller is None or route is None:
            return charge
        return self.charge_anew()

    def charge_anew(self) -> Charge:
        """The same by the limits of now."""
        before, charge = self.charge, self.charge_of_now()
        if before is not None and before.shown != charge.shown:
            self.used = ()  # it stood beside other limits
        self.charge = charge
        return charge

    def charge_of_now(self) -> Charge:
        """By the limits of now, for the next bytes that are drawn."""
        caller, route, charge = self.caller, self.route, self.charge
        assert charge is not None
        return charge if caller is None or route is None else self._charge_of(caller, route, self.handler.now_ms())

    def told_used(self, drawing: Charge, decision: Decision) -> None:
        """What limits stood at when bytes were drawn last: an answer of ours tells that, and not how they stood before."""
        if self.charge is not None and self.used:
            now = {limit.counter: used for limit, used in zip(drawing.limits, decision.used, strict=False)}
            limits = self.charge.limits
            told = [now.get(limit.counter, used) for limit, used in zip(limits, self.used, strict=False)]
            self.used = (*told, *self.used[len(limits) :])

    # --- a tunnel ----------------------------------------------------------------------------------------------------
    def unfit(self, protocol: bytes) -> str:
        """Where messages are charged, they must be countable: those of RFC 6455, and of no draft before it."""
        if self.metered is None or not self._charges_messages():
            return ""
        known = protocol.strip().lower() == b"websocket" and self.request.fields.only(b"sec-websocket-version") == b"13"
        return "" if known else "it changed to a protocol whose messages cannot be counted"

    def counters(self) -> Counters | None:
        self.lookout = Lookout(self)
        if self.metered is None or not self._charges_messages():
            return None
        self.metered.count(counters := (Frames(from_client=True), Frames(from_client=False)))
        return counters

    def unreadable(self) -> None:
        self.handler.log_refusal(self, self.status or 0, UNREADABLE)
        super().unreadable()

    def _charges_messages(self) -> bool:
        return self.charge is not None and any(isinstance(cost, Messages) for _, cost in self.charge.weighed)

    # --- settle ------------------------------------------------------------------------------------------------------
    def client_gone(self) -> None:
        """The client left, or broke the rules in its body. Whoever decides about this call now learns it from `gone`."""
        self.gone = True
        if self.waiting:
            self.waiting = False
            self._over(0, self.handler.monotonic())
        elif self.to_service:
            super().client_gone()

    def left(self) -> None:
        """The client went while somebody was asked: never forwarded, so never charged."""
        self._over(0, self.handler.monotonic())

    def finished(self) -> None:
        handler, route, now = self.handler, self.route, self.ended_at
        assert route is not None
        handler.metrics.of_route(route).upstream_duration.observe(self.upstream_ms / 1000)
        status = self._status_seen()
        metered = self.metered
        if metered is not None:
            now_ms, elapsed_ms = handler.clock.at(now), int((now - self.started) * 1000 + 0.5)
            metered.end(self.charge_now(now_ms), self, status, elapsed_ms, cause_of_return(route, self), now_ms // 60_000)
        if status and not self.first_byte_sent and self.ended != "complete":
            self._answer_for_service()
        self._over(status, now)

    def _status_seen(self) -> int:
        """The status that the client sees (0: it sees none)."""
        if self.status is not None and (self.first_byte_sent or self.ended == "complete"):
            return self.status
        if self.ended == "cut" and self.gate is not None:
            return self.gate.status
        return 0 if self.ended == "client_gone" else _UPSTREAM_ERRORS[self.ended].http_status

    def _answer_for_service(self) -> None:
        if self.ended == "cut" and self.gate is not None:
            status, headers, body = self.gate.answer()
        else:
            error = _UPSTREAM_ERRORS[self.ended]()
            self.handler.log_refusal(self, error.http_status, error.code)
            status, headers, body = responses.error_answer(error)
        self.request.respond(status, [*headers, *self._limits(), *self._own_lines()], body)

    # --- answer ------------------------------------------------------------------------------------------------------
    def reject(self, error: WeighbridgeError) -> None:
        """Refuse before any quota was asked, or because none can be."""
        self.handler.metrics.rejected.add(1, error.code)
        self.handler.log_refusal(self, error.http_status, error.code)
        self.answer(*responses.error_answer(error))

    def answer(self, status: int, headers: responses.Headers, body: bytes) -> None:
        """Answer without having forwarded anything."""
        self.request.respond(status, [*headers, *self._own_lines()], body)
        self._over(status, self.handler.monotonic())

    def _own_lines(self) -> responses.Headers:
        cors = responses.readable_by_browser(self.request.header(b"origin"))
        trace = self.lines[self.lines.rindex(b" ") + 1 :]
        return [(b"X-Request-Id", self.rid), (b"traceparent", trace), *cors]

    def _over(self, status: int, now: float) -> None:
        if self.held is not None:
            self.handler.admission.release(self.held)
        metrics, route = self.handler.metrics, self.route
        if route is not None:
            metrics.of_route(route).answered(status, now - self.started)
        else:
            metrics.requests.add(1, UNMATCHED, STATUS_CLASSES[status // 100])
            metrics.duration.observe(now - self.started, UNMATCHED)
        self.client.end(self.request)

    @property
    def route_label(self) -> str:
        return self.route.path if self.route else UNMATCHED


def preflight_for(request: Request) -> str | None:
    """The method that a CORS preflight asks about. With a body, or to change protocols, a request is none: bytes would pass unweighed."""
    if request.chunked or request.content_length or request.upgrade:
        return None
    wanted = request.header(b"access-control-request-method")
    return wanted.decode("latin-1") if wanted else None
