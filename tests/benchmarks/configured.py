"""What a gateway of the benchmarks is configured with, and the store that it finds: organizations published, buckets open."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from redis.asyncio import Redis

from config.load import load_good, read_set
from config.orgs import KeySpec, OrgSet, OrgSpec
from metering.model import keys
from metering.model.clock import SystemClock, to_ms
from tests.benchmarks.bench import Org
from weighbridge.sidecar import Sidecar

ANCHOR_MS = to_ms(datetime(2026, 1, 1, tzinfo=UTC))
_CALLS = {
    True: "{auth: required, upstream: app, charge: {api: 1, bandwidth: bytes}, return_on: [unreachable, 5xx, timeout]}",
    False: "{auth: none, upstream: app, charge: none}",
}


def write_configuration(folder: Path, org: Org, *, metered: bool, echo: str = "http://127.0.0.1:9") -> None:
    """Two quotas a call, as in the shipped plans: requests and bytes; neither is ever reached. Or nothing metered at all.

    /echo leads to the service `echo`, all else to the default one.
    """
    folder.mkdir(parents=True)
    (folder / "meters.yaml").write_text("meters:\n  api: {unit: request}\n  bandwidth: {unit: byte, show: GB, report: MB}\n")
    (folder / "gateway.yaml").write_text(
        f'upstreams:\n  app: {{targets: ["http://127.0.0.1:9"]}}\n  echo: {{targets: ["{echo}"]}}\n'
        "identity:\n  - api_key: {from: [X-API-Key, bearer]}\n"
        f"defaults: {_CALLS[metered]}\nroutes:\n  - {{path: /echo, upstream: echo}}\n  - {{path: /*}}\n"
    )
    (folder / "plans.yaml").write_text(
        'issuer: stripe\nplans:\n  bench:\n    price: {usd: "0"}\n    quotas:\n'
        "      - {meter: api, limit: 1_000_000_000_000, window: period, mode: hard}\n"
        "      - {meter: bandwidth, limit: 1_000_000 GB, window: period, mode: hard}\n"
    )
    (folder / "orgs.yaml").write_text(
        f"orgs:\n  {org.slug}: {{id: {org.id}, plan: bench, anchor: 2026-01-01T00:00:00Z, keys: [{{sha256: {org.sha256}}}]}}\n"
    )


def _key(org: Org) -> KeySpec:
    return KeySpec(sha256=org.sha256, key_id=zlib.crc32(org.sha256.encode()))


async def publish(folder: Path, orgs: Sequence[Org], redis_url: str) -> None:
    """The other organizations straight into the store, as control does: the file is for fewer."""
    config = load_good(read_set(folder))
    specs = {o.slug: OrgSpec(id=o.id, slug=o.slug, name=o.slug, plan="bench", anchor_ms=ANCHOR_MS, keys=(_key(o),)) for o in orgs}
    async with Redis.from_url(redis_url) as client:
        await Sidecar(client, SystemClock()).publish(replace(config, orgs=OrgSet(orgs=specs)))


async def open_buckets(redis_url: str) -> None:
    """What a supervisor does at its start: a worker alone finds every bucket open."""
    async with Redis.from_url(redis_url) as client:
        run_id = (await client.info("server"))["run_id"]
        await client.mset({keys.epoch(bucket): f"1 {run_id}" for bucket in range(keys.BUCKETS)})
