"""Whether a tunnel may go on.

A response that crosses a limit is finished; a tunnel has no end to wait for. So each second in which something moves, and after that
was written down, the limits that it weighs towards are looked at: an admit of a charge that costs nothing, shared with whatever else
is asked in that turn. Where one of them is used up, or its caller may call no longer, the tunnel is cut off. Whether its key has
expired, or was let go of by the directory, is looked at whatever it weighs.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.model import keys
from metering.model.errors import PaymentRequired, StoreUnavailable, Unauthorized, WeighbridgeError
from metering.model.quota import OPEN

from .charges import Charge, more_of, quotas_of
from .decisions import Decision, Status
from .directory import Caller
from .responses import refused
from .wire import pieces

if TYPE_CHECKING:
    from .call import Call

_POLICY = 1008  # a close code (RFC 6455 §7.4.1)
_NO_TICKET = 0


def charge_of_a_look(charge: Charge) -> Charge | None:
    """The limits of a charge that what it weighs later may reach, at no cost; None where there are none. Made once a charge.

    Where bytes are cut off exactly (draws.py) there is nothing to look at: what is drawn may still pass.
    """
    if charge.looks is None:
        charge.looks = _made(charge)
    return charge.looks[0] if charge.looks else None


def _made(charge: Charge) -> tuple[Charge, ...]:
    mains = [limit for limit in charge.limits if limit.main is None]
    subs = [limit for limit in charge.limits if limit.main is not None and limit.enforced is not None]
    blocking = {limit.counter for limit in mains if limit.enforced is not None and limit.cut is None}
    blocking |= {mains[sub.main or 0].counter for sub in subs}
    kept = [limit for limit in mains if not limit.cost and limit.counter in blocking]
    places = {limit.counter: place for place, limit in enumerate(kept)}
    slower = [replace(sub, main=places[counter]) for sub in subs if (counter := mains[sub.main or 0].counter) in places]
    limits = (*kept, *slower)
    if not limits:
        return ()
    tickets = [_NO_TICKET] * (2 ** len(slower) - 1)
    look = replace(
        charge, limits=limits, weighed=(), settles=(), rule=OPEN, rates=(), slots=(), counted=False, varies=False, policy=None,
        cut=None, upload=None, room=None,
        drawings=None, make=None, looks=(),
        pieces=pieces(
            charge.bucket, [limit.counter for limit in limits], ticket=_NO_TICKET, org_id=charge.org_id, version=charge.version,
            from_ms=charge.from_ms, until_ms=charge.until_ms, quotas=quotas_of(limits), more=more_of(limits, tickets, (), 0),
        ),
    )  # fmt: skip
    return (look,)


class Lookout:
    """Looks for one tunnel; an Asker (decisions.py)."""

    __slots__ = ("_asked", "_call", "_looked_up", "_renewing")

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._asked: Charge | None = None
        self._renewing = False
        self._looked_up: Caller | None = None  # the last time, and the directory does not keep it

    @property
    def gone(self) -> bool:
        return self._call.over

    def look(self) -> None:
        """Where the store is away nothing is asked: what has begun goes on."""
        call, now_ms = self._call, self._call.handler.now_ms()
        if call.caller is not None and not self._may_go_on(call.caller, now_ms):
            return
        if call.charge is None or not call.charge.counted:
            return
        charge = charge_of_a_look(call.charge_now(now_ms))
        if charge is not None and self._asked is None and call.handler.admission.answers(charge.bucket):
            self._asked = charge
            call.handler.admission.ask(charge, self)

    def _may_go_on(self, caller: Caller, now_ms: int) -> bool:
        """Whether nothing is known against it. Who was let go of is looked up: withdrawn, or only changed, or forgotten for others."""
        if self._renewing:
            return False
        try:
            caller.refuse_expired(now_ms)
        except Unauthorized as error:
            self._end(error.code)
            return False
        if caller.valid or caller is self._looked_up:
            return True
        if self._call.handler.admission.answers(keys.bucket_of(caller.key.org_id)):
            self._renewing = True
            self._call.client.run(self._renew())
        return False

    def decided(self, decision: Decision) -> None:
        """The store's answer. Where a window turned meanwhile, the next look is at the new one."""
        if decision.status is Status.STALE:
            self._call.client.run(self._renew())
            return
        charge, self._asked = self._asked, None
        if decision.status is Status.REFUSED and charge is not None:
            self._refused(charge, decision)

    def _refused(self, charge: Charge, decision: Decision) -> None:
        call, handler = self._call, self._call.handler
        refusal = refused(charge, decision, handler.now_ms(), handler.policy.upgrade_url)
        handler.metrics.cut.add(1, refusal.meter, "tunnel")
        handler.log_refusal(call, call.status or 0, refusal.code, meter=refusal.meter, limit=refusal.limit)
        call.cut(_POLICY, refusal.code)

    async def _renew(self) -> None:
        """Its organization or its key changed: another plan, another limit, or an end."""
        call, unsure = self._call, False
        try:
            why = "" if await call.handler.renew(call, Status.STALE) else PaymentRequired.code
        except StoreUnavailable:
            why, unsure = "", True
        except WeighbridgeError as error:
            why = error.code
        self._asked, self._renewing = None, False
        if why:
            self._end(why)
        elif not call.over and call.charge is not None:
            call.charge_anew()
        if not (unsure or call.caller is None or call.caller.valid):
            self._looked_up = call.caller

    def _end(self, why: str) -> None:
        self._call.handler.log_refusal(self._call, self._call.status or 0, why)
        self._call.cut(_POLICY, why)
