"""One admitted exchange: what it weighs while it runs, and how it ends. Every ending settles, or returns.

The recorder gets deltas: each unit is written down once, under the charge that holds when it is.
"""

from config.gateway import FromHeader, Messages, Route, Weighed

from .charges import Charge
from .frames import Frames
from .metrics import GatewayMetrics
from .outcome import Outcome
from .recorder import LEFT_BEFORE, Recorder
from .running import Weights
from .tally import Template
from .units import MOST_UNITS


def cause_of_return(route: Route, outcome: Outcome) -> str:
    """Why this exchange's units go back to the caller, by the route's `return_on`; empty where it pays.

    A call whose client left before it was sent to a service was never forwarded, so it is given back whatever the route says.
    A service that broke off, or answered what is no answer, is shown to the client as a 5xx, so it counts as one.
    """
    if outcome.ended == "complete" and (outcome.status or 0) < 500:
        return ""
    if outcome.ended == "client_gone":
        return LEFT_BEFORE if outcome.unsent else ""
    if outcome.ended in ("unreachable", "busy"):
        return "unreachable" if "unreachable" in route.return_on else ""
    if outcome.ended == "timeout":
        return outcome.ended if outcome.ended in route.return_on else ""
    broken = outcome.ended in ("upstream_reset", "bad_response") or (outcome.status or 0) >= 500
    return "5xx" if broken and "5xx" in route.return_on else ""


class Weight:
    """A meter that is weighed as a call goes on. `admitted` is its share of the metric."""

    __slots__ = ("admitted", "cost", "inwards", "meter", "outwards")

    def __init__(self, meter: str, cost: object, metrics: GatewayMetrics) -> None:
        self.meter, self.cost, self.admitted = meter, cost, metrics.admitted_units.at(meter)
        bytes_of = cost.source if isinstance(cost, Weighed) else ""
        self.inwards, self.outwards = bytes_of in ("bytes", "request_bytes"), bytes_of in ("bytes", "response_bytes")


class Scales:
    """How the calls of one charge are weighed, and where that shows in the metrics: worked out once a charge.

    `by_bytes` where bytes are all that is weighed; None where a tunnel's messages are, or the answer's header says it.
    """

    __slots__ = ("admitted", "by_bytes", "metrics", "weights")

    def __init__(self, charge: Charge, metrics: GatewayMetrics) -> None:
        self.metrics = metrics
        self.admitted = [(metrics.admitted_units.at(meter), units) for meter, units in charge.template.costs]
        self.weights = [Weight(meter, cost, metrics) for meter, cost in charge.weighed]
        self.by_bytes: Weights | None = None
        if all(weight.inwards or weight.outwards for weight in self.weights):
            self.by_bytes = tuple([(weight.meter, weight.inwards, weight.outwards) for weight in self.weights])


def scales_of(charge: Charge, metrics: GatewayMetrics) -> Scales:
    """Those of the charge, in these metrics."""
    scales = charge.scales
    if scales is None or scales.metrics is not metrics:
        scales = charge.scales = Scales(charge, metrics)
    return scales


