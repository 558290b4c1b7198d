"""Real servers for every test that asks: one Postgres and one Valkey a session, a fresh database and an emptied store a test.

postgres_url   the session's Postgres, its maintenance database
database       URL of a fresh database with every migration applied (cloned from a template)
empty_database URL of a fresh database with nothing in it
redis_url      the session's Valkey
redis          the same URL, emptied before the test (FLUSHALL)
"""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis import Redis

from metering.store.migrate import migrate
from weighbridge.embedded import PostgresServer, ValkeyServer, start_postgres, start_valkey

_numbers = itertools.count(1)
_ROOM_BYTES = 4 << 30  # several sessions side by side, one for each processor


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on a loop of its own, whatever loop the test uses."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    await migrate(url)


def in_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


def in_memory() -> str | None:
    """Where files lie in memory, if there is room for a server's: a database is made from its template ten times as fast there."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > _ROOM_BYTES
    return str(shared) if roomy else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="wb-test-", dir=in_memory()) as folder:
        Path(folder).chmod(0o755)
        server = start_postgres(Path(folder) / "postgres", durable=False)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="wb-test-") as folder:
        server = start_valkey(Path(folder) / "valkey")
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    return postgres_server.url


@pytest.fixture(scope="session")
def redis_url(valkey_server: ValkeyServer) -> str:
    return valkey_server.url


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> str:
    run(_execute(postgres_url, "CREATE DATABASE template_migrated"))
    run(_migrate(in_database(postgres_url, "template_migrated")))
    return "template_migrated"


def fresh(postgres_url: str, template: str) -> Iterator[str]:
    """The URL of a database of its own, dropped behind the test."""
    name = f"test_{next(_numbers)}"
    run(_execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
    yield in_database(postgres_url, name)
    run(_execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(postgres_url: str, _template: str) -> Iterator[str]:
    yield from fresh(postgres_url, _template)


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    yield from fresh(postgres_url, "template1")


@pytest.fixture
def redis(redis_url: str) -> str:
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url
