"""What a fault is. The run gives it a house under load, and judges what came of it.

For each time it is injected: new customers call until all of them are served; `inject`; the load goes on for `lasts_seconds`; `undo`;
the load goes on until the house is well and all are served again; it stops, and the books are closed (books.py).
"""

from typing import ClassVar

from .books import Account
from .load import Load
from .world import World

DEADLINE_MS = 50
AMONG_OTHERS_MS = 1_500  # what a machine that does other work as well may hold a call up


class Fault:
    """One way to break things. A subclass says how.

    `refused` are the statuses that clients may get beside 200 (0: the connection broke) while it lasts and until all is well again.
    `waits_ms` is the longest that any call may wait for its answer; `waits` says for what, where that is more than a moment. `loses`
    says, in a sentence for the table, why calls that were answered may be left unbilled; without it not one may be.
    """

    name: ClassVar[str]
    lasts_seconds: ClassVar[float] = 0.0
    refused: ClassVar[frozenset[int]] = frozenset()
    waits_ms: ClassVar[float] = DEADLINE_MS + AMONG_OTHERS_MS
    waits: ClassVar[str] = ""
    loses: ClassVar[str] = ""
    takes_back: ClassVar[frozenset[int]] = frozenset()  # of those: what the store may have granted, and was given back
    streams: ClassVar[bool] = False  # server-sent events and WebSockets are open too
    kills: ClassVar[int] = 0  # workers
    quick: ClassVar[bool] = False  # one of those that the core suite injects

    async def inject(self, world: World) -> None:
        """Break it; returns when it is broken."""
        raise NotImplementedError

    async def undo(self, world: World) -> None:
        """Make it whole, as far as that is not the house's own affair."""

    def may_lose(self, who: str, account: Account) -> int:
        """How many calls of `who` (plan/slug) may be lost: by default, where it `loses`, what was given back and yet answered."""
        return min(account.unbilled, account.returned) if self.loses else 0

    def holds(self, world: World, load: Load) -> list[str]:
        """What else must hold of what clients and service saw: a sentence for each thing that does not."""
        return []
