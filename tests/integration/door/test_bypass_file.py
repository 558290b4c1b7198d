"""Bypasses without Postgres: a file of the data folder, told through Redis by whoever writes it and by the supervisor."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from billing.services.bypasses import NoSuchBypass
from billing.services.lookup import NoSuchOrganization
from metering.model import bypass, keys
from metering.model.clock import FrozenClock
from metering.model.errors import BadInput
from weighbridge.bypass_file import FILE, FileBypasses
from weighbridge.sidecar import Sidecar

from .test_sidecar import ACME, configuration

MINUTE_MS = 60_000
CONFIG = configuration("a" * 64)


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis) as client:
        yield client


class Alone:
    """The command line and the supervisor of a gateway alone, over one folder."""

    def __init__(self, folder: Path, redis_url: str, store: Redis) -> None:
        self.clock, self.folder = FrozenClock(1_790_000_000_000), folder
        assert CONFIG.orgs is not None
        self.file = FileBypasses(folder, CONFIG.orgs, CONFIG.meters, self.clock, lambda: Redis.from_url(redis_url))
        self.sidecar = Sidecar(store, self.clock, folder)

    async def begin(self, org: str | None = None, meter: str | None = None, minutes: int = 30) -> tuple[int, bool]:
        row, told = await self.file.begin(org_ref=org, meter=meter, for_ms=minutes * MINUTE_MS, reason="an outage", by="ann@ops")
        return row.id, told


@pytest.fixture
def alone(tmp_path: Path, redis: str, store: Redis) -> Alone:
    return Alone(tmp_path / "data", redis, store)


async def told(store: Redis) -> list[tuple[int, str | None, str | None]]:
    return [(b.id, b.org_id, b.meter) for b in bypass.from_json(await store.get(keys.BYPASS))]


async def test_a_bypass_is_kept_in_the_folder_and_told_at_once(alone: Alone, store: Redis) -> None:
    assert await alone.begin("acme") == (1, True)
    assert await alone.begin(ACME, "api") == (2, True)
    assert await told(store) == [(1, ACME, None), (2, ACME, "api")]


async def test_a_store_that_forgot_is_told_again_by_the_supervisor(alone: Alone, store: Redis) -> None:
    await alone.begin()
    await store.flushall()
    await alone.sidecar.publish(CONFIG)
    assert await told(store) == [(1, None, None)]


async def test_what_was_written_while_the_store_was_away_is_told_by_the_supervisor(alone: Alone, store: Redis) -> None:
    away = Alone(alone.folder, "redis://127.0.0.1:1", store)
    assert await away.begin() == (1, False)
    await alone.sidecar.publish(CONFIG)
    assert await told(store) == [(1, None, None)]


async def test_one_that_is_over_leaves_the_list_and_stays_on_record(alone: Alone, store: Redis) -> None:
    await alone.begin(minutes=1)
    await alone.begin(minutes=60)
    alone.clock.advance(60)
    await alone.sidecar.publish(CONFIG)
    assert await told(store) == [(2, None, None)]
    assert await alone.file.end(2, by="bob@ops")
    assert await told(store) == []
    assert [(row.id, row.created_by, row.ended_by) for row in await alone.file.all()] == [(2, "ann@ops", "bob@ops"), (1, "ann@ops", None)]
    with pytest.raises(NoSuchBypass):
        await alone.file.end(2, by="bob@ops")


async def test_a_file_that_nobody_can_read_ends_no_bypass(alone: Alone, store: Redis) -> None:
    await alone.begin()
    (alone.folder / FILE).write_text("{")
    await alone.sidecar.publish(CONFIG)
    assert await told(store) == [(1, None, None)]


async def test_what_orgs_yaml_and_meters_yaml_do_not_hold_is_refused(alone: Alone) -> None:
    with pytest.raises(NoSuchOrganization, match=r"orgs\.yaml"):
        await alone.begin("nobody")
    with pytest.raises(BadInput, match="there are: api"):
        await alone.begin(None, "llamas")
