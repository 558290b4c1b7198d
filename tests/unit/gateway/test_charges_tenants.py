"""A charge by tenant: a counter and ledger rows of its own for each, the organization's counter for all."""

from dataclasses import replace

from config.gateway import Fixed, Route
from gateway.charges import Charge, make_charge
from gateway.tenants import TenantNames
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import Per, Quota, Window

NOW = 1_770_000_000_000
ACME = Entitlement(
    org_id="5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11", slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=NOW - 1000,
    quotas=(Quota(meter="api", limit=100), Quota(meter="api", limit=5, per=Per.TENANT, window=Window.DAY)),
)  # fmt: skip
ROUTE = Route(id=5, path="/*", upstream="app", charge={"api": Fixed(1)}, tenant_header="x-tenant-id", by_tenant=True)


def charge(entitlement: Entitlement = ACME, route: Route = ROUTE) -> Charge:
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=9, org_id=""), NOW, names=TenantNames())


def test_each_tenant_moves_a_counter_of_its_own_and_that_of_the_organization() -> None:
    of = charge()
    emea, apac = of.variant("", "emea"), of.variant("", "apac")
    assert of.varies
    assert emea.limits[0].counter == apac.limits[0].counter
    assert [limit.counter.split(":")[5] for limit in (emea.limits[1], apac.limits[1], of.variant("", "").limits[1])] == [
        "temea",
        "tapac",
        "t",
    ]
    assert emea is of.variant("", "emea")


def test_usage_is_kept_apart_also_where_nothing_limits_by_tenant() -> None:
    of = charge(replace(ACME, quotas=()))
    assert of.varies
    assert [of.variant("", tenant).template.dimensions for tenant in ("emea", "")] == ['{"tenant":"emea"}', '{"tenant":""}']


def test_where_calls_name_no_tenant_nothing_is_kept_apart() -> None:
    of = charge(replace(ACME, quotas=ACME.quotas[:1]), replace(ROUTE, tenant_header=None, by_tenant=False))
    assert (of.varies, of.template.dimensions) == (False, "")


def test_the_address_plays_no_part_unless_a_limit_goes_by_it() -> None:
    assert not charge().by_address
    by_address = replace(ROUTE, quotas=(Quota(meter="api", limit=5, per=Per.ADDRESS, routed=True),))
    assert charge(route=by_address).by_address
