"""What one call will be charged, against which limits: worked out once, shared by all equal calls.

Pure. A charge holds from one window boundary to the next; the scripts compare its bounds with server time.
"""

from dataclasses import dataclass, replace
from itertools import count

from config.gateway import Cost, Fixed, Route
from metering.model import keys
from metering.model.entitlement import Entitlement
from metering.model.period import period_at, window_at
from metering.model.quota import OPEN, FailureRule, Mode, Per, Quota, Window, strictest

from .bypasses import NO_BYPASS, Bypasses
from .tally import Template

_tids = count(1)


@dataclass(slots=True, eq=False)
class Limit:
    """One counter that a call moves. `enforced` is the limit if reaching it blocks; `quota` None where nothing limits."""

    counter: str
    meter: str
    cost: int
    enforced: int | None
    quota: Quota | None
    start_ms: int
    end_ms: int
    rule: FailureRule

    @property
    def expires_ms(self) -> int:
        return self.end_ms + keys.COUNTER_LINGERS_MS


@dataclass(slots=True, eq=False)
class Charge:
    """The limit-and-cost vector of equal calls, the route it was read from, and the journal's template for them."""

    template: Template
    bucket: int
    org_id: str
    version: str
    from_ms: int
    until_ms: int
    limits: tuple[Limit, ...]
    weighed: tuple[tuple[str, Cost], ...]
    rule: FailureRule
    route: Route
    policy: bytes | None = None  # the RateLimit-Policy of its quotas, once it was asked for

    def holds(self, now_ms: int) -> bool:
        return self.from_ms <= now_ms < self.until_ms


def make_charge(entitlement: Entitlement, route: Route, method: str, key_id: int, now_ms: int, *, bypasses: Bypasses = NO_BYPASS) -> Charge:
    """The charge of a call on this route at this time. A limit that a bypass covers counts and refuses nobody; the charge then
    holds until the bypass ends."""
    period_start, period_end = period_at(entitlement.anchor_ms, now_ms)
    costs = {meter: cost.units for meter, cost in route.charge.items() if isinstance(cost, Fixed)}
    limits = _limits(entitlement, route, key_id, costs, now_ms, bypasses)
    bounds = [(limit.start_ms, limit.end_ms) for limit in limits]
    covered = [bypasses.covers(entitlement.org_id, limit.meter, now_ms) for limit in limits]
    change = entitlement.changes_at(now_ms)
    counters: dict[str, list[tuple[str, int]]] = {}
    for limit in limits:
        counters.setdefault(limit.meter, []).append((limit.counter, limit.expires_ms))
    bucket = keys.bucket_of(entitlement.org_id)
    template = Template(
        next(_tids), entitlement.org_id, bucket, key_id, route.id, method, period_start // 1000,
        tuple((meter, units) for meter, units in costs.items() if units), {m: tuple(c) for m, c in counters.items()},
    )  # fmt: skip
    return Charge(
        template=template,
        bucket=bucket,
        org_id=entitlement.org_id,
        version=str(entitlement.version),
        from_ms=max((start for start, _ in bounds), default=period_start),
        until_ms=min([*(end for _, end in bounds), period_end, *([change] if change else []), *(end for end in covered if end)]),
        limits=limits,
        weighed=tuple((meter, cost) for meter, cost in route.charge.items() if not isinstance(cost, Fixed)),
        rule=strictest([limit.rule for limit in limits if limit.quota is not None]),
        route=route,
    )


def _limits(
    entitlement: Entitlement, route: Route, key_id: int, costs: dict[str, int], now_ms: int, bypasses: Bypasses
) -> tuple[Limit, ...]:
    """Every meter of the route counts in the organization's period; each quota counts in its own window and scope."""
    found: dict[str, Limit] = {}

    def put(meter: str, quota: Quota | None) -> None:
        window = quota.window if quota else Window.PERIOD
        per, routed = (quota.per, quota.routed) if quota else (Per.ORG, False)
        scope = keys.limit_scope(per, routed, route_id=route.id, key_id=key_id)
        start, end = window_at(window, entitlement.anchor_ms, now_ms)
        counter = keys.counter(entitlement.org_id, meter, scope, window, start)
        bypassed = bypasses.covers(entitlement.org_id, meter, now_ms) is not None
        enforced = quota.limit if quota and quota.mode is Mode.HARD and not bypassed else None
        rule = OPEN if bypassed else (quota.on_store_failure if quota else None) or route.on_store_failure
        new = Limit(counter, meter, costs.get(meter, 0), enforced, quota, start, end, rule)
        found[counter] = _tighter(found.get(counter), new)

    for meter in route.charge:
        put(meter, None)
    for quota in (*entitlement.quotas_at(now_ms), *route.quotas):
        if quota.meter in route.charge and quota.limit is not None:
            put(quota.meter, quota)
    return tuple(found.values())


def _tighter(old: Limit | None, new: Limit) -> Limit:
    """Two quotas on one counter charge it once; the lower limit decides, and the stricter failure rule."""
    if old is None or old.quota is None:
        return new
    kept = old if old.enforced is not None and (new.enforced is None or new.enforced >= old.enforced) else new
    return replace(kept, rule=strictest([old.rule, new.rule]))
