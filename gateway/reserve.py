"""An exchange that reserves: charged an estimate when it is admitted, and what it truly took when it has ended.

The reserve is what admission charges, so whatever gives back what admission charged (a refund, a return, the adoption of a
killed worker's journal) gives back all of it. Settling writes the difference down in the same frame as the end:
what was not used goes back in the minute and the windows it was drawn in, what is beyond is drawn in those of now.
"""

from typing import Protocol

from config.gateway import Settled

from .charges import Charge
from .exchange import Metered
from .metrics import GatewayMetrics
from .outcome import Outcome
from .recorder import Recorder
from .units import BROKEN_OFF, Reading

UNUSED = "unused"


_SCARCE = 8  # calls that would still fit: fewer, and somebody may be waiting for what goes back


class Told(Protocol):
    """Who hears of settling; gateway.handler.Handler."""

    def units_unsaid(self, outcome: Outcome, meter: str, reason: str, charged: int) -> None:
        """An answer did not say what it was to say."""

    def ship_soon(self, bucket: int) -> None:
        """What was settled there is waited for."""


class Reserved(Metered):
    """`reading` is what the answer says, as far as it came; `used` how the charge's limits stood when it was admitted."""

    __slots__ = ("_reading", "_told", "_used")

    def __init__(
        self,
        xid: int,
        charge: Charge,
        recorder: Recorder,
        metrics: GatewayMetrics,
        beyond: int,
        reading: Reading,
        told: Told,
        used: tuple[int, ...] = (),
    ) -> None:
        super().__init__(xid, charge, recorder, metrics, beyond)
        self._reading, self._told, self._used = reading, told, used

    def end(self, charge: Charge, outcome: Outcome, status: int, ms: int, cause: str, minute: int = 0) -> None:
        """With a cause the whole reserve goes back, and nothing is drawn."""
        if not cause:
            self._settle(charge, outcome)
        super().end(charge, outcome, status, ms, cause, minute)

    def _settle(self, charge: Charge, outcome: Outcome) -> None:
        unused: dict[str, int] = {}
        beyond: dict[str, int] = {}
        for meter, cost in self._first.settles:
            units, reason = taken(cost, self._reading, outcome)
            self._metrics.settled_units.add(units, meter)
            if reason:
                self._metrics.unit_faults.add(1, meter, reason)
                self._told.units_unsaid(outcome, meter, reason, units)
            if units < cost.reserve:
                unused[meter] = units - cost.reserve
                self._metrics.returned_units.add(cost.reserve - units, meter, UNUSED)
            elif units > cost.reserve:
                beyond[meter] = units - cost.reserve
                self._metrics.admitted_units.add(units - cost.reserve, meter)
        if unused or beyond:
            self._recorder.settled(self.xid, charge.template_of(self._beyond), unused, beyond)
            if self._scarce():
                self._told.ship_soon(charge.bucket)

    def _scarce(self) -> bool:
        for limit, used in zip(self._first.limits, self._used, strict=False):
            if limit.enforced is not None and limit.enforced - used < _SCARCE * limit.cost:
                return True
        return False


def taken(cost: Settled, reading: Reading, outcome: Outcome) -> tuple[int, str]:
    """The units of an exchange that pays, and why they are not what the answer says (empty where they are).

    An answer that says nothing costs what the file says for it; one that refuses the call then costs nothing. Where the exchange
    broke off before the answer was whole, the last word on it may be missing: it costs the larger of that and what it said so far.
    """
    found = reading.units(cost)
    whole = reading.whole or outcome.ended == "complete"
    if isinstance(found, int):
        if whole:
            return found, ""
        return (found, BROKEN_OFF) if found >= cost.unsaid else (cost.unsaid, BROKEN_OFF)
    if reading.refused:
        return 0, ""
    return cost.unsaid, found if whole else BROKEN_OFF
