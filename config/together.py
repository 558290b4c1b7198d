"""What the files say of each other that nobody can have meant. Worth a look, and no fault."""

from collections.abc import Iterator

from metering.model.quota import Rate

from . import plans_file
from .faults import Fault
from .gateway import Fixed, GatewayConfig
from .plans import PlanSet


def worth_a_look(gateway: GatewayConfig, plans: PlanSet) -> list[Fault]:
    """Rates of plans and overrides that no call moves, or that some call never gets past."""
    owners = [(f"plans.{name}", plan.rates) for name, plan in plans.plans.items()]
    owners += [(f"overrides.{slug}", override.rates) for slug, override in plans.overrides.items()]
    return sorted(
        {Fault(plans_file.FILE, 0, f"{whose}.rates", text) for whose, rates in owners for rate in rates for text in _of(rate, gateway)}
    )


def _of(rate: Rate, gateway: GatewayConfig) -> Iterator[str]:
    if rate.meter is None:
        return
    costs = {route.path: route.charge[rate.meter] for route in gateway.routes if rate.meter in route.charge}
    fixed = {path: cost.units for path, cost in costs.items() if isinstance(cost, Fixed)}
    if not fixed:
        yield f"no route charges a number of `{rate.meter}`, so the rate {rate.name} never moves"
    for path, units in fixed.items():
        if units > rate.depth and not rate.shadow:
            most = f"{rate.name} lets at most {rate.depth:,} pass at once"
            yield f"a call of {path} weighs {units:,}, and {most}: none ever would; raise its burst"
