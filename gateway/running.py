"""What a worker's equal calls add up to, between two looks of the tally. Pure.

The recorder (recorder.py) adds; the tally (tally.py) folds it into its sums, where a successor that reads the records one by one
arrives at the same.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tally import Template

Weights = tuple[tuple[str, bool, bool], ...]
"""Meters that weigh body bytes: those of the request, those of the answer."""


class Running:
    """What equal calls of one minute and one epoch add up to since they were last folded into the sums.

    `minute` is -1 while there is nothing. The recorder adds to the fields itself: a call of a function for each would
    cost as much again as the addition. `ends`: those that ended alike since the last frame, as `N` will say it. `paid` so ended
    before, all alike, with their bytes by their `weights`.
    """

    __slots__ = (
        "bytes_in", "bytes_out", "charged", "ends", "epoch", "exchanges", "minute", "ms", "opened", "paid", "paid_class", "paid_in",
        "paid_out", "passed", "template", "weighed", "weights",
    )  # fmt: skip

    def __init__(self, template: "Template") -> None:
        self.template, self.minute, self.epoch = template, -1, -1
        self.opened = (template.tid, -1)  # what `Tally.open` holds for each of its calls
        self.charged = self.passed = self.ms = self.bytes_in = self.bytes_out = 0
        self.exchanges: dict[int, int] = {}  # status class -> those that ended
        self.weighed: dict[str, int] = {}
        self.ends: Ends | None = None
        self.paid = self.paid_class = self.paid_in = self.paid_out = 0
        self.weights: Weights = ()

    def spread(self) -> None:
        """What was paid alike goes to what is kept by class of status and by meter."""
        if self.paid_class:
            self.exchanges[self.paid_class] = self.exchanges.get(self.paid_class, 0) + self.paid
        for meter, units in weighed(self.weights, self.paid_in, self.paid_out).items():
            self.weighed[meter] = self.weighed.get(meter, 0) + units
        self.paid = self.paid_in = self.paid_out = 0


class Ends:
    """Exchanges that ended alike."""

    __slots__ = ("bytes_in", "bytes_out", "minute", "ms", "running", "status_class", "weights", "xids")

    def __init__(self, running: Running, weights: Weights, minute: int, status_class: int) -> None:
        self.running, self.weights, self.minute, self.status_class = running, weights, minute, status_class
        self.xids: list[int] = []
        self.ms = self.bytes_in = self.bytes_out = 0

    def added_up(self) -> list[Any]:
        """Add them to what runs up in their minute; returns their record."""
        running, status_class, ms, bytes_in, bytes_out = self.running, self.status_class, self.ms, self.bytes_in, self.bytes_out
        if running.paid_class != status_class or running.weights is not self.weights:
            if running.paid:
                running.spread()
            running.paid_class, running.weights = status_class, self.weights
        running.paid += len(self.xids)
        running.paid_in += bytes_in
        running.paid_out += bytes_out
        running.bytes_in += bytes_in
        running.bytes_out += bytes_out
        if status_class:
            running.ms += ms
        units = weighed(self.weights, bytes_in, bytes_out)
        return ["N", running.template.tid, self.minute, status_class, ms, bytes_in, bytes_out, units, self.xids]


def weighed(weights: Weights, bytes_in: int, bytes_out: int) -> dict[str, int]:
    """Bytes are weighed one by one or all together: it comes to the same."""
    found = {}
    for meter, inwards, outwards in weights:
        units = (bytes_in if inwards else 0) + (bytes_out if outwards else 0)
        if units:
            found[meter] = units
    return found
