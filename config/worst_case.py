"""What may pass beyond a limit while the store is away: the failure rules, added up. Pure; for `config check`."""

from dataclasses import dataclass

from metering.model.quota import FailureRule, Mode, Per, Quota, Window, strictest

from .gateway import GatewayConfig, Route
from .load import Configuration

_HOURS = {Window.HOUR: 1, Window.DAY: 24, Window.PERIOD: 31 * 24, Window.MONTH: 31 * 24}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """One quota that blocks, on one route. `calls` is the most that passes in one of its windows before 503, None without an end.

    `whose` is a plan's name, an override's slug, or empty for a route's own quota.
    """

    whose: str
    route: str
    quota: Quota
    rule: FailureRule
    calls: int | None

    def __str__(self) -> str:
        who = f"{self.whose}, " if self.whose else ""
        passes = (
            "every call passes" if self.calls is None else f"at most {self.calls:,} calls a window pass" if self.calls else "no call passes"
        )
        return f"{who}{self.route}, {self.quota.name}: {passes} while the store is away"


def worst_cases(config: Configuration, workers: int) -> list[WorstCase]:
    """For every plan, override and route: what its quotas that block let pass while the store is away.

    Quota > route > defaults says each quota's rule; of all quotas that a call meets, the strictest rule decides.
    """
    owners = {
        "": (),
        **{f"plan {name}": plan.quotas for name, plan in config.plans.plans.items()},
        **{f"override {slug}": override.quotas for slug, override in config.plans.overrides.items()},
    }
    found: list[WorstCase] = []
    for route in config.gateway.routes:
        for whose, quotas in owners.items():
            found += _of_call(whose, route, quotas, workers)
    return found


def _of_call(whose: str, route: Route, quotas: tuple[Quota, ...], workers: int) -> list[WorstCase]:
    met = [q for q in (*quotas, *route.quotas) if q.meter in route.charge and q.limit is not None and not q.shadow]
    rules = {quota: quota.on_store_failure or route.on_store_failure for quota in met}
    decides = strictest(list(rules.values()))
    own = quotas if whose else route.quotas
    return [
        WorstCase(whose=whose, route=route.path, quota=quota, rule=rules[quota], calls=_most(quota, decides, rules, workers))
        for quota in met
        if quota in own and (quota.mode in (Mode.HARD, Mode.THROTTLE) or quota.stop_at is not None)
    ]


def _most(quota: Quota, decides: FailureRule, rules: dict[Quota, FailureRule], workers: int) -> int | None:
    """The calls that pass in one window of the quota: every grace that such a call meets bounds them.

    Each worker has its share of a grace, rounded down; the grace of a shorter window begins anew with each.
    """
    if decides.kind == "closed":
        return 0
    bounds = [
        rule.grace // workers * workers * _windows(other.window, quota.window)
        for other, rule in rules.items()
        if rule.kind == "grace" and _bounds(other, quota)
    ]
    return min(bounds, default=None)


def _bounds(other: Quota, quota: Quota) -> bool:
    """True where whatever moves `quota` moves one counter of `other`: it adds up the same use, or more."""
    return other.per in (Per.ORG, quota.per) and (not other.routed or quota.routed)


def _windows(shorter: Window, longer: Window) -> int:
    """How many windows of one kind lie, at most, in one of the other; 1 where it is the longer."""
    return max(1, -(-_HOURS[longer] // _HOURS[shorter]))


def idle_graces(config: GatewayConfig, workers: int) -> list[str]:
    """Sentences about graces so small that no worker has a share: they refuse every call."""
    graces = {
        rule.grace
        for route in config.routes
        for rule in (route.on_store_failure, *(quota.on_store_failure for quota in route.quotas))
        if rule is not None and rule.kind == "grace" and rule.grace < workers
    }
    return [f"grace {grace} over {workers} workers leaves none for each: it refuses every call, as closed does" for grace in sorted(graces)]


def summary(config: Configuration, workers: int) -> list[str]:
    """The lines that `config check` prints: for each owner of quotas, the loosest of its routes."""
    worst: dict[tuple[str, str, Per], WorstCase] = {}
    for case in worst_cases(config, workers):
        slot = (case.whose, case.quota.name, case.quota.per)
        known = worst.get(slot)
        if known is None or (known.calls is not None and (case.calls is None or case.calls > known.calls)):
            worst[slot] = case
    return [*(str(case) for case in worst.values()), *idle_graces(config.gateway, workers)]
