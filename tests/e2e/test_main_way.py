"""The main way, end to end: traffic through the gateway, admitted in Redis, in Postgres after a flush, its overage at Stripe."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterable

import aiohttp
import pytest
from redis.asyncio import Redis

from .conftest import House, Org

Call = tuple[Org, str]
CLIENTS = 48


async def drive(house: House, calls: Iterable[Call], method: str = "GET") -> Counter[tuple[str, str, int]]:
    """Make the calls from many concurrent clients; (org id, path, status) -> how often. Status 0: the connection broke."""
    queue, seen = iter(list(calls)), Counter[tuple[str, str, int]]()

    async def client(session: aiohttp.ClientSession) -> None:
        for org, path in queue:
            try:
                async with session.request(method, house.gateway + path, headers={"X-API-Key": org.api_key}) as answer:
                    await answer.read()
                    seen[org.id, path, answer.status] += 1
            except aiohttp.ClientError:
                seen[org.id, path, 0] += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return seen


def count(seen: Counter[tuple[str, str, int]], org: Org, *, path: str | None = None, status: int | None = None) -> int:
    return sum(n for (o, p, s), n in seen.items() if o == org.id and path in (None, p) and status in (None, s))


async def until_counts_rest(house: House, orgs: list[Org]) -> None:
    """Flush until counter and ledger agree: bytes of the last calls are settled within a second."""
    for _ in range(20):
        await house.flush()
        if all([await house.counter(org) == (await house.ledger(org))[0] for org in orgs]):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("counters and ledger never agree")


@pytest.mark.long
async def test_ten_thousand_calls_are_charged_or_returned_each_once_and_all_sides_agree(house: House) -> None:
    free = await asyncio.gather(*(house.org(f"Free {i}", "free") for i in range(3)))
    pro = await asyncio.gather(*(house.org(f"Pro {i}", "pro") for i in range(3)))
    plan = {"/hello": 900, "/status/500": 100, "/v1/reports/7": 100, "/status/204": 100}
    calls = [(org, path) for path, times in plan.items() for org in pro for _ in range(times * 2)]
    calls += [(org, "/hello") for org in free for _ in range(1200)]
    calls.sort(key=lambda call: hash((call[0].id, call[1], id(call))))
    assert len(calls) >= 10_000
    before = await house.served()
    seen = await drive(house, calls)
    assert {status for _, _, status in seen} == {200, 204, 429, 500}, seen
    await until_counts_rest(house, [*free, *pro])
    after = await house.served()
    served = {org.id: after.get(org.id, 0) - before.get(org.id, 0) for org in [*free, *pro]}

    for org in free:
        assert count(seen, org, status=200) == 300
        assert count(seen, org, status=429) == 900
        assert await house.ledger(org) == (300, 0)
        assert await house.counter(org) == 300
        assert served[org.id] == 300
    for org in pro:
        answers = {(path, status): n for (of, path, status), n in seen.items() if of == org.id}
        assert answers == {("/hello", 200): 1800, ("/status/204", 204): 200, ("/v1/reports/7", 200): 200, ("/status/500", 500): 200}
        charged, returned = 1800 + 200 + 10 * 200, 200
        assert await house.ledger(org) == (charged, returned)
        assert await house.counter(org) == charged
        assert served[org.id] == 1800 + 200 + 200 + 200
        bandwidth, _ = await house.ledger(org, "bandwidth")
        assert await summary(house, org, "api") == charged - 1000
        assert await summary(house, org, "bandwidth") == (bandwidth - 100_000) // 1_000_000


async def summary(house: House, org: Org, meter: str) -> int:
    """What the sandbox says it was told, in report units."""
    async with house.postgres() as connection:
        customer = await connection.fetchval("SELECT stripe_id FROM billing.stripe_objects WHERE kind = 'customer' AND key = $1", org.id)
    headers = {"Authorization": "Bearer " + "sk_test_sandbox"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{house.ready['stripe']}/v1/billing/meters", params={"limit": "100"}) as answer:
            found = [m for m in (await answer.json())["data"] if m["event_name"].endswith(meter)]
        span = {"customer": customer, "start_time": "0", "end_time": "4102444800"}
        async with session.get(f"{house.ready['stripe']}/v1/billing/meters/{found[0]['id']}/event_summaries", params=span) as answer:
            return int(sum(s["aggregated_value"] for s in (await answer.json())["data"]))


async def until_admitted(house: House, org: Org) -> int:
    """Call until a call passes; how many did."""
    for _ in range(100):
        if count(await drive(house, [(org, "/hello")]), org, status=200):
            return 1
        await asyncio.sleep(0.2)
    raise AssertionError("nothing is admitted")


@pytest.mark.long
async def test_another_flush_changes_nothing(house: House) -> None:
    org = await house.org("Still", "pro")
    await drive(house, [(org, "/hello")] * 1200)
    await until_counts_rest(house, [org])
    before = (await house.ledger(org), await summary(house, org, "api"))
    await house.flush()
    await house.flush()
    assert (await house.ledger(org), await summary(house, org, "api")) == before == ((1200, 0), 200)


@pytest.mark.long
async def test_of_many_concurrent_calls_exactly_the_limit_passes(house: House) -> None:
    org = await house.org("Race", "free")
    seen = await drive(house, [(org, "/hello")] * 900)
    assert (count(seen, org, status=200), count(seen, org, status=429)) == (300, 600)


@pytest.mark.long
async def test_a_limit_of_a_route_counts_each_key_for_itself(house: House) -> None:
    org = await house.org("Keys", "wide")
    second = Org(org.id, org.slug, (await house.run("key", "create", "--org", org.slug))["api_key"])
    first_seen = await drive(house, [(org, "/once-a-day/x")] * 5)
    second_seen = await drive(house, [(second, "/once-a-day/x")] * 5)
    assert (count(first_seen, org, status=200), count(second_seen, second, status=200)) == (3, 3)
    assert count(await drive(house, [(org, "/hello")]), org, status=200) == 1


@pytest.mark.long
async def test_units_named_by_the_service_are_charged(house: House) -> None:
    org = await house.org("Pages", "wide")
    await drive(house, [(org, "/pages/7"), (org, "/pages/5")])
    await until_counts_rest(house, [org])
    assert (await house.ledger(org, "pages"))[0] == 12


@pytest.mark.long
async def test_a_worker_killed_under_load_loses_nothing_and_returns_what_it_had_in_flight(house: House) -> None:
    org = await house.org("Killed", "wide")
    before = (await house.served()).get(org.id, 0)
    # POST: a client sends an idempotent call again when its connection breaks, and says nothing.
    load = asyncio.create_task(drive(house, [(org, "/slow?seconds=0.02")] * 3000, "POST"))
    await asyncio.sleep(0.7)
    os.kill(house.pids("worker")[0], signal.SIGKILL)
    seen = await load
    await until_counts_rest(house, [org])
    charged, returned = await house.ledger(org)
    ok, broken = count(seen, org, status=200), count(seen, org, status=0)
    served = (await house.served())[org.id] - before
    assert ok + broken == 3000
    assert broken > 0
    assert 0 < returned <= CLIENTS
    assert ok - CLIENTS <= charged <= ok + broken
    assert charged <= served <= charged + returned + broken
    assert f"{returned} calls in flight were given back" in house.log.read_text()


@pytest.mark.long
async def test_an_emptied_store_under_load_changes_nothing_in_the_final_sums(house: House) -> None:
    org = await house.org("Flushed", "wide")
    store = Redis.from_url(house.ready["redis"])
    load = asyncio.create_task(drive(house, [(org, "/slow?seconds=0.01")] * 2500))
    await asyncio.sleep(0.5)
    await store.flushall()
    seen = await load
    await until_counts_rest(house, [org])
    charged, returned = await house.ledger(org)
    assert (charged, returned) == (count(seen, org, status=200), 0)
    assert count(seen, org, status=200) + count(seen, org, status=503) == 2500
    await store.aclose()


@pytest.mark.long
async def test_a_killed_aggregator_is_replaced_and_changes_nothing(house: House) -> None:
    org = await house.org("Aggregated", "pro")
    passed = await until_admitted(house, org)  # the test before this one emptied the store
    for _ in range(3):
        passed += count(await drive(house, [(org, "/hello")] * 500), org, status=200)
        flushing = asyncio.create_task(house.flush())
        os.kill(house.pids("aggregator")[0], signal.SIGKILL)
        await flushing
        await asyncio.sleep(0.5)
    await until_counts_rest(house, [org])
    assert passed >= 1500
    assert await house.ledger(org) == (passed, 0)
    assert await summary(house, org, "api") == passed - 1000
