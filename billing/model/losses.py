"""What an organization would no longer have on another plan: quotas that shrink, features that go. Pure.

The final warning and the mail of a downgrade list it, and whoever shows a downgrade beforehand can.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.model.plan import PlanSpec
from metering.model.meter import Meter
from metering.model.quota import Per, Quota, Window


def losses(bought: PlanSpec, fallen: PlanSpec, meters: Mapping[str, Meter]) -> dict[str, Any]:
    """As facts of a mail: `quotas`, each with title, unit, the limit before and after (None: unlimited), and labels of `features`.

    Only what becomes less; quotas of whole organizations, in the unit that people read.
    """
    before, after = _quotas(bought), _quotas(fallen)
    quotas = []
    for key, quota in before.items():
        new = after.get(key)
        limit = None if new is None else new.limit
        if limit is None or (quota.limit is not None and quota.limit <= limit):
            continue
        meter = meters.get(quota.meter) or Meter(name=quota.meter, unit=quota.meter)
        quotas.append(
            {
                "title": meter.title or meter.name, "unit": meter.show or "", "window": quota.window.value,
                "before": _shown(quota.limit, meter), "after": _shown(limit, meter),
            }
        )  # fmt: skip
    kept = {feature.key: feature for feature in fallen.features}
    gone = [feature.label for feature in bought.features if feature.key not in kept]
    return {"quotas": quotas, "features": gone}


def _quotas(spec: PlanSpec) -> dict[tuple[str, Window], Quota]:
    return {(q.meter, q.window): q for q in spec.quotas if q.per is Per.ORG and not q.routed}


def _shown(limit: int | None, meter: Meter) -> str | None:
    return None if limit is None else format((Decimal(limit) / meter.show_size).normalize(), "f")
