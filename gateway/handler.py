"""The story of one request: identify, admit, forward, settle.

The numbers are decided elsewhere (admission.py, exchange.py), the bytes move elsewhere (relay.py).
"""

import logging
from dataclasses import dataclass

import orjson

from config.gateway import GatewayConfig, Route
from metering.model.errors import NotFound, PaymentRequired, StoreUnavailable, WeighbridgeError

from . import responses
from .admission import Admission, Decision, Status
from .bypasses import NO_BYPASS, Bypasses
from .charges import Charge, make_charge
from .directory import Caller, Directory
from .downstream import Request
from .exchange import Metered, cause_of_return
from .identity import Identities, client_address, identity_headers, request_id, signature, traceparent
from .metrics import UNMATCHED, GatewayMetrics
from .outcome import Outcome
from .recorder import Recorder
from .relay import Relay
from .routing import Router
from .server_clock import ServerClock

log = logging.getLogger("weighbridge.gateway")
_TRIES = 4  # a charge is rebuilt when its windows turned or its entitlement changed under way


class UpstreamUnreachable(WeighbridgeError):
    """The service behind the gateway could not be reached; the call was not charged."""

    code, http_status, retryable = "upstream_unreachable", 502, True


class UpstreamBroken(WeighbridgeError):
    """The service behind the gateway gave no proper answer."""

    code, http_status, retryable = "upstream_bad_response", 502, True


class UpstreamTimeout(WeighbridgeError):
    """The service behind the gateway did not answer in time."""

    code, http_status, retryable = "upstream_timeout", 504, True


