"""The words of limits from YAML to the answer: real processes, edited files, two workers."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from .conftest import METERS, House, Org, housed

GATEWAY = """
upstreams:
  app: {targets: ["http://127.0.0.1:9000"]}
defaults:
  on_store_failure: closed
  charge: {api: 1}
  tenant: {header: X-Tenant-Id}
routes:
  - {path: /fast/*, rate: {limit: 1, per: minute, burst: 4, by: key}}
  - {path: /slow, concurrency: {limit: 2, by: key}}
  - {path: /watched/*, quotas: [{meter: api, limit: 2, per: key, window: day, shadow: true}]}
  - {path: /try/*, auth: none, quotas: [{meter: api, limit: 3, per: address, window: day}]}
  - {path: "/bytes/{n}", charge: {api: 1, bandwidth: response_bytes}}
  - {path: /docs/*, auth: none, charge: none, rate: {limit: 1, per: minute, burst: 5, by: address}}
  - {path: /*}
"""
PLANS = """
plans:
  free:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 1_000_000}]
  slowing:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 5, mode: throttle, then: {limit: 2, window: day}}]
  stopping:
    price: {usd: "9.00"}
    quotas: [{meter: api, limit: 3, mode: overage, stop_at: 6}]
    prices: {api: {each: "0.01"}}
  shared:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 1_000}, {meter: api, limit: 3, per: tenant, window: day}]
  cutting:
    price: {usd: "0"}
    rollout: now
    quotas: [{meter: bandwidth, limit: 100 kB, at_limit: cut}]
  rated:
    price: {usd: "0"}
    rollout: now
    rates: [{meter: api, limit: 1, per: minute, burst: 3}]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(tmp_path_factory, GATEWAY, METERS, PLANS) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


async def statuses(
    house: House, session: aiohttp.ClientSession, path: str, calls: int, org: Org | None = None, **headers: str
) -> Counter[int]:
    """So many calls at once, over both workers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | ({"X-API-Key": org.api_key} if org else {})

    async def call() -> int:
        async with session.get(house.gateway + path, headers=sent) as answer:
            await answer.read()
            return answer.status

    return Counter(await asyncio.gather(*(call() for _ in range(calls))))


@pytest.mark.long
async def test_a_rate_of_a_route_lets_a_burst_pass_and_no_more(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Fast", "free")
    assert await statuses(house, session, "/fast/1", 12, org) == {200: 4, 429: 8}
    story = await house.run("explain", "--key", org.api_key, "GET", "/fast/1")
    (rate,) = [one for one in story["limits"] if one["quota"].startswith("calls-per-minute")]
    assert (rate["limit"], rate["left"], story["verdict"][:3]) == (4, 0, "429")


@pytest.mark.long
async def test_calls_in_flight_are_limited_over_both_workers_and_their_end_makes_room(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Slow", "free")
    assert await statuses(house, session, "/slow?seconds=2", 8, org) == {200: 2, 429: 6}
    async with asyncio.timeout(20):
        while (await statuses(house, session, "/slow?seconds=0", 1, org))[200] == 0:
            await asyncio.sleep(0.05)


@pytest.mark.long
async def test_a_shadow_counts_and_never_blocks(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Watched", "free")
    assert await statuses(house, session, "/watched/1", 9, org) == {200: 9}
    async with asyncio.timeout(20):
        while 'weighbridge_shadow_refused_total{meter="api"} 7.0' not in await metrics(house, session):
            await asyncio.sleep(0.1)


async def metrics(house: House, session: aiohttp.ClientSession) -> str:
    async with session.get(house.ready["metrics"]) as page:
        return await page.text()


@pytest.mark.long
async def test_a_throttle_falls_to_its_slower_quota_and_then_blocks(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Slowing", "slowing")
    assert await statuses(house, session, "/hello", 12, org) == {200: 7, 429: 5}
    assert await house.counter(org) == 7


@pytest.mark.long
async def test_overage_ends_exactly_at_its_stop(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Stopping", "stopping")
    assert await statuses(house, session, "/hello", 12, org) == {200: 6, 429: 6}


@pytest.mark.long
async def test_bytes_are_cut_off_at_their_limit_and_postgres_has_each_of_them(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Cutting", "cutting")

    async def download(size: int) -> tuple[int, int]:
        received = 0
        async with session.get(f"{house.gateway}/bytes/{size}", headers={"X-API-Key": org.api_key}) as answer:
            with contextlib.suppress(aiohttp.ClientError):
                async for piece in answer.content.iter_any():
                    received += len(piece)
            return answer.status, received if answer.status == 200 else 0

    seen = [await download(size) for size in (60_000, 30_000, 60_000, 60_000)]
    seen += await asyncio.gather(*(download(20_000) for _ in range(8)))
    received = sum(size for _, size in seen)
    assert {status for status, _ in seen} == {200, 429}
    assert 80_000 <= received <= 100_000
    await house.flush()
    assert await house.counter(org, "bandwidth") == received
    assert await house.ledger(org, "bandwidth") == (received, 0)
    story = await house.run("explain", "--key", org.api_key, "GET", "/bytes/1")
    assert [limit["mode"] for limit in story["limits"] if limit["meter"] == "bandwidth"] == ["hard, cut"]
    edited = (house.config_dir / "plans.yaml").read_text().replace("limit: 100 kB, at_limit", "limit: 200 kB, at_limit")
    (house.config_dir / "plans.yaml").write_text(edited)
    async with asyncio.timeout(30):
        while (await download(50_000)) != (200, 50_000):
            await asyncio.sleep(0.2)


@pytest.mark.long
async def test_an_open_route_is_limited_by_address_and_charges_nobody(house: House, session: aiohttp.ClientSession) -> None:
    assert await statuses(house, session, "/try/1", 8) == {200: 3, 429: 5}
    assert await statuses(house, session, "/docs/1", 12) == {200: 5, 429: 7}
    story = await house.run("explain", "--address", "127.0.0.1", "GET", "/try/1")
    assert (story["verdict"][:3], [one["left"] for one in story["limits"]]) == ("429", [0])


@pytest.mark.long
async def test_tenants_have_limits_and_usage_of_their_own(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Shared", "shared")
    for tenant in ("emea", "apac"):
        assert await statuses(house, session, "/hello", 5, org, X_Tenant_Id=tenant) == {200: 3, 429: 2}
    assert await statuses(house, session, "/hello", 4, org) == {200: 3, 429: 1}
    assert await statuses(house, session, "/hello", 1, org, X_Tenant_Id="a b") == {400: 1}
    await house.flush()
    shown = await house.run("usage", "--org", org.slug, "--by", "tenant")
    assert {one["tenant"]: one["usage"][0]["base"]["current_usage"] for one in shown["tenants"]} == {"emea": 3, "apac": 3, "": 3}
    assert await house.counter(org) == 9
    story = await house.run("explain", "--key", org.api_key, "--tenant", "emea", "GET", "/hello")
    assert story["verdict"].startswith("429")
    story = await house.run("explain", "--key", org.api_key, "--tenant", "new", "GET", "/hello")
    assert story["verdict"] == "admitted"


@pytest.mark.long
async def test_an_edited_plan_reaches_the_running_gateways_and_counts_are_kept(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Rated", "rated")
    assert await statuses(house, session, "/hello", 8, org) == {200: 3, 429: 5}
    faster = "rates: [{meter: api, limit: 600, per: second, burst: 600}]\n    quotas: [{meter: api, limit: 10}]"
    (house.config_dir / "plans.yaml").write_text(PLANS.replace("rates: [{meter: api, limit: 1, per: minute, burst: 3}]", faster))
    async with asyncio.timeout(30):
        while (await statuses(house, session, "/hello", 1, org))[200] == 0:
            await asyncio.sleep(0.1)
    assert await statuses(house, session, "/hello", 10, org) == {200: 6, 429: 4}
    assert await house.counter(org) == 10


@pytest.mark.long
async def test_an_override_of_the_files_acts_on_the_next_call(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Favoured", "slowing")
    assert await statuses(house, session, "/hello", 9, org) == {200: 7, 429: 2}
    override = (
        f"overrides:\n  {org.slug}: {{reason: a test, until: 2099-01-01T00:00:00Z, quotas: [{{meter: api, limit: 20}}], concurrency: 50}}\n"
    )
    (house.config_dir / "plans.yaml").write_text(PLANS + override)
    async with asyncio.timeout(30):
        while (await statuses(house, session, "/hello", 1, org))[200] == 0:
            await asyncio.sleep(0.1)
    assert await statuses(house, session, "/hello", 20, org) == {200: 12, 429: 8}
    shown = json.loads(house.cli("org", "show", org.slug, "--format", "json").stdout)
    assert {(one["quota"], one["limit"]) for one in shown["overrides"]} == {("api-period", 20), ("concurrency", 50)}


@pytest.mark.long
async def test_a_bypass_covers_rates_and_calls_in_flight_too(house: House, session: aiohttp.ClientSession) -> None:
    org = await house.org("Glass", "free")
    assert await statuses(house, session, "/fast/1", 6, org) == {200: 4, 429: 2}
    made = await house.run("bypass", "--org", org.slug, "--for", "10m", "--reason", "a test")
    async with asyncio.timeout(20):
        while (await statuses(house, session, "/fast/1", 4, org))[429]:
            await asyncio.sleep(0.05)
    assert await statuses(house, session, "/fast/1", 20, org) == {200: 20}
    assert await statuses(house, session, "/slow?seconds=0.3", 6, org) == {200: 6}
    story = await house.run("explain", "--key", org.api_key, "GET", "/fast/1")
    assert {one["bypassed_until"] for one in story["limits"]} == {made["until"]}
    await house.run("bypass", "end", str(made["id"]))
    async with asyncio.timeout(20):
        while (await statuses(house, session, "/fast/1", 1, org))[200]:
            await asyncio.sleep(0.05)
