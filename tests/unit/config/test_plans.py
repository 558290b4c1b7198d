"""plans.yaml, resolved; and the plans that are shipped, which are those of the guide."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest

import config
from billing.model.cycle import said
from billing.model.plan import Interval, PerUnit, PlanSpec, Rollout
from config.load import Configuration, contradictions, load_good, read_set
from config.plans import PlanSet
from metering.model.quota import Mode, Quota, Window

from .samples import PLANS, files, plan_with

SHIPPED = Path(config.__file__).parent
GB, CPU_HOUR = 10**9, 3_600_000


def plans_of(text: str) -> PlanSet:
    return load_good(files(plans=text)).plans


def plan_of(words: str) -> PlanSpec:
    return plans_of(plan_with(words)).plans["pro"]


@pytest.fixture(scope="module")
def shipped() -> Configuration:
    return load_good(read_set(SHIPPED))


@pytest.mark.parametrize(
    ("name", "price", "limits"),
    [
        ("free", {"usd": Decimal("0")}, (10_000, 1 * GB, 5 * GB, 10 * CPU_HOUR, 100_000, 10_000)),
        ("starter", {"usd": Decimal("19.00")}, (50_000, 10 * GB, 25 * GB, 50 * CPU_HOUR, 500_000, 50_000)),
        ("pro", {"usd": Decimal("49.00")}, (200_000, 50 * GB, 100 * GB, 200 * CPU_HOUR, 2_000_000, 200_000)),
        ("enterprise", {}, (None,) * 6),
    ],
)
def test_the_shipped_plans_have_the_guides_prices_and_quotas(
    shipped: Configuration, name: str, price: dict[str, Decimal], limits: tuple[int | None, ...]
) -> None:
    plan = shipped.plans.plans[name]
    meters = ("api", "storage", "bandwidth", "compute", "database", "functions")
    assert (plan.price, {q.meter: q.limit for q in plan.quotas}) == (price, dict(zip(meters, limits, strict=True)))
    assert {q.window for q in plan.quotas} == {Window.PERIOD}


@pytest.mark.parametrize(
    ("name", "prices"),
    [("free", {}), ("starter", {"api": "0.0005", "storage": "0.12", "bandwidth": "0.08"}),
     ("pro", {"api": "0.0003", "storage": "0.10", "bandwidth": "0.05"}), ("enterprise", {})],
)  # fmt: skip
def test_the_shipped_plans_have_the_guides_overage_prices(shipped: Configuration, name: str, prices: dict[str, str]) -> None:
    sizes = {"api": 1, "storage": GB, "bandwidth": GB}
    plan = shipped.plans.plans[name]
    assert plan.prices == {meter: PerUnit(each=Decimal(each), per_unit_size=sizes[meter]) for meter, each in prices.items()}
    assert {q.meter for q in plan.quotas if q.mode is Mode.OVERAGE} == set(prices)


def test_the_free_plan_blocks_and_a_paid_plans_unpriced_meters_are_soft(shipped: Configuration) -> None:
    assert {q.mode for q in shipped.plans.plans["free"].quotas} == {Mode.HARD}
    assert {q.meter for q in shipped.plans.plans["pro"].quotas if q.mode is Mode.SOFT} == {"compute", "database", "functions"}


def test_the_shipped_features_are_the_guides(shipped: Configuration) -> None:
    plans = shipped.plans.plans
    assert [f.label for f in plans["free"].features] == ["Community support", "Basic monitoring", "1 organization", "5 team members"]
    assert [f.label for f in plans["starter"].features] == [
        "Email support (24h response)", "Advanced monitoring", "3 organizations", "15 team members", "Custom domains",
    ]  # fmt: skip
    assert [f.label for f in plans["pro"].features] == [
        "Priority support (4h response)", "Full monitoring & alerts", "10 organizations", "50 team members", "Custom domains", "SSO (SAML)",
        "SLA: 99.9% uptime",
    ]  # fmt: skip
    assert [f.label for f in plans["enterprise"].features] == [
        "Dedicated support (1h response)", "Custom monitoring & dashboards", "Unlimited organizations", "Unlimited team members",
        "Custom domains", "SSO (SAML, OIDC)", "SLA: 99.99% uptime", "Custom integrations", "On-premise deployment",
        "Dedicated infrastructure",
    ]  # fmt: skip
    assert {f.key: f.number for f in plans["pro"].features if f.number} == {"organizations": 10, "team_members": 50}


def test_the_shipped_files_have_neither_faults_nor_warnings_and_fit_the_default_settings(shipped: Configuration) -> None:
    from config.load import parse

    found = parse(read_set(SHIPPED))
    assert (found.faults, found.warnings) == ([], [])
    assert contradictions(shipped, default_plan="free", currency="usd") == []


def test_the_shipped_gateway_proxies_everything_and_opens_health(shipped: Configuration) -> None:
    gateway = shipped.gateway
    assert (gateway.default_upstream, gateway.upstreams["app"].targets) == ("app", ("http://127.0.0.1:9000",))
    assert {r.path: r.auth for r in gateway.routes} == {"/health": "none", "/*": "required"}


COPIED = """
plans:
  hobby:
    copy_from: free
    quotas: [{meter: api, limit: 20_000, mode: soft}, {meter: api, limit: 100, window: hour}]
    features: [sso]
  free:
    price: {usd: "5.00", eur: "4.00"}
    interval: year
    trial_days: 7
    rollout: now
    discount_label: "17% off"
    quotas: [{meter: api, limit: 10_000, mode: overage}, {meter: bandwidth, limit: 5 GB, mode: overage}]
    prices: {api: {each: "0.002"}, bandwidth: {each: "0.08"}}
    features: [custom_domains]
  club:
    copy_from: hobby
    price: {usd: "9.00"}
    prices: {bandwidth: {each: "0.05"}}
