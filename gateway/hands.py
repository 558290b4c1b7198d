"""Units in hand: what exchanges drew before they pass it on, and have not passed on yet. Pure.

A block is known by its exchange, its template and the minute it was drawn in: what is left of it goes back to just that minute.
"""

from collections.abc import Iterator

Block = tuple[int, int]  # tid, minute


class Hands:
    """Exchange -> its blocks, with what is left of each."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[int, dict[Block, int]] = {}

    def __contains__(self, xid: object) -> bool:
        return xid in self._of

    def __iter__(self) -> Iterator[int]:
        return iter(self._of)

    def draw(self, xid: int, block: Block, units: int) -> None:
        blocks = self._of.setdefault(xid, {})
        blocks[block] = blocks.get(block, 0) + units

    def use(self, xid: int, block: Block, units: int) -> None:
        """Raises KeyError for a block that was never drawn."""
        blocks = self._of[xid]
        blocks[block] -= units
        if not blocks[block]:
            del blocks[block]

    def holds(self, xid: int, rows: list[list[int]]) -> None:
        """All that this exchange has: [tid, minute, units] of each block."""
        self._of[xid] = {(tid, minute): units for tid, minute, units in rows}

    def rows(self, xid: int) -> list[list[int]]:
        return [[tid, minute, units] for (tid, minute), units in self._of.get(xid, {}).items()]

    def take(self, xid: int) -> list[list[int]]:
        """What is left, which this exchange has no longer."""
        rows = self.rows(xid)
        self._of.pop(xid, None)
        return rows

    @property
    def units(self) -> int:
        """All that is in anybody's hand."""
        return sum(sum(blocks.values()) for blocks in self._of.values())

    @property
    def tids(self) -> set[int]:
        return {tid for blocks in self._of.values() for tid, _ in blocks}
