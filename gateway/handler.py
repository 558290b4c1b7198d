"""What the calls of one worker share, and what a call has to wait for. The story itself is in call.py."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import orjson

from config.gateway import GatewayConfig, Route
from metering.model.errors import StoreUnavailable, WeighbridgeError

from .admission import Admission, Status
from .bypasses import NO_BYPASS, Bypasses
from .call import Call
from .charges import Charge, make_anonymous_charge, make_charge
from .directory import Caller, Directory
from .downstream import Request
from .headers import lines_of
from .identity import Identities, client_address, identity_headers, new_id, request_id, signature, traceparent
from .loglines import LogLines
from .metrics import GatewayMetrics
from .outcome import Outcome
from .recorder import Recorder
from .relay import Relay
from .routing import Router
from .server_clock import ServerClock
from .tenants import TenantNames

log = logging.getLogger("weighbridge.gateway")
_ADDRESSES_KEPT = 10_000
_TRIES = 4  # a charge is rebuilt when its windows turned or its entitlement changed under way


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


class Handler:
    """Begins requests: what the server calls with each."""

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
        self.bypasses: Bypasses = NO_BYPASS
        self.ship: Callable[[range], None] = lambda buckets: None  # sends what was recorded in these buckets now
        self._directory, self.admission, self.recorder = directory, admission, recorder
        self.metrics, self.policy = metrics, policy
        self._lines = LogLines(clock.monotonic)
        self._tenants = TenantNames()
        self._to_ship: set[int] = set()
        self._nobodys: dict[tuple[int, str, str], Charge] = {}
        self.clock, self.now_ms, self.monotonic = clock, clock.now_ms, clock.monotonic

    def __call__(self, request: Request) -> None:
        call = Call(self, request)
        request.client.watch(call)
        try:
            call.begin()
        except WeighbridgeError as error:
            call.reject(error)

    # --- identify ----------------------------------------------------------------------------------------------------
    async def identify(self, call: Call) -> None:
        """Ask for a caller that is not known here yet, and go on."""
        try:
            caller = await call.world.identities.find(call.request)
            if call.gone:
                call.left()
            else:
                call.identified(caller, self.monotonic())
        except WeighbridgeError as error:
            call.reject(error)

    # --- admit -------------------------------------------------------------------------------------------------------
    def charge_of(self, caller: Caller, route: Route, method: str, now_ms: int) -> Charge:
        """The ready-made charge of equal calls, built anew when its window has turned.

        Remembered by the route itself, not its number: a long exchange that began under another configuration keeps asking
        with the route of its time, whose prices are not those of the calls that come now. The charge keeps the route alive.
        """
        org = caller.org
        last = org.latest
        if last is not None and last.route is route and org.latest_of is caller and org.latest_method == method and last.holds(now_ms):
            return last
        name = (id(route), method, caller.key.key_id)
        found = org.charges.get(name)
        if found is None or not found.holds(now_ms):
            found = make_charge(org.entitlement, route, method, caller.key, now_ms, bypasses=self.bypasses, names=self._tenants)
            org.charges[name] = found
        if caller.valid:  # see Directory._drop_caller
            org.latest, org.latest_of, org.latest_method = found, caller, method
        return found

    def nobodys_charge(self, call: Call, route: Route) -> Charge:
        """The same for a call on an open route that has limits: by the address it comes from."""
        address, now = self.address(call), self.now_ms()
        name = (id(route), call.request.method, address)
        found = self._nobodys.get(name)
        if found is None or not found.from_ms <= now < found.until_ms:
            if len(self._nobodys) >= _ADDRESSES_KEPT:
                self._nobodys.clear()
            found = self._nobodys[name] = make_anonymous_charge(route, call.request.method, address, now, bypasses=self.bypasses)
        return found

    def forget_charges(self) -> None:
        """What bypasses cover has changed."""
        self._directory.forget_charges()
        self._nobodys.clear()

    def address(self, call: Call) -> str:
        return client_address(call.world.relay.trusted, call.request)

    async def ask_again(self, call: Call, status: Status) -> None:
        """The charge was not the one that holds: make it anew, with the entitlement or the time of now."""
        caller, route = call.caller, call.route
        assert route is not None
        try:
            call.tries += 1
            if call.tries == _TRIES:
                raise StoreUnavailable("this organization is being changed right now; try again", rule="closed")
            if caller is not None and status is Status.STALE:
                caller = await self._directory.refresh(caller)
            else:
                await self.clock.synchronize()
                if caller is not None:
                    caller.org.forget_charge((id(route), call.request.method, caller.key.key_id))
                self._nobodys.clear()
            if call.gone:
                call.left()
            elif caller is None:
                call.ask_nobodys(route)
            else:
                call.identified(caller, self.monotonic())
        except WeighbridgeError as error:
            call.reject(error)

    async def renew(self, call: Call, status: Status) -> bool:
        """The same within a call: from here on its bytes are drawn by the limits of now. Whether its organization may go on at all.

        Raises WeighbridgeError.
        """
        caller, route = call.caller, call.route
        assert caller is not None
        if status is Status.STALE:
            call.caller = caller = await self._directory.refresh(caller)
        else:
            await self.clock.synchronize()
            caller.org.forget_charge((id(route), call.request.method, caller.key.key_id))
        return not caller.org.entitlement.refused

    def ship_soon(self, bucket: int) -> None:
        """Somebody may be waiting for what goes back there: at the end of this turn, not within the second."""
        if bucket not in self._to_ship:
            self._to_ship.add(bucket)
            asyncio.get_running_loop().call_soon(self._ship, bucket)

    def _ship(self, bucket: int) -> None:
        self._to_ship.discard(bucket)
        self.ship(range(bucket, bucket + 1))

    # --- forward -----------------------------------------------------------------------------------------------------
    def ids(self, request: Request) -> tuple[bytes, bytes]:
        """The request's id, and the lines that tell it and the trace context to both sides: the client's where they are well-formed."""
        if request.fields.has_ids:
            rid = request_id(request)
            return rid, b"\r\nX-Request-Id: %b\r\ntraceparent: %b" % (rid, traceparent(request))
        rid = new_id()
        return rid, b"\r\nX-Request-Id: %b\r\ntraceparent: 00-%b-%b-01" % (rid, rid, rid[16:])  # as `root` has it

    def to_service(self, call: Call) -> bytes:
        """The lines that the service learns from us alone."""
        caller, secret = call.caller, self.policy.signing_secret
        if caller is None:
            return call.lines
        known = caller.lines
        if known is None:
            known = caller.lines = lines_of(identity_headers(caller))
        if secret is not None:
            request, now = call.request, self.now_ms() // 1000
            known += lines_of([signature(secret, now, identity_headers(caller), call.rid, request.method, request.target)])
        return call.lines + known

    # --- settle ------------------------------------------------------------------------------------------------------
    def units_unsaid(self, outcome: Outcome, meter: str, reason: str, charged: int) -> None:
        """An answer did not say what the call took, or had no time to."""
        call = cast(Call, outcome)
        if self._lines.may(f"units_{reason}"):
            line = {
                "event": "units_unsaid", "meter": meter, "reason": reason, "charged": charged, "ended": call.ended,
                "status": call.status, "route": call.route_label, "method": call.request.method,
                "org": call.caller.key.org_id if call.caller else None, "request_id": call.rid.decode("latin-1"),
            }  # fmt: skip
            log.warning("%s", orjson.dumps(line).decode())

    # --- log ---------------------------------------------------------------------------------------------------------
    def log_refusal(self, call: Call, status: int, reason: str, **facts: str) -> None:
        """One JSON line, if there were not too many; JSON escapes whatever a client put into its method or path."""
        if not self._lines.may(reason):
            return
        request, caller = call.request, call.caller
        line = {
            "event": "refused", "status": status, "reason": reason, "route": call.route_label, "method": request.method,
            "path": request.path.decode("latin-1")[:500], "org": caller.key.org_id if caller else None,
            "key": caller.key.key_id if caller else None, "address": self.address(call),
            "request_id": call.rid.decode("latin-1"), **facts,
        }  # fmt: skip
        log.warning("%s", orjson.dumps(line).decode())
