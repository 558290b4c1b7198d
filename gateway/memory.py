"""What was read from bytes that come again and again, so that equal bytes are read once.

Pure. Only what comes a second time is kept: heads that are each their own (a trace id in every one) neither fill the memory nor drive
out of it what does come again. Of what came once, the hash alone is held.
"""

from itertools import islice
from typing import Generic, TypeVar

_MOST_ONCE = 8_192

T = TypeVar("T")


class Memory(Generic[T]):
    """Look into `known` with the bytes; after reading what was not found there, offer it with `keep`."""

    __slots__ = ("_bytes", "_longest", "_most", "_most_bytes", "_once", "known")

    def __init__(self, most: int, most_bytes: int, longest: int) -> None:
        """At most so many blocks, of so many bytes together, each no longer than `longest`."""
        self.known: dict[bytes, T] = {}
        self._once: set[int] = set()
        self._most, self._most_bytes, self._longest = most, most_bytes, longest
        self._bytes = 0

    def keep(self, block: bytes, value: T) -> bool:
        """Whether it is kept: it is short, and came before. What is known under these bytes is replaced."""
        if block in self.known:
            self.known[block] = value
            return True
        if len(block) > self._longest or self._is_new(hash(block)):
            return False
        if len(self.known) >= self._most or self._bytes + len(block) > self._most_bytes:
            self._forget_older_half()
        self.known[block] = value
        self._bytes += len(block)
        return True

    def _is_new(self, mark: int) -> bool:
        once = self._once
        if mark in once:
            once.remove(mark)
            return False
        if len(once) >= _MOST_ONCE:
            once.clear()
        once.add(mark)
        return True

    def _forget_older_half(self) -> None:
        for block in list(islice(self.known, (len(self.known) + 1) // 2)):
            del self.known[block]
            self._bytes -= len(block)

    def clear(self) -> None:
        self.known.clear()
        self._once.clear()
        self._bytes = 0
