"""What a call is charged against: one counter a meter, scope and window, the tighter limit, the nearest boundary."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from config.gateway import Cost, Fixed, FromHeader, Route, Weighed
from gateway.charges import Charge, make_charge
from gateway.directory import Caller, Org
from gateway.handler import Handler
from metering.model import keys
from metering.model.apikey import KeyRecord
from metering.model.clock import FrozenClock, to_ms
from metering.model.entitlement import Entitlement, Override
from metering.model.quota import CLOSED, OPEN, FailureRule, Mode, Per, Quota, Window

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"
GRACE = FailureRule("grace", 10)


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


NOW = ms("2026-03-10T12:34:56.789")
PERIOD = (ms("2026-02-28"), ms("2026-03-31"))  # of the anchor below
ANCHOR = ms("2026-01-31")


def charge(
    *quotas: Quota, route_quotas: tuple[Quota, ...] = (), overrides: tuple[Override, ...] = (), rule: FailureRule = OPEN, **costs: Cost
) -> Charge:
    entitlement = Entitlement(
        org_id=ORG, slug="acme", name="Acme", version=12, plan="free", plan_version=1, anchor_ms=ANCHOR, quotas=quotas, overrides=overrides
    )
    route = Route(id=5, path="/*", upstream="app", charge=costs or {"api": Fixed(1)}, quotas=route_quotas, on_store_failure=rule)
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=9, org_id=""), NOW)


def api(limit: int | None, window: Window = Window.PERIOD, mode: Mode = Mode.HARD, **facts: object) -> Quota:
    return replace(Quota(meter="api", limit=limit, window=window, mode=mode), **facts)  # type: ignore[arg-type]


def scopes(of: Charge) -> list[str]:
    """`<meter>:<scope>:<window letter>` of each counter, in order."""
    parts = [limit.counter.split(":")[4:] for limit in of.limits]
    return [f"{meter}:{scope}:{window[0]}" for meter, scope, window in parts]


def test_without_quotas_each_meter_counts_in_the_organizations_period() -> None:
    of = charge(api=Fixed(2), bandwidth=Weighed("bytes"))
    assert scopes(of) == ["api:o:p", "bandwidth:o:p"]
    assert [(limit.cost, limit.enforced, limit.quota) for limit in of.limits] == [(2, None, None), (0, None, None)]
    assert (of.from_ms, of.until_ms) == PERIOD


@pytest.mark.parametrize(
    ("quota", "scope"),
    [
        (api(9), ["api:o:p"]),
        (api(9, Window.DAY), ["api:o:p", "api:o:d"]),
        (api(9, Window.MONTH, per=Per.KEY), ["api:o:p", "api:k9:m"]),
        (api(9, Window.HOUR, per=Per.ROUTE), ["api:o:p", "api:r5:h"]),
        (api(9, Window.HOUR, per=Per.KEY, routed=True), ["api:o:p", "api:r5.k9:h"]),
        (api(None, Window.DAY), ["api:o:p"]),  # unlimited is not counted apart
        (Quota(meter="bandwidth", limit=9), ["api:o:p"]),  # a meter that this route does not charge
    ],
)
def test_a_quota_counts_in_its_own_window_and_scope(quota: Quota, scope: list[str]) -> None:
    assert scopes(charge(quota)) == scope


@pytest.mark.parametrize(
    ("quotas", "enforced"),
    [
        ((api(9),), 9), ((api(9, mode=Mode.SOFT),), None), ((api(9, mode=Mode.OVERAGE),), None),
        ((api(9, per=Per.ROUTE), api(5, routed=True)), 5), ((api(5, per=Per.ROUTE), api(9, routed=True)), 5),
        ((api(5, per=Per.ROUTE, mode=Mode.SOFT), api(9, routed=True)), 9),
        ((api(9, per=Per.ROUTE), api(5, routed=True, mode=Mode.SOFT)), 9),
    ],
)  # fmt: skip
def test_of_two_quotas_on_one_counter_the_tighter_hard_one_decides_and_the_counter_is_charged_once(
    quotas: tuple[Quota, ...], enforced: int | None
) -> None:
    last = charge(*quotas).limits[-1]
    assert (last.enforced, last.cost) == (enforced, 1)
    assert len({limit.counter for limit in charge(*quotas).limits}) == len(charge(*quotas).limits)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_quotas_on_one_counter_the_stricter_failure_rule_holds(order: int) -> None:
    both = (api(5, per=Per.ROUTE, on_store_failure=OPEN), api(9, routed=True, on_store_failure=CLOSED))[::order]
    assert charge(*both).rule == CLOSED


@pytest.mark.parametrize(
    ("quotas", "route_rule", "rule"),
    [
        ((api(9),), CLOSED, CLOSED), ((api(9),), GRACE, GRACE), ((api(9, on_store_failure=OPEN),), CLOSED, OPEN),
        ((api(9, on_store_failure=OPEN), api(5, Window.DAY, on_store_failure=GRACE)), OPEN, GRACE),
        ((api(9, on_store_failure=GRACE), api(5, Window.DAY)), CLOSED, CLOSED),
        ((api(None, on_store_failure=CLOSED),), OPEN, OPEN),
    ],
)  # fmt: skip
def test_a_quotas_own_failure_rule_goes_before_the_routes_and_the_strictest_of_all_wins(
    quotas: tuple[Quota, ...], route_rule: FailureRule, rule: FailureRule
) -> None:
    assert charge(*quotas, rule=route_rule).rule == rule


def test_a_route_quota_counts_that_route_alone() -> None:
    assert scopes(charge(route_quotas=(api(3, Window.HOUR, routed=True, source="route"),))) == ["api:o:p", "api:r5:h"]


@pytest.mark.parametrize(
    ("quotas", "bounds"),
    [
        ((), PERIOD),
        ((api(9, Window.MONTH),), (ms("2026-03-01"), PERIOD[1])),
        ((api(9, Window.DAY),), (ms("2026-03-10"), ms("2026-03-11"))),
        ((api(9, Window.DAY), api(9, Window.HOUR)), (ms("2026-03-10T12:00"), ms("2026-03-10T13:00"))),
    ],
)
def test_a_charge_holds_from_the_last_boundary_of_its_windows_to_the_next(quotas: tuple[Quota, ...], bounds: tuple[int, int]) -> None:
    of = charge(*quotas)
    assert (of.from_ms, of.until_ms) == bounds
    assert [of.holds(at) for at in (bounds[0] - 1, bounds[0], bounds[1] - 1, bounds[1])] == [False, True, True, False]


def test_a_charge_holds_no_longer_than_the_override_it_was_made_under() -> None:
    of = charge(api(9), overrides=(Override(quotas=(api(50),), until_ms=NOW + 1_000),))
    assert (of.limits[0].enforced, of.until_ms) == (50, NOW + 1_000)


def test_a_counter_outlives_its_window() -> None:
    limit = charge(api(9, Window.DAY)).limits[1]
    assert limit.expires_ms == ms("2026-03-11") + keys.COUNTER_LINGERS_MS


def test_the_template_holds_what_the_journal_must_know() -> None:
    of = charge(api(9, Window.DAY), api=Fixed(2), free=Fixed(0), bandwidth=Weighed("bytes"), pages=FromHeader("X-Pages"))
    t = of.template
    assert (t.org_id, t.bucket, t.key_id, t.route_id, t.method) == (ORG, keys.bucket_of(ORG), 9, 5, "GET")
    assert t.period_start == PERIOD[0] // 1000
    assert t.costs == (("api", 2),)
    assert {meter: [key for key, _ in counters] for meter, counters in t.counters.items()} == {
        meter: [limit.counter for limit in of.limits if limit.meter == meter] for meter in ("api", "free", "bandwidth", "pages")
    }
    assert of.weighed == (("bandwidth", Weighed("bytes")), ("pages", FromHeader("X-Pages")))


def test_every_charge_has_a_ticket_of_its_own() -> None:
    assert charge().template.tid != charge().template.tid


def test_a_charge_names_the_version_it_was_made_under() -> None:
    assert (charge().version, charge().org_id, charge().bucket) == ("12", ORG, keys.bucket_of(ORG))


def test_a_charge_at_hand_is_for_the_same_caller_route_and_method_while_it_holds_and_is_not_forgotten() -> None:
    entitlement = Entitlement(
        org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=ANCHOR,
        quotas=(Quota(meter="api", limit=5, window=Window.HOUR),),
    )  # fmt: skip
    org = Org(entitlement)
    caller, other = (Caller(f"sha{key}", KeyRecord(key_id=key, org_id=ORG), org) for key in (8, 9))
    handler: Any = Handler(*[cast(Any, None)] * 6, cast(Any, FrozenClock(NOW)))
    route = Route(id=5, path="/*", upstream="app", charge={"api": Fixed(1)})
    first = handler.charge_of(caller, route, "GET", NOW)
    assert handler.charge_of(caller, route, "GET", NOW) is first
    assert [handler.charge_of(*of, NOW) is first for of in ((other, route, "GET"), (caller, route, "PUT"))] == [False, False]
    assert handler.charge_of(caller, route, "GET", NOW) is first
    assert handler.charge_of(caller, route, "GET", first.until_ms) is not first
    last = handler.charge_of(caller, route, "GET", NOW)
    org.forget_charges()
    assert handler.charge_of(caller, route, "GET", NOW) is not last


def test_a_long_call_under_the_former_configuration_does_not_price_the_calls_after_it() -> None:
    """It asks for its charge again each second; what it is given is remembered, but not for the route that came after."""
    entitlement = Entitlement(org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=ANCHOR)
    caller = Caller("sha", KeyRecord(key_id=9, org_id=ORG), Org(entitlement))
    handler: Any = Handler(*[cast(Any, None)] * 6, cast(Any, FrozenClock(NOW)))
    former, present = (Route(id=5, path="/*", upstream="app", charge={"api": Fixed(units)}) for units in (1, 5))
    costs = [handler.charge_of(caller, route, "GET", NOW).template.costs for route in (former, present, former, present)]
    assert costs == [(("api", units),) for units in (1, 5, 1, 5)]
