"""A sandbox on a real socket, the real SDK, a real outbox; one clock for all of them, moved by hand."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest

from billing.stripe.client import SANDBOX_KEY, StripeApi
from billing.stripe.sandbox.server import Sandbox, serve
from metering.model.clock import FrozenClock, to_datetime
from metering.store.migrate import migrate
from metering.store.postgres import open_pool

NOW_MS = 1_793_000_000_000  # 25 October 2026

PRO: dict[str, Any] = {
    "plan": "pro", "version": 1, "title": "Pro", "interval": "month", "currency": "usd", "amount_minor": 4900,
    "meters": [
        {"meter": "api", "title": "API Requests", "report": "request", "report_size": 1, "each": "0.0003"},
        {"meter": "bandwidth", "title": "Bandwidth", "report": "MB", "report_size": 1_000_000, "each": "0.00005"},
    ],
}  # fmt: skip


@dataclass
class Running:
    """A sandbox that serves."""

    url: str
    sandbox: Sandbox

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """JSON, or with text=True the status, where it leads, and the page."""
        as_text = options.pop("text", False)
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, allow_redirects=False, **options) as answer:
            return (answer.status, answer.headers.get("Location"), await answer.text()) if as_text else await answer.json()

    async def fault(self, kind: str, **how: Any) -> None:
        await self.ask("POST", "/_sandbox/faults", json={"kind": kind, **how})

    async def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("GET", "/_sandbox/events"))["data"]
        return found

    async def requests(self, path: str) -> list[dict[str, Any]]:
        return [r for r in (await self.ask("GET", "/_sandbox/requests"))["data"] if r["path"] == path and r["method"] == "POST"]

    async def call(self, method: str, path: str, params: Mapping[str, str] | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """A bare call, form-encoded, without the SDK."""
        headers = {"Authorization": f"Bearer {SANDBOX_KEY}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        where = "params" if method in ("GET", "DELETE") else "data"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, **{where: params}) as answer,  # type: ignore[arg-type]
        ):
            return answer.status, await answer.json()


class Outbox:
    """Rows as the services write them, and what became of them."""

    def __init__(self, pool: asyncpg.Pool, clock: FrozenClock) -> None:
        self.pool, self._clock = pool, clock

    async def organization(self) -> str:
        org_id = str(uuid.uuid4())
        sql = "INSERT INTO billing.organizations (id, slug, name, created_at) VALUES ($1, $2, 'Acme', $3)"
        await self.pool.execute(sql, org_id, "acme-" + org_id[:8], to_datetime(self._clock.now_ms()))
        return org_id

    async def add(self, kind: str, org_id: str, identifier: str, payload: Mapping[str, Any]) -> int:
        sql = """INSERT INTO billing.outbox (kind, org_id, customer_key, identifier, payload, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) RETURNING id"""
        key = f"{org_id}:{payload['meter']}" if kind == "meter_event" else org_id
        now = to_datetime(self._clock.now_ms())
        number: int = await self.pool.fetchval(sql, kind, org_id, key, identifier, json.dumps({"org_id": org_id, **payload}), now)
        return number

    async def sell(self, org_id: str, plan: Mapping[str, Any] = PRO, anchor: str = "2026-10-25T00:00:00Z", trial_days: int = 0) -> None:
        """What creating an organization on a paid plan queues."""
        version = plan["version"]
        await self.add("ensure_customer", org_id, f"cust:{org_id}:{version}", {"slug": "acme", "name": "Acme", "email": "a@acme.test"})
        await self.add("ensure_plan", org_id, f"plan:{org_id}:{version}", plan)
        what = {"plan": plan["plan"], "version": version, "anchor": anchor, "trial_days": trial_days}
        await self.add("ensure_subscription", org_id, f"sub:{org_id}:{version}", what)

    async def overage(self, org_id: str, value: int, number: int = 1, meter: str = "api", at: int | None = None) -> str:
        identifier = f"ov1:{org_id[:8]}:{meter}:20261025:{number}"
        timestamp = self._clock.now_ms() // 1000 if at is None else at
        await self.add("meter_event", org_id, identifier, {"meter": meter, "value": value, "timestamp": timestamp})
        return identifier

    async def row(self, identifier: str) -> asyncpg.Record:
        return await self.pool.fetchrow("SELECT * FROM billing.outbox WHERE identifier = $1", identifier)

    async def states(self) -> list[str]:
        return [r["state"] for r in await self.pool.fetch("SELECT state FROM billing.outbox ORDER BY id")]

    async def stripe_id(self, kind: str, key: str) -> str:
        found: str = await self.pool.fetchval("SELECT stripe_id FROM billing.stripe_objects WHERE kind = $1 AND key = $2", kind, key)
        return found


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW_MS)


@pytest.fixture
async def running(tmp_path: Path, clock: FrozenClock) -> AsyncIterator[Running]:
    sandbox = Sandbox(tmp_path / "stripe.db", clock)
    url, stop = await serve(sandbox, "127.0.0.1", 0)
    yield Running(url, sandbox)
    await stop()


@pytest.fixture
async def stripe(running: Running) -> AsyncIterator[StripeApi]:
    api = StripeApi(api_key=SANDBOX_KEY, api_base=running.url, timeout_seconds=20)
    yield api
    await api.close()


@pytest.fixture(scope="session")
def stripe_database(postgres_url: str) -> Iterator[str]:
    """One migrated database for all tests of this folder; `pool` empties it."""
    parts = urlsplit(postgres_url)

    async def prepare() -> str:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("CREATE DATABASE test_stripe")
        await connection.close()
        url = urlunsplit(parts._replace(path="/test_stripe"))
        await migrate(url)
        return url

    with ThreadPoolExecutor(1) as thread:  # whatever loop the test uses
        yield thread.submit(asyncio.run, prepare()).result()


@pytest.fixture
async def pool(stripe_database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(stripe_database, application="test", max_size=20)
    async with pool.acquire() as connection:  # append-only tables too
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("TRUNCATE billing.organizations, billing.stripe_objects, billing.webhook_events CASCADE")
        await connection.execute("RESET session_replication_role")
    yield pool
    await pool.close()


@pytest.fixture
def outbox(pool: asyncpg.Pool, clock: FrozenClock) -> Outbox:
    return Outbox(pool, clock)


@pytest.fixture
def pro() -> dict[str, Any]:
    """The plan as ensure_plan carries it."""
    return dict(PRO)
