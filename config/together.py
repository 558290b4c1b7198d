"""What the files say of each other that nobody can have meant. Worth a look, and no fault."""

from collections.abc import Iterator

from billing.model.plan import PlanSpec
from metering.model.quota import Mode, Per, Quota, Rate

from . import plans_file
from .faults import Fault
from .gateway import Fixed, GatewayConfig, Settled, drawn
from .plans import OverrideSpec, PlanSet

_NO_TENANTS = "a limit by tenant, and no call says for whom it is: all are one tenant; write tenant: {header: …} in gateway.yaml"


def worth_a_look(gateway: GatewayConfig, plans: PlanSet) -> list[Fault]:
    """Limits of plans and overrides that no call moves, that some call, or its reserve, never gets past, or that tell nobody apart."""
    owners: list[tuple[str, PlanSpec | OverrideSpec]] = [(f"plans.{name}", plan) for name, plan in plans.plans.items()]
    owners += [(f"overrides.{slug}", override) for slug, override in plans.overrides.items()]
    found = {Fault(plans_file.FILE, 0, f"{whose}.rates", text) for whose, of in owners for rate in of.rates for text in _of(rate, gateway)}
    found |= {Fault(plans_file.FILE, 0, f"{whose}.quotas", text) for whose, of in owners for q in of.quotas for text in _beyond(q, gateway)}
    if not any(route.by_tenant for route in gateway.routes):
        found |= {Fault(plans_file.FILE, 0, whose, _NO_TENANTS) for whose, of in owners if _by_tenant(of)}
    return sorted(found)


def _by_tenant(of: PlanSpec | OverrideSpec) -> bool:
    return Per.TENANT in {*(q.per for q in of.quotas), *(r.by for r in of.rates), *(c.by for c in of.concurrency)}


def _beyond(quota: Quota, gateway: GatewayConfig) -> Iterator[str]:
    bound = quota.limit if quota.mode is Mode.HARD else quota.stop_at
    for route in gateway.routes:
        cost = route.charge.get(quota.meter)
        if isinstance(cost, Settled) and bound is not None and cost.reserve > bound and not quota.shadow:
            yield f"a call of {route.path} reserves {cost.reserve:,}, and {quota.name} has {bound:,}: none ever passes; lower its reserve"


def _of(rate: Rate, gateway: GatewayConfig) -> Iterator[str]:
    if rate.meter is None:
        return
    costs = {route.path: route.charge[rate.meter] for route in gateway.routes if rate.meter in route.charge}
    fixed = {path: drawn(cost) for path, cost in costs.items() if drawn(cost) or isinstance(cost, Fixed)}
    if not fixed:
        yield f"no route charges a number of `{rate.meter}`, so the rate {rate.name} never moves"
    for path, units in fixed.items():
        if units > rate.depth and not rate.shadow:
            most = f"{rate.name} lets at most {rate.depth:,} pass at once"
            yield f"a call of {path} weighs {units:,}, and {most}: none ever would; raise its burst"
