"""Plans and overrides: versions, who follows them, who manages what."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from billing.model.plan import PerUnit, PlanSpec, Rollout
from billing.services.orgs import NoSuchPlan
from billing.services.plans import ManagedElsewhere
from metering.model import entitlement, keys
from metering.model.errors import BadInput
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Then, Window
from tests.integration.billing.conftest import FREE, PRO, Desk, OverrideTerms

DAY = 86_400


async def allowed(desk: Desk, slug: str) -> entitlement.Entitlement:
    org_id = await desk.pool.fetchval("SELECT id::text FROM billing.organizations WHERE slug = $1", slug)
    return entitlement.from_json(json.loads(await desk.redis.get(keys.entitlement(org_id))))


def dearer(rollout: Rollout) -> PlanSpec:
    return replace(PRO, price={"usd": Decimal("59.00")}, quotas=(Quota(meter="api", limit=300_000, mode=Mode.OVERAGE),), rollout=rollout)


async def test_the_same_files_again_change_nothing(sold: Desk) -> None:
    applied = await sold.billing.plans.apply({"free": FREE, "pro": replace(PRO, quotas=PRO.quotas[::-1])}, {})
    assert applied.changes_nothing
    assert {row.spec.name: row.version for row in await sold.billing.plans.all()} == {"free": 1, "pro": 1}


async def test_a_change_now_moves_every_subscription_at_once(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    applied = await sold.billing.plans.apply({"free": FREE, "pro": dearer(Rollout.NOW)}, {})
    change = next(c for c in applied.plans if c.plan == "pro")
    assert (change.what, change.version, change.orgs_now, change.base_delta) == ("changed", 2, 1, Decimal("10"))
    entry = await allowed(sold, "acme")
    assert (entry.plan_version, entry.quotas[0].limit) == (2, 300_000)
    assert [kind for kind, _ in await sold.outbox()][3:] == ["ensure_plan", "ensure_subscription"]


async def test_a_change_at_renewal_moves_when_the_next_period_starts(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    applied = await sold.billing.plans.apply({"free": FREE, "pro": dearer(Rollout.RENEWAL)}, {})
    change = next(c for c in applied.plans if c.plan == "pro")
    assert (change.orgs_now, change.orgs_at_renewal) == (0, 1)
    sold.clock.advance(27 * DAY)
    assert await sold.billing.plans.renew_due() == 0
    assert (await allowed(sold, "acme")).plan_version == 1
    sold.clock.advance(1 * DAY)  # 28 February, 12:00
    assert await sold.billing.plans.renew_due() == 1
    assert (await allowed(sold, "acme")).plan_version == 2
    assert await sold.billing.plans.renew_due() == 0


async def test_a_change_for_new_ones_leaves_the_old_where_they_are(sold: Desk) -> None:
    await sold.billing.orgs.create("Old", plan="pro")
    await sold.billing.plans.apply({"free": FREE, "pro": dearer(Rollout.NEW)}, {})
    await sold.billing.orgs.create("New", plan="pro")
    sold.clock.advance(60 * DAY)
    assert await sold.billing.plans.renew_due() == 0
    assert [(await allowed(sold, slug)).plan_version for slug in ("old", "new")] == [1, 2]


async def test_a_dry_run_says_what_would_happen_and_does_nothing(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    before = await allowed(sold, "acme")
    overrides = {"acme": OverrideTerms((Quota(meter="api", limit=3, window=Window.HOUR),))}
    applied = await sold.billing.plans.apply({"free": FREE, "pro": dearer(Rollout.NOW)}, overrides, dry_run=True)
    assert (applied.orgs_affected, [c.what for c in applied.overrides]) == (1, ["set"])
    assert await allowed(sold, "acme") == before
    assert {row.version for row in await sold.billing.plans.all()} == {1}
    assert await sold.pool.fetchval("SELECT count(*) FROM billing.quotas") == 0


async def test_a_plan_that_left_the_files_is_sold_to_nobody_new(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    applied = await sold.billing.plans.apply({"free": FREE}, {})
    assert [(c.plan, c.what) for c in applied.plans] == [("free", "unchanged"), ("pro", "archived")]
    with pytest.raises(NoSuchPlan, match="not sold any more"):
        await sold.billing.orgs.create("Late", plan="pro")
    assert (await allowed(sold, "acme")).plan == "pro"
    applied = await sold.billing.plans.apply({"free": FREE, "pro": PRO}, {})
    assert [(c.plan, c.what) for c in applied.plans] == [("free", "unchanged"), ("pro", "returned")]


async def test_neither_side_undoes_the_other(sold: Desk) -> None:
    await sold.billing.plans.put(PlanSpec(name="special", price={"usd": Decimal("5")}))
    with pytest.raises(ManagedElsewhere, match=r"plans\.yaml"):
        await sold.billing.plans.put(dearer(Rollout.NOW))
    applied = await sold.billing.plans.apply(
        {"free": FREE, "pro": PRO, "special": PlanSpec(name="special", price={"usd": Decimal("6")})}, {}
    )
    assert [(c.plan, c.what) for c in applied.plans][-1] == ("special", "kept")
    assert not [c for c in (await sold.billing.plans.apply({"free": FREE, "pro": PRO}, {})).plans if c.plan == "special"]


async def test_a_priced_meter_that_nobody_counts_is_refused(sold: Desk) -> None:
    with pytest.raises(BadInput, match="names llamas"):
        await sold.billing.plans.apply({"free": replace(FREE, prices={"llamas": PerUnit(each=Decimal("1"))})}, {})


async def test_an_override_stands_in_for_the_plans_quota_until_it_ends(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    until_ms = sold.clock.now_ms() + DAY * 1000
    overrides = {"acme": OverrideTerms((Quota(meter="api", limit=50_000),), until_ms=until_ms)}
    await sold.billing.plans.apply({"free": FREE, "pro": PRO}, overrides)
    entry = await allowed(sold, "acme")
    assert [q.limit for q in entry.quotas_at(sold.clock.now_ms())] == [50_000]
    assert [q.limit for q in entry.quotas_at(until_ms)] == [10_000]
    await sold.billing.plans.apply({"free": FREE, "pro": PRO}, {})
    assert (await allowed(sold, "acme")).overrides == ()


async def test_an_override_by_api_is_stronger_than_the_files_and_survives_them(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    await sold.billing.overrides.put("acme", [Quota(meter="api", limit=7)], reason="a test", until_ms=None)
    await sold.billing.plans.apply({"free": FREE, "pro": PRO}, {"acme": OverrideTerms((Quota(meter="api", limit=9),))})
    assert [q.limit for q in (await allowed(sold, "acme")).quotas_at(0)] == [7]
    await sold.billing.overrides.reset("acme")
    assert [q.limit for q in (await allowed(sold, "acme")).quotas_at(0)] == [9]


LIMITED = PlanSpec(
    name="limited",
    price={"usd": Decimal("0")},
    quotas=(
        Quota(meter="api", limit=10, mode=Mode.THROTTLE, then=Then(limit=2, window=Window.DAY)),
        Quota(meter="bandwidth", limit=10**9, mode=Mode.OVERAGE, stop_at=10**12),
        Quota(meter="api", limit=5, window=Window.HOUR, shadow=True),
    ),
    prices={"bandwidth": PerUnit(each=Decimal("0.05"), per_unit_size=10**9)},
    rates=(Rate(meter="api", limit=5, per="second", burst=10), Rate(meter=None, limit=60, per="minute", by=Per.KEY, shadow=True)),
    concurrency=(Concurrency(limit=2, by=Per.KEY),),
)


async def test_every_kind_of_limit_is_stored_with_the_plan_and_told_to_the_gateways(desk: Desk) -> None:
    await desk.billing.plans.apply({"limited": LIMITED}, {})
    assert (await desk.billing.plans.apply({"limited": LIMITED}, {})).changes_nothing
    await desk.billing.orgs.create("Acme", plan="limited")
    entry = await allowed(desk, "acme")
    assert (set(entry.quotas), set(entry.rates), entry.concurrency) == (set(LIMITED.quotas), set(LIMITED.rates), LIMITED.concurrency)


async def test_an_edited_rate_makes_a_version_and_reaches_the_gateways_at_once(desk: Desk) -> None:
    await desk.billing.plans.apply({"limited": LIMITED}, {})
    await desk.billing.orgs.create("Acme", plan="limited")
    before = await allowed(desk, "acme")
    faster = replace(LIMITED, rates=(Rate(meter="api", limit=50, per="second"),), concurrency=(), rollout=Rollout.NOW)
    (change,) = (await desk.billing.plans.apply({"limited": faster}, {})).plans
    entry = await allowed(desk, "acme")
    assert (change.version, entry.plan_version, entry.rates, entry.concurrency) == (2, 2, faster.rates, ())
    assert entry.version > before.version


async def test_an_override_carries_every_kind_of_limit_and_the_api_stands_above_the_files(desk: Desk) -> None:
    await desk.billing.plans.apply({"limited": LIMITED}, {})
    await desk.billing.orgs.create("Acme", plan="limited")
    terms = OverrideTerms(
        quotas=(Quota(meter="api", limit=20, mode=Mode.THROTTLE, then=Then(limit=9, window=Window.DAY)),),
        rates=(Rate(meter="api", limit=50, per="second"),), concurrency=(Concurrency(limit=20, by=Per.KEY),),
    )  # fmt: skip
    for what in (["set"], []):
        applied = await desk.billing.plans.apply({"limited": LIMITED}, {"acme": terms})
        assert [c.what for c in applied.overrides] == what
    entry = await allowed(desk, "acme")
    assert [(r.limit, r.source) for r in entry.rates_at(0) if r.per == "second"] == [(50, "override")]
    assert [(q.limit, q.then) for q in entry.quotas_at(0) if q.mode is Mode.THROTTLE] == [(20, Then(limit=9, window=Window.DAY))]
    await desk.billing.overrides.put("acme", concurrency=[Concurrency(limit=99, by=Per.KEY)], reason="a test", until_ms=None)
    assert [c.limit for c in (await allowed(desk, "acme")).concurrency_at(0)] == [99]
    await desk.billing.overrides.reset("acme")
    assert [c.limit for c in (await allowed(desk, "acme")).concurrency_at(0)] == [20]
    shown = (await desk.billing.orgs.show("acme")).overrides
    assert len(shown) == 3
    await desk.billing.plans.apply({"limited": LIMITED}, {})
    assert (await allowed(desk, "acme")).overrides == ()


async def test_a_plan_stored_before_there_were_rates_has_none(desk: Desk) -> None:
    await desk.billing.plans.apply({"free": FREE}, {})
    await desk.pool.execute("UPDATE billing.plan_versions SET spec = spec - 'rates' - 'concurrency'")
    assert (await desk.billing.plans.apply({"free": FREE}, {})).changes_nothing


async def test_an_override_for_nobody_is_named_and_the_rest_is_applied(sold: Desk) -> None:
    applied = await sold.billing.plans.apply({"free": FREE}, {"ghost": OverrideTerms((Quota(meter="api", limit=9),))})
    assert applied.unknown_orgs == ("ghost",)


async def test_a_changed_override_reaches_only_its_organization(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    await sold.billing.orgs.create("Other", plan="free")
    other = await allowed(sold, "other")
    plans = {"free": FREE, "pro": PRO}
    for limit, what in ((9, "set"), (10, "changed")):
        applied = await sold.billing.plans.apply(plans, {"acme": OverrideTerms((Quota(meter="api", limit=limit),))})
        assert [(c.slug, c.what) for c in applied.overrides] == [("acme", what)]
    applied = await sold.billing.plans.apply(plans, {"acme": OverrideTerms((Quota(meter="api", limit=10),))})
    assert applied.changes_nothing
    assert await allowed(sold, "other") == other


async def test_an_overage_quota_without_a_price_only_warns(desk: Desk) -> None:
    spec = PlanSpec(name="odd", price={"usd": Decimal("9")}, quotas=(Quota(meter="api", limit=5, mode=Mode.OVERAGE),))
    await desk.billing.plans.apply({"odd": spec}, {})
    await desk.billing.orgs.create("Acme", plan="odd")
    assert (await allowed(desk, "acme")).quotas[0].mode is Mode.SOFT
