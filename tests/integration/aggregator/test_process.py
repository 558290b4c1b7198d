"""`python -m aggregator` as an operator meets it: what it refuses and how it says so, what it serves, how it ends."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from metering.model import keys

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
WAIT_SECONDS = 30


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start the aggregator in a folder of its own, with these settings and no others."""
    started: list[asyncio.subprocess.Process] = []

    async def run(**settings: str) -> asyncio.subprocess.Process:
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aggregator", cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
            env={**plain, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CONFIG": str(CONFIG), **settings},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def refusal(process: asyncio.subprocess.Process) -> str:
    """The sentence with which it refused to start."""
    _, stderr = await asyncio.wait_for(process.communicate(), WAIT_SECONDS)
    assert process.returncode == 1
    lines = stderr.decode().splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    return lines[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_it_asks_for_its_servers(start: Any) -> None:
    assert "set DATABASE_URL" in await refusal(await start())
    assert "set REDIS_URL" in await refusal(await start(DATABASE_URL="postgresql://nobody@/nothing"))


@pytest.mark.long
async def test_it_says_that_the_schema_is_missing(start: Any, empty_database: str, redis: str) -> None:
    process = await start(DATABASE_URL=empty_database, REDIS_URL=redis)
    assert await refusal(process) == "The database has no Weighbridge schema. Run `weighbridge init`."


@pytest.mark.long
async def test_it_says_that_redis_is_away(start: Any, database: str) -> None:
    process = await start(DATABASE_URL=database, REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (await refusal(process)).startswith("Redis cannot be reached")


@pytest.mark.long
async def test_it_says_that_its_port_is_taken(start: Any, database: str, redis: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await start(DATABASE_URL=database, REDIS_URL=redis, WEIGHBRIDGE_AGGREGATOR_PORT=port)
        assert f"Port {port} on 127.0.0.1 is taken" in await refusal(process)


async def test_it_speaks_to_no_other_side_of_stripe_than_its_database_knows(
    start: Any, empty_house: Any, database: str, redis: str
) -> None:
    await empty_house.pool.execute("INSERT INTO billing.installation (stripe_mode, stamped_at) VALUES ('live', now())")
    sentence = await refusal(await start(DATABASE_URL=database, REDIS_URL=redis, STRIPE_API_KEY="sk_test_x"))
    assert "holds ids of a Stripe account's live mode, and STRIPE_API_KEY is a key of test mode" in sentence


async def until(check: Callable[[], Any]) -> Any:
    """Poll until `check` gives something."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if found := await check():
                return found
            await asyncio.sleep(0.05)


async def test_alone_it_opens_the_store_flushes_tells_and_ends_when_told(start: Any, empty_house: Any, database: str, redis: str) -> None:
    house, port = empty_house, free_port()
    settings = {"WEIGHBRIDGE_FLUSH_INTERVAL": "1", "WEIGHBRIDGE_AGGREGATOR_PORT": str(port)}
    process = await start(DATABASE_URL=database, REDIS_URL=redis, **settings)
    bucket = keys.bucket_of(house.org)

    async def open_() -> bool:
        value = await house.redis.get(keys.epoch(bucket)) or b" wait"
        return not value.endswith(b"wait")

    async def flushed() -> bool:
        return set((await house.used()).values()) == {5}

    await until(open_)
    await house.settle({house.field(): 5})
    await until(flushed)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/healthz") as answer:
            assert (await answer.json())["status"] == "ok"

        async def counted() -> str:
            async with session.get("/metrics") as page:
                text = await page.text()
                return text if "weighbridge_flush_rows_total 1.0" in text else ""

        text = await until(counted)
    for name in ("flush_lag_seconds ", 'flush_duration_seconds_bucket{le="1.0",step="commit"}', 'outbox_rows{state="pending"} 0.0'):
        assert f"weighbridge_{name}" in text
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 0


@pytest.mark.long
async def test_a_call_to_stripe_is_told_in_our_words_alone(start: Any, house: Any, database: str, redis: str) -> None:
    payload = json.dumps({"org_id": house.org, "slug": "acme", "name": "Acme", "email": None})
    await house.pool.execute(
        "INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, 'a', 'Acme', now())", UUID(house.org)
    )
    await house.pool.execute(
        "INSERT INTO billing.outbox (kind, org_id, customer_key, identifier, payload, created_at)"
        " VALUES ('ensure_customer', $1, $1::uuid::text, 'cust:1', $2, now())",
        UUID(house.org), payload,
    )  # fmt: skip
    nobody = f"http://127.0.0.1:{free_port()}"
    process = await start(DATABASE_URL=database, REDIS_URL=redis, STRIPE_API_KEY="sk_test_x", STRIPE_API_BASE=nobody)
    lines: list[str] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while not any("Stripe was not told everything" in line for line in lines):
            lines.append((await process.stderr.readline()).decode())
    assert [line for line in lines if line.startswith("stripe")] == []
