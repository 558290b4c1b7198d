"""Lines about refusals, within bounds: so many a second of a kind, then how many more there were.

Whoever floods the gateway shall not fill its disk, nor keep it busy with writing.
"""

import asyncio
import logging
from collections.abc import Callable

import orjson

log = logging.getLogger("weighbridge.gateway")

A_SECOND = 20
KINDS_REMEMBERED = 100


class LogLines:
    """`may(kind)` says whether another line of this kind is in bounds; what was left out is told once the second is over."""

    def __init__(self, monotonic: Callable[[], float], *, a_second: int = A_SECOND) -> None:
        self._monotonic, self._a_second = monotonic, a_second
        self._since = float("-inf")
        self._written: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def may(self, kind: str) -> bool:
        now = self._monotonic()
        if now - self._since >= 1.0:
            self._tell()
        kind = kind if kind in self._written or len(self._written) < KINDS_REMEMBERED else "other"
        written = self._written.get(kind, 0)
        if written < self._a_second:
            self._written[kind] = written + 1
            return True
        self._left_out[kind] = self._left_out.get(kind, 0) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._tell)
        return False

    def _tell(self) -> None:
        """The second is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, count in self._left_out.items():
            log.warning("%s", orjson.dumps({"event": "refused", "reason": kind, "more": count}).decode())
        self._written.clear()
        self._left_out.clear()
        self._since = self._monotonic()