"""


def test_a_copy_replaces_quotas_on_the_same_meter_and_window_and_keeps_the_rest() -> None:
    plan = plans_of(COPIED).plans["hobby"]
    assert {(q.meter, q.window): (q.limit, q.mode) for q in plan.quotas} == {
        ("bandwidth", Window.PERIOD): (5 * GB, Mode.OVERAGE),
        ("api", Window.PERIOD): (20_000, Mode.SOFT),
        ("api", Window.HOUR): (100, Mode.HARD),
    }  # fmt: skip
    assert [f.key for f in plan.features] == ["sso"]
    assert (plan.price, plan.interval, plan.trial_days, plan.rollout) == (
        {"usd": Decimal("5.00"), "eur": Decimal("4.00")}, Interval.YEAR, 7, Rollout.NOW,
    )  # fmt: skip
    assert (plan.title, plan.discount_label, plan.copy_from) == ("Hobby", None, "free")


def test_a_copy_of_a_copy_sees_both_and_replaces_prices_by_meter() -> None:
    plan = plans_of(COPIED).plans["club"]
    assert {meter: price.to_json()["each"] for meter, price in plan.prices.items()} == {"api": "0.002", "bandwidth": "0.05"}
    assert (plan.price, len(plan.quotas), [f.key for f in plan.features]) == ({"usd": Decimal("9.00")}, 3, ["sso"])


@pytest.mark.parametrize(
    ("meter", "limit", "units"),
    [("api", "10_000", 10_000), ("bandwidth", "5 GB", 5 * GB), ("bandwidth", "1.5 GB", 1_500_000_000), ("bandwidth", "2GiB", 2**31),
     ("bandwidth", "500", 500), ("api", "5 requests", 5), ("api", "0", 0), ("api", "unlimited", None),
     ("bandwidth", '"10_000 MB"', 10 * GB)],
)  # fmt: skip
def test_a_limit_is_written_as_people_write_it(meter: str, limit: str, units: int | None) -> None:
    assert plan_of(f"quotas: [{{meter: {meter}, limit: {limit}}}]").quotas == (Quota(meter=meter, limit=units),)


def test_a_price_buys_one_unit_as_the_meter_is_shown() -> None:
    assert plan_of("prices: {bandwidth: {each: '0.05'}}").prices["bandwidth"].amount(20 * GB) == Decimal(1)


def test_contact_sales_is_a_plan_without_a_price() -> None:
    assert plans_of("plans:\n  big: {price: contact sales}\n").plans["big"].price == {}


def test_a_feature_is_a_key_with_a_label_and_a_number() -> None:
    features = plan_of(
        "features: [custom_domains, {key: seats, number: 1000}, {key: teams, number: unlimited}, {key: sla, label: 99%}]"
    ).features
    assert [(f.label, f.number) for f in features] == [
        ("Custom domains", None),
        ("1,000 seats", 1000),
        ("Unlimited teams", None),
        ("99%", None),
    ]


def test_an_override_has_its_reason_and_its_end() -> None:
    text = PLANS + 'overrides:\n  acme: {reason: launch, until: "2027-01-01T01:00:00+01:00", quotas: [{meter: api, limit: 5}]}\n'
    override = plans_of(text).overrides["acme"]
    assert (override.reason, override.until_ms) == ("launch", int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000))
    assert override.quotas == (Quota(meter="api", limit=5, source="override"),)


def test_settings_that_name_what_the_files_lack_are_told() -> None:
    found = contradictions(load_good(files()), default_plan="fre", currency="eur")
    assert [f.path for f in found] == ["plans", "plans.free.price", "plans.pro.price"]
    assert "did you mean `free`?" in found[0].message


def test_a_price_may_be_due_every_so_many_weeks_or_months() -> None:
    plans = """
        plans:
          fortnight: {price: {usd: "10"}, interval: week, interval_count: 2}
          quarter: {copy_from: fortnight, interval: month, interval_count: 3}
          like: {copy_from: quarter}
          year: {copy_from: quarter, interval: year}
    """
    found = plans_of(dedent(plans)).plans
    assert {name: said(spec.interval, spec.interval_count) for name, spec in found.items()} == {
        "fortnight": "2 weeks", "quarter": "3 months", "like": "3 months", "year": "year",
    }  # fmt: skip
