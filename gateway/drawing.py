"""What bytes that are drawn before they pass are charged: a Charge of its own for one byte, asked for as many times as there are bytes.

Pure but for the recorder. Who asks is in draws.py. The bytes of a request whose length is known are a part of its call's own charge
(`Upload`), so that both pass or none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.model.quota import strictest

from .kept import Kept
from .tally import Template, next_tid
from .wire import pieces

if TYPE_CHECKING:
    from .charges import Charge
    from .recorder import Recorder

MOST_WHOLE = 10**13  # units that can be asked for at once
SIZES_KEPT = 4_096


@dataclass(slots=True, eq=False)
class Cut:
    """The measures of a charge whose bytes are drawn, by the way that they go: the request's, and the response's."""

    inward: tuple[str, ...]
    outward: tuple[str, ...]
    make: "Callable[[int], Charge] | None" = None

    def sized(self, length: int) -> "Charge | None":
        """The charge of a call whose request has so many bytes; None where they are not drawn."""
        found = _sized.known.get((self, length))
        if found is None and self.make is not None and length <= MOST_WHOLE:
            found = _sized.keep((self, length), self.make(length))
        return found


_sized: "Kept[tuple[Cut, int], Charge]" = Kept(SIZES_KEPT)  # of all charges together


class Upload:
    """What a sized charge is made of: the call's own charge, and so many bytes in hand."""

    __slots__ = ("base", "length", "measures")

    def __init__(self, base: "Charge", measures: tuple[str, ...], length: int) -> None:
        self.base, self.measures, self.length = base, measures, length

    def granted(self, recorder: "Recorder", beyond: int, epoch: int, n: int, calls: int) -> int:
        """As Recorder.granted."""
        xid, bytes_of = recorder.granted(self.base.templates[beyond], epoch, n, calls), drawing_of(self.base, self.measures, beyond)
        for i in range(calls):
            recorder.drew(xid + i, bytes_of.template, epoch, n, self.length)
        return xid

    def passed(self, recorder: "Recorder", epoch: int, n: int, calls: int) -> int:
        """As Recorder.passed."""
        xid, bytes_of = recorder.passed(self.base.template, epoch, n, calls), drawing_of(self.base, self.measures, 0)
        for i in range(calls):
            recorder.drew_by_rule(xid + i, bytes_of.template, epoch, n, self.length)
        return xid


class Room:
    """What the streams that draw from the same limits know of them: what was left at the last answer, and how many they are."""

    __slots__ = ("left", "streams")

    def __init__(self) -> None:
        self.left: int | None = None
        self.streams = 0


def drawing_of(charge: "Charge", measures: tuple[str, ...], beyond: int) -> "Charge":
    """What one byte on these measures is charged, for calls of this charge that were beyond these throttles."""
    known = charge.drawings
    if known is None:
        known = charge.drawings = {}
    found = known.get((measures, beyond))
    if found is None:
        found = known[measures, beyond] = _drawing(charge, measures, charge.template_of(beyond))
    return found


def _drawing(charge: "Charge", measures: tuple[str, ...], of: Template) -> "Charge":
    moved = {measure: of.counters.get(measure, ()) for measure in measures}
    by_counter = {limit.counter: limit for limit in charge.limits}
    limits = tuple(
        replace(by_counter[counter], cost=1, enforced=by_counter[counter].cut, main=None)
        for names in moved.values()
        for counter, _ in names
    )
    template = Template(
        next_tid(), of.org_id, of.bucket, of.key_id, of.route_id, of.method, of.period_start,
        tuple((measure, 1) for measure in measures), moved, of.dimensions,
    )  # fmt: skip
    return replace(
        charge, templates=(template,), limits=limits, weighed=(), rule=strictest([x.rule for x in limits if x.enforced is not None]),
        rates=(), slots=(),
        pieces=pieces(
            charge.bucket, [x.counter for x in limits], ticket=template.tid, org_id=charge.org_id, version=charge.version,
            from_ms=charge.from_ms, until_ms=charge.until_ms, quotas=[(1, x.enforced, x.expires_ms) for x in limits],
        ),
        varies=False, make=None, policy=None, cut=None, upload=None, drawings=None, room=Room(),
    )  # fmt: skip


def whole(drawing: "Charge") -> "Charge":
    """The same for one that wants all or none, and is therefore decided alone."""
    return replace(drawing, whole=True)
