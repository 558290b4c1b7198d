"""One way of one call whose bytes are drawn before they pass: the blocks in hand, and the next one asked for while they last.

A block lasts for about a tenth of a second, so a fast stream has large ones; near the limit all streams have small ones, so that many
share what is left. At most two are open: the one that is being used, and the one ahead.
"""

from collections import deque
from typing import TYPE_CHECKING

from .admission import Decision, Status
from .drawing import Room, drawing_of, whole
from .draws import Draw
from .tally import Template

if TYPE_CHECKING:
    from .gate import Gate

LEAST_BYTES, FIRST_BYTES, LARGEST_BYTES = 1_024, 16_384, 524_288
_FAST_SECONDS, _SLOW_SECONDS = 0.1, 1.0
_SHARES = 8  # of what is left, all streams of a worker together ask for one at a time


def next_size(last: int, lasted_seconds: float) -> int:
    """Twice as much where the last block was used up soon, half as much where it lasted long."""
    if lasted_seconds < _FAST_SECONDS:
        return min(last * 2, LARGEST_BYTES)
    return max(last // 2, LEAST_BYTES) if lasted_seconds > _SLOW_SECONDS else last


def share(size: int, left: int | None, streams: int) -> int:
    """No more of a block than is this stream's share of what is left; None: nothing is limited."""
    return size if left is None else max(min(size, left // (_SHARES * max(streams, 1))), min(size, LEAST_BYTES))


class _Block:
    __slots__ = ("left", "minute", "template")

    def __init__(self, template: Template, minute: int, left: int) -> None:
        self.template, self.minute, self.left = template, minute, left


class Flow:
    """`left` bytes may pass. `stalled`: it waits for more. `used` is what it used, by the template of its draw."""

    __slots__ = ("_blocks", "_draw", "_dry", "_gate", "_measures", "_room", "_since", "_size", "_whole", "begun", "left", "stalled", "used")

    def __init__(self, gate: "Gate", measures: tuple[str, ...]) -> None:
        self._gate, self._measures = gate, measures
        self._blocks: deque[_Block] = deque()
        self._draw: Draw | None = None
        self._room: Room | None = None
        self._size, self._since = FIRST_BYTES, 0.0
        self._dry = False  # the last answer was that nothing is left: no more is asked for ahead
        self._whole = False
        self.left = 0
        self.begun = self.stalled = False
        self.used: dict[Template, int] = {}

    @property
    def measures(self) -> tuple[str, ...]:
        return self._measures

    # --- using -------------------------------------------------------------------------------------------------------
    def give_all(self, template: Template, minute: int, units: int) -> None:
        """All that it needs was drawn with the call."""
        self.begun = self._whole = True
        self.give(template, minute, units)

    def give(self, template: Template, minute: int, units: int) -> None:
        """A block that was drawn."""
        self._blocks.append(_Block(template, minute, units))
        self.left += units

    def use(self, size: int) -> None:
        """Write down that so many of the bytes in hand are passed on; they may be once that is on disk."""
        self.left -= size
        recorder, xid = self._gate.recorder, self._gate.xid
        while size:
            block = self._blocks[0]
            part = min(size, block.left)
            recorder.used(xid, block.template.tid, block.minute, part)
            self.used[block.template] = self.used.get(block.template, 0) + part
            block.left -= part
            size -= part
            if not block.left:
                self._blocks.popleft()

    # --- asking ------------------------------------------------------------------------------------------------------
    def draw_whole(self, length: int) -> None:
        """So much is needed, no more, and nothing less is of use."""
        self.begun = self._whole = True
        self._size = length
        self._ask()

    def draw(self, needed: int = 0) -> None:
        """A block, since nothing can pass without it; so much is waiting for it."""
        self.begun, self._whole = True, False
        self._size = max(self._size, min(needed, LARGEST_BYTES))
        if self._draw is None:
            self._ask()

    def ahead(self) -> None:
        """The next block, before this one is used up."""
        if self._draw is None and self.left < self._size and not (self._dry or self._whole):
            self._ask()

    def again(self) -> None:
        """What was asked for is to be asked for under another charge."""
        if self._draw is None:
            self._ask()

    def _ask(self) -> None:
        drawing = drawing_of(self._gate.charge(), self._measures, self._gate.beyond)
        self._enter(drawing.room)
        units = self._size
        if self._whole:
            drawing = whole(drawing)
        else:
            room = self._room
            units = share(units, room.left if room else None, room.streams if room else 1)
        self._draw = Draw(self._gate.xid, drawing, units, self._decided)
        self._gate.ask(self._draw)

    def _enter(self, room: Room | None) -> None:
        if room is not self._room:
            self._leave()
            self._room = room
            if room is not None:
                room.streams += 1

    def _leave(self) -> None:
        if self._room is not None:
            self._room.streams -= 1
            self._room = None

    def _decided(self, draw: Draw, decision: Decision) -> None:
        self._draw = None
        if draw.granted:
            now = self._gate.monotonic()
            if self._since and not self._whole:
                self._size = next_size(self._size, now - self._since)
            self._since = now
            self._dry = draw.granted < draw.units
            self.give(draw.drawing.template, draw.minute, draw.granted)
            self._gate.go_on(self)
        elif decision.status in (Status.LATE, Status.STALE):
            self._gate.renew(self, decision.status)
        elif self.stalled:
            self._gate.cut(self, draw.drawing, decision)
        else:
            self._dry = True

    def close(self) -> bool:
        """Nothing passes any more. Whether what it has in hand is much, beside what others can still draw."""
        left = self._room.left if self._room is not None else None
        much = left is not None and self.left > 0 and left < max(self.left * _SHARES, LARGEST_BYTES)
        self._leave()
        if self._draw is not None:
            self._draw.gone = True
        return much
