"""A bypass: for its time, the limits it covers decide as shadow: they refuse nobody, and everything is counted and billed.

Control (or, for a gateway alone, its supervisor) writes all that are in force as one JSON list; each carries its end, so
that it ends on the gateways by itself. Pure.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a bypass covers, as metrics name it."""

    ORG = "org"  # one organization: all its limits, or those on one meter
    METER = "meter"  # one meter, whoever calls
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """`org_id` None is every organization, `meter` None every limit."""

    id: int
    until_ms: int
    org_id: str | None = None
    meter: str | None = None
    reason: str = ""

    @property
    def scope(self) -> Scope:
        if self.org_id is not None:
            return Scope.ORG
        return Scope.ALL if self.meter is None else Scope.METER

    def covers(self, org_id: str, meter: str | None) -> bool:
        """Whether it is about this limit. `meter` None: a limit on no meter, such as concurrency."""
        return self.org_id in (None, org_id) and self.meter in (None, meter)


def covered_until(bypasses: Iterable[Bypass], org_id: str, meter: str | None, now_ms: int) -> int | None:
    """Until when some bypass covers a limit that one covers now; None where none does."""
    return max((b.until_ms for b in bypasses if b.until_ms > now_ms and b.covers(org_id, meter)), default=None)


def to_json(bypasses: Sequence[Bypass]) -> str:
    """Equal lists give equal texts."""
    ordered = sorted(bypasses, key=lambda b: b.id)
    rows = [{"id": b.id, "org": b.org_id, "meter": b.meter, "until_ms": b.until_ms, "reason": b.reason} for b in ordered]
    return json.dumps(rows, separators=(",", ":"))


def from_json(text: str | bytes) -> tuple[Bypass, ...]:
    """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for what is none."""
    return tuple(
        Bypass(id=int(d["id"]), until_ms=int(d["until_ms"]), org_id=d.get("org"), meter=d.get("meter"), reason=d.get("reason", ""))
        for d in json.loads(text)
    )
