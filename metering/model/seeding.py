"""Which counters begin with a new entitlement, in the middle of their windows, and what they must begin with. Pure.

Every call counts in its organization's period, whatever its quotas. A quota in another window begins to count when the
plan or override brings it; what was used in that window so far is the period's counter, less what lies in the period and
not in the window.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from . import keys
from .entitlement import Entitlement
from .period import period_at, window_at
from .quota import Per, Quota, Window


@dataclass(frozen=True, slots=True)
class Begun:
    """A counter that begins. `period_start_ms` is that of the period it is worked out from."""

    org_id: str
    meter: str
    window: Window
    start_ms: int
    end_ms: int
    period_start_ms: int

    @property
    def counter(self) -> str:
        return _counter(self.org_id, self.meter, self.window, self.start_ms)

    @property
    def period_counter(self) -> str:
        return _counter(self.org_id, self.meter, Window.PERIOD, self.period_start_ms)


@dataclass(frozen=True, slots=True)
class Seed:
    """`offset`: what the ledger has in the period and not in the window, less what it has in the window and not in the period."""

    begun: Begun
    offset: int

    @property
    def expires_ms(self) -> int:
        return keys.counter_expires_ms(self.begun.window, self.begun.end_ms)


def begun(standing: Entitlement, new: Entitlement, now_ms: int) -> tuple[Begun, ...]:
    """The counters that the gateways count in under `new` and did not under `standing`."""
    counted, found = set(kinds(standing)), dict[tuple[str, Window], Begun]()
    period_start, _ = period_at(standing.anchor_ms, now_ms)
    for meter, window in kinds(new):
        if (meter, window) not in counted:
            start, end = window_at(window, new.anchor_ms, now_ms)
            found[meter, window] = Begun(new.org_id, meter, window, start, end, period_start)
    return tuple(found.values())


def kinds(entitlement: Entitlement) -> Iterable[tuple[str, Window]]:
    """The meters and windows, beside the period, that all calls of the organization count in."""
    quotas: list[Quota] = [*entitlement.quotas, *(q for o in entitlement.overrides for q in o.quotas)]
    return ((q.meter, q.window) for q in quotas if q.per is Per.ORG and q.window is not Window.PERIOD and q.limit is not None)


def _counter(org_id: str, meter: str, window: Window, start_ms: int) -> str:
    return keys.counter(org_id, meter, keys.scope(route_id=None, key_id=None), window, start_ms)
