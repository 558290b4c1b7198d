"""What a smaller plan takes away."""

from billing.model.losses import losses
from billing.model.plan import Feature, PlanSpec
from metering.model.meter import Meter
from metering.model.quota import Quota, Window

METERS = {
    "api": Meter(name="api", unit="request", title="API Requests"),
    "storage": Meter(name="storage", unit="byte", title="Storage", show="GB", show_size=10**9),
}
PRO = PlanSpec(
    name="pro",
    quotas=(
        Quota(meter="api", limit=200_000),
        Quota(meter="storage", limit=50 * 10**9),
        Quota(meter="api", limit=None, window=Window.HOUR),
    ),
    features=(Feature(key="sso", label="Single sign-on"), Feature(key="domains", label="Custom domains", number=3)),
)
FREE = PlanSpec(
    name="free",
    quotas=(Quota(meter="api", limit=10_000), Quota(meter="storage", limit=50 * 10**9), Quota(meter="api", limit=100, window=Window.HOUR)),
    features=(Feature(key="domains", label="Custom domains", number=1),),
)


def test_what_becomes_less_is_named_in_the_units_people_read() -> None:
    assert losses(PRO, FREE, METERS) == {
        "quotas": [
            {"title": "API Requests", "unit": "", "window": "period", "before": "200000", "after": "10000"},
            {"title": "API Requests", "unit": "", "window": "hour", "before": None, "after": "100"},
        ],
        "features": ["Single sign-on"],
    }


def test_a_larger_plan_takes_nothing() -> None:
    assert losses(FREE, PRO, METERS) == {"quotas": [], "features": []}


def test_bytes_are_told_in_gigabytes() -> None:
    small = PlanSpec(name="free", quotas=(Quota(meter="storage", limit=15 * 10**8),))
    [row] = losses(PRO, small, METERS)["quotas"]
    assert (row["before"], row["after"]) == ("50", "1.5")
