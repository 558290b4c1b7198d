"""The bypasses in force, as this worker knows them: read when the store answers, when control says so, and every few seconds.

Each carries its end. A store that forgot them, or is away, ends none: what is known goes on until its time.
"""

import logging
from collections.abc import Callable
from typing import Any

from metering.model import keys
from metering.model.bypass import Bypass, Scope, covered_until, from_json
from metering.store.redis.link import Link, pack

log = logging.getLogger("weighbridge.gateway")


class Bypasses:
    """`on_change()` runs when the list changed: every ready-made charge must then be worked out again."""

    def __init__(self, link: Link | None = None, on_change: Callable[[], None] = lambda: None) -> None:
        self._link, self._on_change = link, on_change
        self._known: tuple[Bypass, ...] = ()
        self._read = b""

    def covers(self, org_id: str, meter: str | None, now_ms: int) -> int | None:
        """Until when limits on this meter decide as shadow for this organization; None where they decide as they stand.

        `meter` None: a limit on no meter (concurrency, a rate of calls). `org_id` empty: a call of nobody in particular.
        """
        return covered_until(self._known, org_id, meter, now_ms) if self._known else None

    def active(self, now_ms: int) -> dict[Scope, int]:
        """How many are in force, by what they cover."""
        return {scope: sum(b.scope is scope and b.until_ms > now_ms for b in self._known) for scope in Scope}

    def ask(self) -> None:
        """Read what stands in the store; the answer comes by itself."""
        if self._link is not None and self._link.up:
            self._link.call(pack(("GET", keys.BYPASS)), self.learn)

    def learn(self, value: Any) -> None:
        """The value of the key, or the error that stood in its place."""
        if not isinstance(value, bytes) or value == self._read:
            return
        try:
            self._known = from_json(value)
        except (ValueError, KeyError, TypeError) as exc:
            log.error("the bypasses in the store cannot be read (%s); those known stay until they end", exc)
            return
        self._read = value
        self._on_change()


NO_BYPASS = Bypasses()
