"""A bypass in a charge: what it covers counts on and refuses nobody, until its end and no longer."""

from dataclasses import replace

import pytest

from config.gateway import Fixed, Route
from gateway.bypasses import Bypasses
from gateway.charges import Charge, make_charge
from metering.model.apikey import KeyRecord
from metering.model.bypass import Bypass, to_json
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Per, Quota, Window

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"
NOW, END = 1_770_000_000_000, 1_770_000_060_000
ACME = Entitlement(
    org_id=ORG, slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=NOW - 1000,
    quotas=(Quota(meter="api", limit=5), Quota(meter="pages", limit=7, window=Window.DAY)),
)  # fmt: skip
ROUTE = Route(
    id=5, path="/*", upstream="app", charge={"api": Fixed(1), "pages": Fixed(2)}, on_store_failure=CLOSED,
    quotas=(Quota(meter="api", limit=3, per=Per.KEY, routed=True),),
)  # fmt: skip


def charge(*bypasses: Bypass, now_ms: int = NOW) -> Charge:
    known = Bypasses()
    known.learn(to_json(bypasses).encode())
    return make_charge(ACME, ROUTE, "GET", KeyRecord(key_id=9, org_id=""), now_ms, bypasses=known)


def enforced(of: Charge) -> list[int | None]:
    return [limit.enforced for limit in of.limits]


@pytest.mark.parametrize(
    ("bypass", "limits"),
    [
        (Bypass(id=1, until_ms=END), [None, None, None, None]),
        (Bypass(id=1, until_ms=END, org_id=ORG), [None, None, None, None]),
        (Bypass(id=1, until_ms=END, meter="api"), [None, None, 7, None]),
        (Bypass(id=1, until_ms=END, org_id="another"), [5, None, 7, 3]),
        (Bypass(id=1, until_ms=NOW), [5, None, 7, 3]),
    ],
)
def test_what_a_bypass_covers_refuses_nobody(bypass: Bypass, limits: list[int | None]) -> None:
    assert enforced(charge(bypass)) == limits


def test_it_is_counted_all_the_same() -> None:
    with_it, without = charge(Bypass(id=1, until_ms=END)), charge()
    assert [(limit.counter, limit.cost) for limit in with_it.limits] == [(limit.counter, limit.cost) for limit in without.limits]
    assert with_it.template.costs == without.template.costs


def test_a_charge_ends_with_the_bypass_it_was_made_under() -> None:
    assert charge(Bypass(id=1, until_ms=END)).until_ms == END
    assert charge(Bypass(id=1, until_ms=END), now_ms=END).until_ms > END
    assert enforced(charge(Bypass(id=1, until_ms=END), now_ms=END)) == enforced(charge())


def test_while_the_store_is_away_a_bypassed_limit_has_no_say() -> None:
    assert (charge().rule, charge(Bypass(id=1, until_ms=END)).rule) == (CLOSED, OPEN)
    open_pages = replace(ACME, quotas=(Quota(meter="api", limit=5), Quota(meter="pages", limit=7, on_store_failure=CLOSED)))
    known = Bypasses()
    known.learn(to_json([Bypass(id=1, until_ms=END, meter="api")]).encode())
    assert make_charge(open_pages, ROUTE, "GET", KeyRecord(key_id=9, org_id=""), NOW, bypasses=known).rule == CLOSED
