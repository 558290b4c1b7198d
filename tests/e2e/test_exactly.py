"""Limits are exact: several workers, many connections, real Valkey and Postgres, and four counts that must agree.

Of each quota the clients' own count, the service's, the counter in Valkey and the ledger in Postgres say the same number, and where
more was asked for than the limit it is the limit: never one more, never one fewer. `make exact` repeats it with other numbers, for minutes.
"""

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from config.files import read_set
from config.load import load_good
from config.settings import Settings
from metering.model import keys
from metering.model.clock import SystemClock, to_datetime, to_ms
from metering.model.period import period_at
from metering.model.quota import Window
from metering.store.postgres import open_pool

from .bench import Bench
from .conftest import House, housed
from .exactly import Ask, Crowd, Service

ROUNDS = int(os.environ.get("EXACT_ROUNDS", "1"))
WORKERS, CONNECTIONS = 3, 48

GATEWAY = """
upstreams:
  app: {targets: ["http://127.0.0.1:9000"]}
defaults:
  on_store_failure: closed
  charge: {api: 1}
routes:
  - {path: /three, charge: {api: 3}}
  - {path: /ten, charge: {api: 10}}
  - path: /narrow/*
    quotas: [{meter: api, per: key, limit: 90}, {meter: api, per: route, limit: 150}]
  - path: /shared
    tenant: {header: X-Tenant-Id}
    quotas: [{meter: api, per: tenant, limit: 21}]
  - path: /open
    auth: none
    quotas: [{meter: api, per: address, limit: 33, window: month}]
  - path: /paced
    rate: {limit: 40, per: second, burst: 60}
  - path: /slow
    concurrency: 5
  - {path: /*}
"""
METERS = "meters: {api: {unit: request}}\n"
LIMITS = (1, 7, 40, 500, 1000)
PLANS = "issuer: stripe\nplans:\n  free: {price: {usd: '0'}}\n" + "".join(
    f"  of{limit}: {{price: {{usd: '0'}}, quotas: [{{meter: api, limit: {limit}}}]}}\n" for limit in LIMITS
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Service]]:
    environ = {"WEIGHBRIDGE_WORKERS": str(WORKERS), "WEIGHBRIDGE_STORE_DEADLINE_MS": "10000", "BILLING_ENABLED": "false"}
    with Service() as service, housed(tmp_path_factory, GATEWAY, METERS, PLANS, UPSTREAM=service.url, **environ) as running:
        yield running, service


