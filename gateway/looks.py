"""Whether a tunnel may go on.

A response that crosses a limit is finished; a tunnel has no end to wait for. So each second in which something moves, and after that
was written down, the limits that it weighs towards are looked at: an admit of a charge that costs nothing, shared with whatever else
is asked in that turn. Where one of them is used up, or its caller may call no longer, the tunnel is cut off.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.model.errors import PaymentRequired, StoreUnavailable, WeighbridgeError
from metering.model.quota import OPEN

from .charges import Charge, more_of, quotas_of
from .decisions import Decision, Status
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

    __slots__ = ("_asked", "_call")

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._asked: Charge | None = None

    @property
    def gone(self) -> bool:
        return self._call.over

    def look(self) -> None:
        """Where the store is away nothing is asked: what has begun goes on."""
        call = self._call
        charge = charge_of_a_look(call.charge_now(call.handler.now_ms()))
        if charge is not None and self._asked is None and call.handler.admission.answers(charge.bucket):
            self._asked = charge
            call.handler.admission.ask(charge, self)

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
        call = self._call
        try:
            why = "" if await call.handler.renew(call, Status.STALE) else PaymentRequired.code
        except StoreUnavailable:
            why = ""
        except WeighbridgeError as error:
            why = error.code
        self._asked = None
        if why:
            call.handler.log_refusal(call, call.status or 0, why)
            call.cut(_POLICY, why)
        elif not call.over:
            call.charge_anew()