class Metered:
    """The ledger's side of one exchange. The charge that a record is written under is the one that holds at its time.

    `beyond`: by which throttles' main limits the call was when it began; what it weighs then goes to their slower quotas too.
    """

    __slots__ = ("_beyond", "_bytes_in", "_bytes_out", "_first", "_frames", "_messages", "_metrics", "_recorder", "_uploaded", "xid")

    def __init__(self, xid: int, charge: Charge, recorder: Recorder, metrics: GatewayMetrics, beyond: int = 0) -> None:
        self.xid, self._first, self._beyond = xid, charge, beyond
        self._recorder, self._metrics = recorder, metrics
        self._bytes_in = self._bytes_out = 0
        self._frames: tuple[Frames, Frames] | None = None  # in, out: what counts the messages of a tunnel
        self._messages = 0, 0
        self._uploaded: dict[Template, dict[str, int]] | None = None  # weighed before any answer, by the facts of its time
        for admitted, units in scales_of(charge, metrics).admitted:
            admitted.count += units

    def count(self, frames: tuple[Frames, Frames]) -> None:
        """A tunnel begins, whose messages these count: in, out."""
        self._frames = frames

    def progress(self, charge: Charge, bytes_in: int, bytes_out: int) -> None:
        """Cumulative body bytes so far, at most once a second."""
        moved_in, moved_out = bytes_in - self._bytes_in, bytes_out - self._bytes_out
        self._bytes_in, self._bytes_out = bytes_in, bytes_out
        weighed = self._weigh(charge, moved_in, moved_out, None)
        self._recorder.progress(self.xid, charge.template_of(self._beyond), moved_in, moved_out, weighed)
        if bytes_out:
            self._uploaded = None  # the answer has begun: this will not go back
        else:
            if self._uploaded is None:
                self._uploaded = {}
            sums = self._uploaded.setdefault(charge.template_of(self._beyond), {})
            sums.update({meter: sums.get(meter, 0) + units for meter, units in weighed.items()})

    def end(self, charge: Charge, outcome: Outcome, status: int, ms: int, cause: str, minute: int = 0) -> None:
        """`status` is what the client saw. A return before the first body byte gives back everything. `minute`: as the recorder has it."""
        moved_in, moved_out = outcome.bytes_in - self._bytes_in, outcome.bytes_out - self._bytes_out
        if not cause:
            scales = scales_of(charge, self._metrics)
            if scales.by_bytes is not None:
                for weight in scales.weights:
                    weight.admitted.count += (moved_in if weight.inwards else 0) + (moved_out if weight.outwards else 0)
                template = charge.template_of(self._beyond)
                self._recorder.paid(self.xid, template, scales.by_bytes, status, ms, moved_in, moved_out, minute)
                return
        free = bool(cause) and not outcome.first_byte_sent
        if free:
            self._take_back()
        weighed = {} if free else self._weigh(charge, moved_in, moved_out, outcome.response_headers)
        self._recorder.ended(self.xid, charge.template_of(self._beyond), cause, status, ms, moved_in, moved_out, weighed, minute)
        if cause:
            for meter, units in self._first.template.costs:
                self._metrics.returned_units.add(units, meter, cause)

    def _take_back(self) -> None:
        """What a long upload weighed, second by second, before the service failed it."""
        for template, weighed in (self._uploaded or {}).items():
            self._recorder.progress(self.xid, template, 0, 0, {meter: -units for meter, units in weighed.items()})

    def _weigh(self, charge: Charge, moved_in: int, moved_out: int, headers: list[tuple[bytes, bytes]] | None) -> dict[str, int]:
        weighed = {}
        said_in, said_out = self._said() if self._frames is not None else (0, 0)
        for weight in scales_of(charge, self._metrics).weights:
            cost = weight.cost
            if weight.inwards or weight.outwards:
                units = (moved_in if weight.inwards else 0) + (moved_out if weight.outwards else 0)
            elif isinstance(cost, Messages):
                units = (said_in if cost.source != "response_messages" else 0) + (said_out if cost.source != "request_messages" else 0)
            else:
                units = header_units(cost, headers)
            if units:
                weighed[weight.meter] = units
                weight.admitted.count += units
        return weighed

    def _said(self) -> tuple[int, int]:
        """Messages in and out since this was asked last."""
        assert self._frames is not None
        (before_in, before_out), (inwards, outwards) = self._messages, self._frames
        self._messages = now_in, now_out = inwards.messages, outwards.messages
        return now_in - before_in, now_out - before_out


def header_units(cost: object, headers: list[tuple[bytes, bytes]] | None) -> int:
    """The whole number in the named header of the service's answer; 0 where it is missing or is none."""
    if not isinstance(cost, FromHeader) or headers is None:
        return 0
    wanted = cost.name.lower().encode()
    for name, value in headers:
        if name.lower() == wanted:
            text = value.strip()
            return int(text) if text.isdigit() and len(text) < 16 and int(text) <= MOST_UNITS else 0
    return 0