@pytest.fixture(params=range(ROUNDS))
async def bench(house: tuple[House, Service], request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    running, service = house
    rng = random.Random(request.param)  # each round is the same everywhere
    crowd = Crowd(running.gateway, rng.choice((6, 24, 48, 160)) if request.param else CONNECTIONS)
    settings = Settings.load({**running.environ, "DATABASE_URL": running.ready["database"], "REDIS_URL": running.ready["redis"]})
    pool = await open_pool(running.ready["database"], application="exactly", max_size=2)
    async with Redis.from_url(running.ready["redis"]) as store:
        yield Bench(running, service, crowd, store, pool, settings, load_good(read_set(running.config_dir)), rng)
    await pool.close()


async def test_of_many_calls_at_once_exactly_as_many_pass_as_each_limit_says(bench: Bench) -> None:
    customers = {limit: await bench.customers(f"of{limit}", count) for limit, count in ((1, 8), (7, 8), (1000, 1))}
    asks = [ask for limit, each in customers.items() for customer in each for ask in customer.asks("/x", 2 * limit + 60)]
    await bench.crowd.make(bench.shuffled(asks))
    everybody = [customer for each in customers.values() for customer in each]
    await bench.until_books_agree(everybody)
    for limit, each in customers.items():
        for customer in each:
            counts = bench.admitted(customer), bench.service.of(customer.id), (await bench.used(customer))[0]
            assert counts == (limit, limit, limit)
            assert await bench.house.ledger(customer.org) == (limit, 0)
            assert bench.crowd.count(429, whose=customer.id) == limit + 60
    assert len(bench.crowd.answers) == len(asks)


@pytest.mark.long
async def test_calls_of_different_cost_fill_one_quota_to_its_last_unit(bench: Bench) -> None:
    [customer] = await bench.customers("of1000")
    cost = {"/one": 1, "/three": 3, "/ten": 10}
    await bench.crowd.make([ask for _ in range(900) for ask in customer.asks(bench.rng.choice(list(cost)), 1)])
    for answer in bench.crowd.answers:
        left = answer.left["api-period"][0]
        assert left >= 0
        assert answer.status == 200 or left < cost[answer.ask.path]
    await bench.crowd.make(customer.asks("/one", 60))
    await bench.until_books_agree([customer])
    passed = {path: bench.admitted(customer, path) for path in cost}
    assert passed == {path: bench.service.of(customer.id, path) for path in cost}
    assert sum(cost[path] * calls for path, calls in passed.items()) == 1000
    assert (await bench.used(customer), await bench.house.ledger(customer.org)) == ([1000], (1000, 0))


@pytest.mark.long
async def test_of_several_limits_each_holds_and_what_one_refuses_no_other_is_charged_for(bench: Bench) -> None:
    [customer] = await bench.customers("of500", keys_each=2)
    asks = [ask for key in (0, 1) for ask in customer.asks("/narrow/x", 250, key=key)]
    asks += [ask for tenant in ("a", "b") for ask in customer.asks("/shared", 60, tenant=tenant)]
    await bench.crowd.make(bench.shuffled([*asks, *customer.asks("/one", 200)]))
    assert [bench.admitted(customer, path) for path in ("/narrow/x", "/shared", "/one")] == [150, 42, 200]
    passed = [a.ask for a in bench.crowd.answers if a.status == 200]
    by_key = Counter(ask.key for ask in passed if ask.path == "/narrow/x")
    assert all(60 <= by_key[key] <= 90 for key in customer.keys)
    assert Counter(ask.tenant for ask in passed if ask.tenant) == {"a": 21, "b": 21}
    await bench.crowd.make(customer.asks("/one", 300))
    await bench.until_books_agree([customer])
    assert bench.admitted(customer) == bench.service.of(customer.id) == 500
    found = await bench.counters(customer)
    assert sorted(found.values()) == sorted([500, 150, *by_key.values(), 21, 21])
    assert await bench.house.ledger(customer.org) == (500, 0)


@pytest.mark.long
async def test_a_quota_by_address_is_exact_too(bench: Bench) -> None:
    before = bench.service.of("", "/open")
    await bench.crowd.make([Ask("/open")] * 150)
    assert (bench.crowd.count(200), bench.crowd.count(429), bench.service.of("", "/open") - before) in ((33, 117, 33), (0, 150, 0))


@pytest.mark.long
async def test_a_rate_lets_its_burst_pass_and_then_what_time_gives(bench: Bench) -> None:
    [customer] = await bench.customers("of1000")
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < 2:
        await bench.crowd.make(customer.asks("/paced", 100))
    passed = bench.admitted(customer)
    assert passed <= 60 + 40 * (time.monotonic() - begun)
    assert passed >= 60 + 40 * (elapsed - 1.5)  # a crowd that was kept waiting for longer would have left time unused
    await bench.until_books_agree([customer])
    assert await bench.used(customer) == [passed]
    assert bench.service.of(customer.id) == passed


@pytest.mark.long
async def test_never_more_calls_are_in_flight_than_may_be_and_refused_ones_cost_nothing(bench: Bench) -> None:
    [customer] = await bench.customers("of1000")
    while bench.crowd.count(200) < 40:
        await bench.crowd.make(customer.asks("/slow", 200))
    await bench.until_books_agree([customer])
    passed = bench.admitted(customer)
    assert bench.service.most[customer.id] == 5
    assert await bench.used(customer) == [passed]
    assert (await bench.house.ledger(customer.org), bench.service.of(customer.id)) == ((passed, 0), passed)


@pytest.mark.long
async def test_each_of_two_windows_admits_its_limit_while_one_turns_into_the_other(bench: Bench) -> None:
    clock, left_ms = SystemClock(), 0
    while left_ms < 1500:  # a busy machine may take as long as that to make them
        turns_at = to_datetime(clock.now_ms() // 1000 * 1000 + 4000)
        customers = await bench.customers("of40", 4, turns_at=turns_at)
        left_ms = to_ms(turns_at) - clock.now_ms()
    deadline = clock.monotonic() + left_ms / 1000 + 1
    while clock.monotonic() < deadline:
        # The service fails some calls, and is slow to do so: what they cost goes back to the window in which they began.
        asks = [ask for c in customers for path, n in (("/one", 10), ("/fail/slow", 1), ("/fail", 1)) for ask in c.asks(path, n)]
        await bench.crowd.make(bench.shuffled(asks))
    for _ in range(10):
        await asyncio.sleep(0.2)  # what was returned is free again within a second
        await bench.crowd.make([ask for c in customers for ask in c.asks("/one", 45)])
    await bench.until_books_agree(customers)
    assert {a.status for a in bench.crowd.answers} <= {200, 429, 500}
    start, _ = period_at(to_ms(turns_at), to_ms(turns_at))
    for customer in customers:
        counter = keys.counter(customer.id, "api", "o", Window.PERIOD, start)
        answers = [a for a in bench.crowd.answers if a.ask.whose == customer.id and a.status == 200]
        by_window = Counter(a.left["api-period"][1] > 3600 for a in answers)
        old, new = await bench.used(customer)
        assert new == int(await bench.store.get(counter)) == by_window[True] == 40
        assert old == by_window[False] <= 40
        failed = bench.crowd.count(500, whose=customer.id)
        assert bench.service.of(customer.id) == old + new + failed
        assert await bench.house.ledger(customer.org) == (old + new, failed)


@pytest.mark.long
async def test_clients_that_leave_at_any_moment_leave_no_unit_and_no_slot_behind(bench: Bench) -> None:
    [customer] = await bench.customers("of1000")
    asks = [ask for path in ("/one", "/slow", "/fail", "/while/slow") for ask in customer.asks(path, 100)]
    await bench.crowd.leave(bench.shuffled(asks), lambda: bench.rng.choice((0, 0.001, 0.003, 0.01, 0.1)))
    for _ in range(20):
        await bench.crowd.make(customer.asks("/one", 100))
        await asyncio.sleep(0.1)  # what goes back is free again within a second
    await bench.until_books_agree([customer])
    charged, returned = await bench.house.ledger(customer.org)
    assert (charged, await bench.used(customer)) == (1000, [1000])
    failed = bench.service.of(customer.id, "/fail")
    assert 1000 + failed - returned <= bench.service.of(customer.id) <= 1000 + returned
    assert bench.admitted(customer, grew=returned > 0) < 1000
    scopes = [key async for key in bench.store.scan_iter(keys.in_flight(customer.id, "*"))]
    held = [int(count) for key in scopes for count in (await bench.store.hgetall(key)).values()]
    assert not any(held)


@pytest.mark.long
async def test_after_a_worker_was_killed_the_limit_is_used_up_to_its_last_unit_and_no_further(bench: Bench) -> None:
    [customer] = await bench.customers("of1000")
    crowd, path, log = Crowd(bench.house.gateway, CONNECTIONS), "/while/slow", bench.house.log  # so many that each worker has some
    told = len(log.read_text())
    load = asyncio.create_task(crowd.make(customer.asks(path, 600)))
    while crowd.count(200) < 150:
        await asyncio.sleep(0.01)
    os.kill(bench.rng.choice(bench.house.pids("worker")), signal.SIGKILL)
    await load
    broken = crowd.count(0)
    while not (found := re.search(r"(\d+) calls in flight were given back", log.read_text()[told:])):
        await asyncio.sleep(0.05)
    given_back = int(found.group(1))
    for _ in range(100):
        await crowd.make(customer.asks(path, 100))
        await bench.flush()
        if await bench.house.ledger(customer.org) == (1000, given_back):
            break
    assert {a.status for a in crowd.answers} == {0, 200, 429}
    assert (await bench.used(customer), await bench.house.ledger(customer.org)) == ([1000], (1000, given_back))
    assert 0 < given_back <= CONNECTIONS
    # What was given back had been admitted: its client saw the connection break, or an answer of which the end was not written yet.
    assert 1000 + given_back - broken <= crowd.count(200) <= 1000 + given_back
    assert crowd.count(200) <= bench.service.of(customer.id) <= 1000 + given_back
