"""One way of a tunnel whose bytes are drawn before they pass: writes on what is in hand, and holds the rest (no more than was read)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .flow import Flow

if TYPE_CHECKING:
    from .gate import Gate


class Sluice:
    """`pause` stops the reading at the end that speaks, `resume` lets it go on if nothing else holds it up."""

    __slots__ = ("_flow", "_gate", "_held", "_pause", "_resume", "_write")

    def __init__(
        self, gate: "Gate", flow: Flow, write: Callable[[bytes], object], pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._gate, self._flow, self._write, self._pause, self._resume = gate, flow, write, pause, resume
        self._held: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        """What was read."""
        self._held.append(data)
        if not self._flow.stalled:
            self._pour()

    def go_on(self) -> None:
        """More was drawn."""
        self._resume()
        self._pour()

    def _pour(self) -> None:
        flow = self._flow
        size = sum(map(len, self._held))
        fits = min(size, flow.left)
        if fits and not self._gate.spend(flow, fits):
            return
        now, self._held = split(self._held, fits)
        if now:
            self._write(b"".join(now))
        if self._held:
            flow.stalled = True
            self._pause()
            flow.draw(size - fits)
        else:
            flow.ahead()


def split(pieces: list[bytes], size: int) -> tuple[list[bytes], list[bytes]]:
    """The first `size` bytes, and the rest."""
    now: list[bytes] = []
    for i, piece in enumerate(pieces):
        if len(piece) > size:
            return ([*now, piece[:size]] if size else now), [piece[size:], *pieces[i + 1 :]]
        now.append(piece)
        size -= len(piece)
    return now, []
