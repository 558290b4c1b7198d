"""What is made once and kept for later, at most so much of it: callers choose the names, they must not choose how many. Pure."""

from collections.abc import Hashable
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Look into `known` by name; `keep` what was not found there. Where there is no room the older half goes."""

    __slots__ = ("_most", "known")

    def __init__(self, most: int) -> None:
        self.known: dict[K, V] = {}
        self._most = most

    def keep(self, name: K, value: V) -> V:
        if len(self.known) >= self._most:
            for old in list(islice(self.known, (self._most + 1) // 2)):
                del self.known[old]
        self.known[name] = value
        return value