_UPSTREAM_ERRORS: dict[str, type[WeighbridgeError]] = {
    "unreachable": UpstreamUnreachable,
    "timeout": UpstreamTimeout,
    "upstream_reset": UpstreamBroken,
    "bad_response": UpstreamBroken,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that a configuration decides; replaced whole when it changes. Calls under way keep theirs."""

    config: GatewayConfig
    router: Router
    relay: Relay
    identities: Identities
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the environment decides. `signing_secret` None: the identity headers go unsigned."""

    upgrade_url: str | None = None
    signing_secret: bytes | None = None


@dataclass(slots=True)
class Story:
    """What is known of a request so far; every answer and log line is told from it."""

    request: Request
    rid: bytes
    trace: bytes
    started: float
    route: Route | None = None
    caller: Caller | None = None
    charge: Charge | None = None

    @property
    def route_label(self) -> str:
        return self.route.path if self.route else UNMATCHED


class Handler:
    """Answers requests, one await at a time."""

    bypasses: Bypasses = NO_BYPASS

    def __init__(
        self,
        world: World,
        directory: Directory,
        admission: Admission,
        recorder: Recorder,
        metrics: GatewayMetrics,
        policy: Policy,
        clock: ServerClock,
    ) -> None:
        self.world = world
        self._directory, self._admission, self._recorder = directory, admission, recorder
        self._metrics, self._policy = metrics, policy
        self._clock, self._now_ms, self._monotonic = clock, clock.now_ms, clock.monotonic

    async def __call__(self, request: Request) -> None:
        story = Story(request, request_id(request), traceparent(request), self._monotonic())
        world = self.world
        try:
            story.route = world.router.match(_method_meant(request), request.host, request.path)
            if story.route is None:
                raise NotFound("no route matches this method, host and path")
            if story.route.auth == "none" or _is_free_preflight(story.route, request):
                await self._forward_free(world, story, story.route)
                return
            story.caller = await self._identify(world, request)
            if story.caller.org.entitlement.refused:
                raise PaymentRequired(story.caller.org.entitlement.refused, upgrade_url=self._policy.upgrade_url)
            if not story.route.charge:
                await self._forward_free(world, story, story.route)
                return
            await self._metered(world, story, story.route)
        except WeighbridgeError as error:
            self._metrics.rejected.add(1, error.code)
            self._log_refusal(story, error.http_status, error.code)
            await self._answer(story, *responses.error_answer(error))

    # --- identify --------------------------------------------------------------------------------------------------
    async def _identify(self, world: World, request: Request) -> Caller:
        return world.identities.known(request) or await world.identities.find(request)

    # --- admit -----------------------------------------------------------------------------------------------------
    def _charge(self, story: Story, route: Route) -> Charge:
        """The ready-made charge of equal calls, built anew when its window has turned.

        Remembered by the route itself, not its number: a long exchange that began under another configuration keeps asking
        with the route of its time, whose prices are not those of the calls that come now. The charge keeps the route alive.
        """
        caller = story.caller
        assert caller is not None
        method, now = story.request.method, self._now_ms()
        found = caller.org.charges.get((id(route), method, caller.key.key_id))
        if found is None or not found.holds(now):
            found = make_charge(caller.org.entitlement, route, method, caller.key.key_id, now, bypasses=self.bypasses)
            caller.org.charges[(id(route), method, caller.key.key_id)] = found
        return found

    def _forget_charge(self, story: Story, route: Route) -> None:
        if story.caller is not None:
            story.caller.org.charges.pop((id(route), story.request.method, story.caller.key.key_id), None)

    async def _admit(self, story: Story, route: Route) -> Decision:
        decision = Decision(Status.LATE)
        for _ in range(_TRIES):
            story.charge = self._charge(story, route)
            decision = await self._admission.decide(story.charge)
            if decision.status is Status.STALE:
                assert story.caller is not None
                story.caller = await self._directory.refresh(story.caller)
                if story.caller.org.entitlement.refused:
                    raise PaymentRequired(story.caller.org.entitlement.refused, upgrade_url=self._policy.upgrade_url)
            elif decision.status is Status.LATE:
                await self._clock.synchronize()
                self._forget_charge(story, route)
            else:
                return decision
        raise StoreUnavailable("this organization is being changed right now; try again", rule="closed")

    async def _metered(self, world: World, story: Story, route: Route) -> None:
        asked = self._monotonic()
        decision = await self._admit(story, route)
        self._metrics.admission_duration.observe(self._monotonic() - asked)
        charge = story.charge
        assert charge is not None
        if decision.status is Status.REFUSED:
            await self._refuse(world, story, charge, decision)
            return
        if decision.status is Status.REFUSED_BY_RULE:
            raise StoreUnavailable("calls cannot be counted right now, and this quota then refuses them", rule=decision.rule)
        if story.request.client.gone:  # it left while it waited: never forwarded, so never charged
            self._recorder.ended(decision.xid, charge.template, "client_left_before", 0, 0, 0, 0, {})
            return
        metered = Metered(decision.xid, charge, lambda: self._charge(story, route), route, self._recorder, self._metrics)
        limits = self._limits(world, charge, decision)
        status, cause, outcome = 500, "", None
        try:
            outcome = await world.relay.forward(
                story.request, route, add_headers=self._to_service(story), response_headers=[*self._to_client(story), *limits],
                progress=metered.progress,
            )  # fmt: skip
            cause = cause_of_return(route, outcome)
            self._metrics.upstream_duration.observe(outcome.upstream_ms / 1000, route.upstream)
            status = await self._finish(story, outcome, limits)
        finally:
            if outcome is None:
                metered.vanished(self._elapsed_ms(story))
            else:
                metered.end(outcome, status, self._elapsed_ms(story), cause)
            self._observe(story, status)

    def _limits(self, world: World, charge: Charge, decision: Decision) -> responses.Headers:
        return responses.rate_limit_headers(charge, decision.used, self._now_ms(), legacy=world.config.x_ratelimit_headers)

    async def _refuse(self, world: World, story: Story, charge: Charge, decision: Decision) -> None:
        limit = charge.limits[decision.refusing]
        quota = limit.quota
        assert quota is not None
        self._metrics.refused.add(1, limit.meter, quota.mode.value, quota.window.value)
        self._log_refusal(story, 429, "quota_exceeded", meter=limit.meter, quota=quota.name)
        now = self._now_ms()
        used = decision.used[decision.refusing]
        status, headers, body = responses.quota_exceeded(limit, used, now, self._policy.upgrade_url)
        headers += self._limits(world, charge, decision)
        await self._answer(story, status, headers, body)

    # --- forward ---------------------------------------------------------------------------------------------------
    async def _forward_free(self, world: World, story: Story, route: Route) -> None:
        """Uncounted: an open route, a preflight, a route without a charge."""
        headers = self._to_service(story)
        outcome = await world.relay.forward(story.request, route, add_headers=headers, response_headers=self._to_client(story))
        self._metrics.upstream_duration.observe(outcome.upstream_ms / 1000, route.upstream)
        self._observe(story, await self._finish(story, outcome, []))

    async def _finish(self, story: Story, outcome: Outcome, headers: responses.Headers) -> int:
        """Answer for a service that did not; returns the status that the client saw (0: it saw none)."""
        if outcome.status is not None and (outcome.first_byte_sent or outcome.ended == "complete"):
            return outcome.status
        if outcome.ended == "client_gone":
            return 0
        error = _UPSTREAM_ERRORS[outcome.ended]()
        self._log_refusal(story, error.http_status, error.code)
        status, own, body = responses.error_answer(error)
        await story.request.respond(status, [*own, *headers, *self._to_client(story), *self._cors(story)], body)
        return status

    def _to_service(self, story: Story) -> responses.Headers:
        headers: responses.Headers = [(b"X-Request-Id", story.rid), (b"traceparent", story.trace)]
        if story.caller is None:
            return headers
        headers += identity_headers(story.caller)
        if self._policy.signing_secret is not None:
            request, key = story.request, story.caller.key
            now = self._now_ms() // 1000
            secret = self._policy.signing_secret
            headers.append(signature(secret, now, key.org_id, key.key_id, story.rid, request.method, request.target))
        return headers

    def _to_client(self, story: Story) -> responses.Headers:
        return [(b"X-Request-Id", story.rid), (b"traceparent", story.trace)]

    # --- answer ----------------------------------------------------------------------------------------------------
    def _cors(self, story: Story) -> responses.Headers:
        return responses.readable_by_browser(story.request.header(b"origin"))

    async def _answer(self, story: Story, status: int, headers: responses.Headers, body: bytes) -> None:
        await story.request.respond(status, [*headers, *self._to_client(story), *self._cors(story)], body)
        self._observe(story, status)

    def _elapsed_ms(self, story: Story) -> int:
        return round((self._monotonic() - story.started) * 1000)

    def _observe(self, story: Story, status: int) -> None:
        status_class = f"{status // 100}xx" if status else "none"
        self._metrics.requests.add(1, story.route_label, status_class)
        self._metrics.duration.observe(self._monotonic() - story.started, story.route_label)

    def _log_refusal(self, story: Story, status: int, reason: str, **facts: str) -> None:
        """One JSON line; JSON escapes whatever a client put into its method or path."""
        request, caller = story.request, story.caller
        address = client_address(self.world.relay.trusted, request)
        line = {
            "event": "refused", "status": status, "reason": reason, "route": story.route_label, "method": request.method,
            "path": request.path.decode("latin-1")[:500], "org": caller.key.org_id if caller else None,
            "key": caller.key.key_id if caller else None, "address": address, "request_id": story.rid.decode("latin-1"), **facts,
        }  # fmt: skip
        log.warning("%s", orjson.dumps(line).decode())


def _method_meant(request: Request) -> str:
    """A preflight asks about another method than its own; that method's route decides."""
    return _preflight_for(request) or request.method


def _is_free_preflight(route: Route, request: Request) -> bool:
    return route.preflight == "free" and _preflight_for(request) is not None


def _preflight_for(request: Request) -> str | None:
    """The method that a CORS preflight asks about. With a body a request is none, else bytes would pass unweighed."""
    if request.method != "OPTIONS" or request.chunked or request.content_length:
        return None
    wanted = request.header(b"access-control-request-method")
    return wanted.decode("latin-1") if wanted else None
