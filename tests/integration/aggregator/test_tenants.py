"""Usage by tenant: the first thousand of a day by name, then others; and their counters come back. Real parts."""

from typing import Any

from aggregator import rollup
from metering.model import keys
from metering.model.ledger import OTHER, TENANTS_A_DAY, tenant_dimension
from metering.model.quota import Window


async def by_tenant(house: Any, table: str = "usage_hourly") -> dict[str | None, int]:
    query = f"SELECT dimensions ->> 'tenant' AS tenant, sum(quantity)::bigint AS units FROM billing.{table} GROUP BY 1"  # noqa: S608
    rows = await house.pool.fetch(query)
    return {row["tenant"]: row["units"] for row in rows}


def fields(house: Any, units: dict[str, int], **more: Any) -> dict[str, int]:
    return {house.field(dimensions=tenant_dimension(tenant), **more): quantity for tenant, quantity in units.items()}


async def test_each_tenant_has_rows_of_its_own_and_the_period_one_sum(house: Any) -> None:
    await house.settle({**fields(house, {"emea": 5, "apac": 2, "": 1}), house.field(): 10})
    await house.flush()
    assert await by_tenant(house) == await by_tenant(house, "usage_events") == {"emea": 5, "apac": 2, "": 1, None: 10}
    assert await house.used() == {"usage_events": 18, "usage_hourly": 18, "usage_period": 18}


async def test_after_a_thousand_names_of_a_day_the_rest_are_one(house: Any) -> None:
    known = {f"t{n:04}": 1 for n in range(TENANTS_A_DAY - 1)}
    await house.settle(fields(house, known))
    await house.flush()
    await house.settle(fields(house, {"late-a": 3, "late-b": 4, "late-c": 5, "t0007": 2}), seq=2)
    await house.flush()
    found = await by_tenant(house)
    assert len(found) == TENANTS_A_DAY + 1
    assert (found["late-a"], found["t0007"], found[OTHER]) == (3, 3, 9)
    await house.settle(fields(house, {"late-b": 1}, minute=house.minute + 1440), seq=3)
    await house.flush()
    assert (await by_tenant(house))["late-b"] == 1  # another day has room again
    assert set((await house.used()).values()) == {TENANTS_A_DAY - 1 + 14 + 1}


async def test_what_one_organization_names_takes_no_room_from_another(house: Any) -> None:
    other_org = "00000000-0000-4000-8000-000000000002"
    await house.settle(fields(house, {f"t{n:04}": 1 for n in range(TENANTS_A_DAY)}))
    await house.settle(fields(house, {"zz": 1}, org=other_org), org=other_org)
    await house.flush()
    assert (await by_tenant(house))["zz"] == 1


async def test_counters_of_tenants_come_back_for_every_window(house: Any) -> None:
    seconds, _ = await house.redis.time()
    minute = int(seconds) // 60
    hour, period = minute // 60 * 3_600_000, minute * 60 - 86_400
    here = {"minute": minute, "period": period}
    await house.settle({**fields(house, {"emea": 5, "": 2}, **here), **fields(house, {"emea": 3}, route=8, **here), house.field(**here): 7})
    await house.flush()
    await house.redis.flushall()
    await house.recovery().check()

    async def counted(window: Window, start_ms: int, **scope: Any) -> int:
        name = keys.scope(**{"route_id": None, "key_id": None, **scope})
        return int(await house.redis.get(keys.counter(house.org, "api", name, window, start_ms)) or 0)

    assert await counted(Window.HOUR, hour) == 17
    assert [await counted(Window.HOUR, hour, tenant=tenant) for tenant in ("emea", "", "apac")] == [8, 2, 0]
    assert await counted(Window.HOUR, hour, tenant="emea", route_id=8) == 3
    assert [await counted(Window.PERIOD, period * 1000, tenant=tenant) for tenant in ("emea", "")] == [8, 2]


async def test_names_of_past_days_are_forgotten(house: Any) -> None:
    await house.settle(fields(house, {"emea": 5}, minute=house.minute - 30 * 1440))
    await house.flush()
    await house.pool.execute("UPDATE billing.tenants SET day = '2020-01-01'")
    await rollup.roll_up_days(house.pool)
    assert await house.pool.fetchval("SELECT count(*) FROM billing.tenants") == 0
    assert (await by_tenant(house))["emea"] == 5
