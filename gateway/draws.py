"""Who asks for bytes before they pass, and what becomes of admission's answer: written down first, then told."""

from collections.abc import Callable, Sequence
from typing import cast

from .charges import Charge
from .decisions import Asker, Decision, Status
from .recorder import Recorder


class Draw:
    """An exchange's wish for units. `granted` and `minute` say what it got, once `told` is called."""

    __slots__ = ("_told", "drawing", "gone", "granted", "minute", "units", "xid")

    def __init__(self, xid: int, drawing: Charge, units: int, told: "Callable[[Draw, Decision], None]") -> None:
        self.xid, self.drawing, self.units, self._told = xid, drawing, units, told
        self.granted = self.minute = 0
        self.gone = False

    def decided(self, decision: Decision) -> None:
        self._told(self, decision)


def asked(drawing: Charge, askers: Sequence[Asker]) -> int:
    """The group's count."""
    units = sum(draw.units for draw in _draws(askers))
    return -units if drawing.whole else units


def grant(
    recorder: Recorder, drawing: Charge, askers: Sequence[Asker], epoch: int, n: int, granted: int, refusing: int, now: list[int]
) -> list[tuple[Asker, Decision]]:
    """Write down who got what of an admit's answer; `now`: what it says of the limits."""
    if granted < 0:
        outcome = Decision(Status.LATE if granted == -1 else Status.STALE)
        return [(asker, outcome) for asker in askers]
    used = tuple(now)
    decided: list[tuple[Asker, Decision]] = []
    if drawing.room is not None:
        drawing.room.left = min((x.enforced - u for x, u in zip(drawing.limits, used, strict=True) if x.enforced is not None), default=None)
    for draw in _draws(askers):
        got = 0 if draw.gone else min(draw.units, granted)
        granted -= got
        if got:
            draw.minute = recorder.drew(draw.xid, drawing.template, epoch, n, got)
            draw.granted = got
        decided.append((draw, Decision(Status.ADMITTED if got else Status.REFUSED, 0, used, refusing - 1)))
    if granted:  # to those who have gone meanwhile
        recorder.refunded(drawing.template, epoch, n, granted)
    return decided


def let(recorder: Recorder, drawing: Charge, askers: Sequence[Asker], epoch: int, n: int) -> None:
    """A failure rule lets them have what they ask for."""
    for draw in _draws(askers):
        draw.minute = recorder.drew_by_rule(draw.xid, drawing.template, epoch, n, draw.units)
        draw.granted = draw.units


def _draws(askers: Sequence[Asker]) -> Sequence[Draw]:
    """A drawing is asked for by nobody else."""
    return cast("Sequence[Draw]", askers)
