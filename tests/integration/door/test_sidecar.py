"""A gateway alone: what orgs.yaml and plans.yaml become in Redis, and how misses are answered. Real Valkey."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from config.files import FileSet
from config.load import Configuration, parse
from metering.model import entitlement, keys
from metering.model.apikey import mint, record_from_json, sha256_hex
from metering.model.clock import FrozenClock
from metering.model.entitlement import Entitlement
from weighbridge.sidecar import Sidecar

CONFIG = Path(__file__).parents[3] / "config"
ACME = "018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f"
KEYS = [sha256_hex(mint(bytes([n]) * 18)) for n in (1, 2)]


def configuration(*hashes: str, plan: str = "free", slug: str = "acme", org_id: str = ACME) -> Configuration:
    texts = {name: (CONFIG / name).read_text() for name in ("gateway.yaml", "meters.yaml", "plans.yaml")}
    orgs = {slug: {"id": org_id, "plan": plan, "anchor": "2026-01-01T00:00:00Z", "keys": [{"sha256": sha} for sha in hashes]}}
    parsed = parse(FileSet(texts=texts | {"orgs.yaml": json.dumps({"orgs": orgs})}))  # JSON is YAML
    return parsed.good()


@pytest.fixture
async def store(redis: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis) as client:
        yield client


@pytest.fixture
def sidecar(store: Redis) -> Sidecar:
    return Sidecar(store, FrozenClock(1_790_000_000_000))


async def published(store: Redis) -> Entitlement:
    return entitlement.from_json(json.loads(await store.get(keys.entitlement(ACME))))


async def test_an_organization_of_the_file_stands_in_the_store_with_its_plan_and_keys(store: Redis, sidecar: Sidecar) -> None:
    await sidecar.publish(configuration(*KEYS))
    held = await published(store)
    assert (held.slug, held.plan) == ("acme", "free")
    assert any(quota.meter == "api" and quota.limit == 10_000 for quota in held.quotas)
    assert await store.hget(keys.versions(keys.bucket_of(ACME)), ACME) == str(held.version).encode()
    assert [record_from_json(await store.get(keys.api_key(sha))).org_id for sha in KEYS] == [ACME, ACME]


async def test_the_same_files_again_leave_the_version_alone_and_another_plan_raises_it(store: Redis, sidecar: Sidecar) -> None:
    await sidecar.publish(configuration(*KEYS))
    first = (await published(store)).version
    await Sidecar(store, FrozenClock(1_790_000_100_000)).publish(configuration(*KEYS))
    assert (await published(store)).version == first
    await Sidecar(store, FrozenClock(1_790_000_200_000)).publish(configuration(*KEYS, plan="pro"))
    assert (await published(store)).version > first


async def test_a_key_taken_out_of_the_file_is_refused_on_the_next_call(store: Redis) -> None:
    clock = FrozenClock(1_790_000_000_000)
    sidecar = Sidecar(store, clock)
    await sidecar.publish(configuration(*KEYS))
    first = (await published(store)).version
    clock.advance(1)
    await sidecar.publish(configuration(KEYS[0]))
    assert await store.get(keys.api_key(KEYS[1])) is None
    assert (await published(store)).version > first


async def test_an_organization_taken_out_of_the_file_is_gone(store: Redis, sidecar: Sidecar) -> None:
    await sidecar.publish(configuration(*KEYS))
    await sidecar.publish(configuration(slug="other", org_id="018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e40"))
    assert [await store.get(keys.api_key(sha)) for sha in KEYS] == [None, None]
    assert await store.get(keys.entitlement(ACME)) is None


async def test_a_key_taken_out_while_no_supervisor_ran_is_refused_too(store: Redis, sidecar: Sidecar) -> None:
    await sidecar.publish(configuration(*KEYS))
    first = (await published(store)).version
    await Sidecar(store, FrozenClock(1_790_000_100_000)).publish(configuration(KEYS[0]))
    assert await store.get(keys.api_key(KEYS[1])) is None
    assert (await published(store)).version > first


async def test_a_miss_is_answered_and_what_is_known_is_written_again(store: Redis, sidecar: Sidecar) -> None:
    await sidecar.publish(configuration(*KEYS))
    await store.delete(keys.api_key(KEYS[0]))
    async with store.pubsub() as channel:
        await channel.subscribe(keys.CHANGED)
        answering = asyncio.create_task(sidecar.run())
        await store.rpush(keys.ASKED, f"key {KEYS[0]}", "key unheard-of", "org nobody")
        heard: set[str] = set()
        async with asyncio.timeout(20):
            while not {f"key {KEYS[0]}", "nokey unheard-of", "noorg nobody"} <= heard:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    heard.add(message["data"].decode())
        answering.cancel()
    assert await store.get(keys.api_key(KEYS[0])) is not None
