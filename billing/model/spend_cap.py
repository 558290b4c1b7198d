"""When spending beyond the base price reaches its cap: overage ends for the rest of the period.

Pure. The cap is checked each flush (billing/services/spend_caps.py), so what is used between two flushes can go beyond it; the stop it
sets is exact. It ends use and changes no price: the quota stays one of overage, with the same units included, and gets a `stop_at`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.model.pricing import Price
from billing.model.rating import estimate, included_units
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Per, Quota, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What stands for one organization, in major units of its currency. `lifted`: the operator took the plan's away."""

    plan: Decimal | None = None
    operator: Decimal | None = None
    lifted: bool = False
    customer: Decimal | None = None

    @property
    def offered(self) -> Decimal | None:
        """What the operator allows: its own word in place of the plan's."""
        return None if self.lifted else self.plan if self.operator is None else self.operator

    @property
    def effective(self) -> Decimal | None:
        """The lower of what the operator allows and what the customer wants; None: no end."""
        return min((cap for cap in (self.offered, self.customer) if cap is not None), default=None)


def spent(
    prices: Mapping[str, Price], quotas: Iterable[Quota], used: Mapping[str, int], meters: Mapping[str, Meter], currency: str
) -> Decimal:
    """What the period's use costs by now beyond the base price, of the meters that add up. Raises NoPriceInCurrency."""
    counted = {name: meter for name, meter in meters.items() if meter.kind is Kind.COUNT}
    return estimate(None, prices, quotas, used, counted, currency).overage


def stops(prices: Mapping[str, Price], quotas: Iterable[Quota], used: Mapping[str, int]) -> tuple[Quota, ...]:
    """The quotas of a period in which the cap is reached: what is included may still be used, and nothing beyond it and what was."""
    in_force = list(quotas)
    standing = {q.meter: q for q in in_force if q.window is Window.PERIOD and q.per is Per.ORG and not q.routed}
    found = []
    for meter, included in sorted(included_units(in_force, prices).items()):
        quota = standing.get(meter)
        end = max(included, used.get(meter, 0))
        before = quota.stop_at if quota is not None else None
        found.append(
            Quota(
                meter=meter, limit=included, mode=Mode.OVERAGE, stop_at=end if before is None else min(before, end), source="override",
                on_store_failure=quota.on_store_failure if quota else None, at_limit=quota.at_limit if quota else "finish",
            )
        )  # fmt: skip
    return tuple(found)


def still_stand(now: Iterable[Quota], before: Iterable[Quota]) -> bool:
    """Whether the stops set `before` say what is wanted `now`: the same meters and included units. Where use went on between two
    checks, the earlier stop holds."""
    stopped = {q.meter: q for q in before}
    wanted = {q.meter: q for q in now}
    return stopped.keys() == wanted.keys() and all(
        stopped[m].limit == q.limit and (stopped[m].stop_at or 0) <= (q.stop_at or 0) for m, q in wanted.items()
    )
