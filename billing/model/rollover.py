"""Units of a period quota that were not used, carried into the next period, up to a bound. Pure.

Units that were carried are used first and are not carried again: what is carried comes from the plan's own units alone, so nothing
piles up beyond the bound.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from metering.model.quota import Per, Quota, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One meter in one period: the units its plan gave, and those that were carried into it."""

    base: int
    carried: int = 0


def carried(before: Period, used: int, bound: int) -> int:
    """What goes on into the next period."""
    return min(bound, max(0, before.base - max(0, used - before.carried)))


def rolling(quotas: Iterable[Quota], meters: Collection[str]) -> dict[str, Quota]:
    """The plan's quotas on these meters that can carry units: of the organization, of a period, with a limit."""
    return {
        q.meter: q
        for q in quotas
        if q.meter in meters and q.window is Window.PERIOD and q.per is Per.ORG and not q.routed and q.limit is not None
    }


def raised(quota: Quota, units: int) -> Quota:
    """The quota with what was carried on top; a stop moves along."""
    assert quota.limit is not None  # `rolling` was asked
    stop_at = None if quota.stop_at is None else quota.stop_at + units
    return replace(quota, limit=quota.limit + units, stop_at=stop_at, source="override")
