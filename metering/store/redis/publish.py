"""What control tells the gateways: entitlements, their versions, active keys. The grammar is in model/keys.py.

Postgres (or, for a gateway alone, the YAML) is the truth; all this can be written again at any time.
"""

import json
from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from metering.model import bypass, keys
from metering.model import entitlement as entitlements
from metering.model.apikey import KeyRecord, record_to_json
from metering.model.bypass import Bypass
from metering.model.entitlement import Entitlement
from metering.model.seeding import Seed

from .scripts import load

NO_SEEDS: Mapping[str, Sequence[Seed]] = {}
_SEED = load("metering.store.redis", "seed")

_DELETE_IF = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


async def standing(client: Redis, org_ids: Sequence[str]) -> dict[str, Entitlement]:
    """What the gateways know of these organizations, where they know anything."""
    pipe = client.pipeline(transaction=False)
    for org_id in org_ids:
        pipe.get(keys.entitlement(org_id))
    texts = await pipe.execute() if org_ids else []
    return {org_id: entitlements.from_json(json.loads(text)) for org_id, text in zip(org_ids, texts, strict=True) if text is not None}


async def publish_orgs(
    client: Redis, orgs: Sequence[tuple[Entitlement, Sequence[tuple[str, KeyRecord]]]], seeds: Mapping[str, Sequence[Seed]] = NO_SEEDS
) -> None:
    """Write each entitlement, its version and its active keys (sha256 hex, record), then tell the gateways.

    `seeds`, by organization: what counters must begin with that begin with this version.
    """
    pipe = client.pipeline(transaction=False)
    for entitlement, active in orgs:
        org_id, bucket = entitlement.org_id, keys.bucket_of(entitlement.org_id)
        pipe.set(keys.slug(entitlement.slug), org_id)
        text = json.dumps(entitlements.to_json(entitlement), separators=(",", ":"))
        for sha256_hex, record in active:
            pipe.set(keys.api_key(sha256_hex), record_to_json(record))
        if seeds.get(org_id):
            names, words = _seeding(bucket, entitlement, text, seeds[org_id])
            pipe.eval(_SEED.body.decode(), len(names), *names, *words)
        else:
            pipe.set(keys.entitlement(org_id), text)
            pipe.hset(keys.versions(bucket), org_id, str(entitlement.version))
        pipe.publish(keys.CHANGED, f"org {org_id}")
    await pipe.execute()


def _seeding(bucket: int, entitlement: Entitlement, text: str, seeds: Sequence[Seed]) -> tuple[list[str], list[str]]:
    """Keys and arguments of lua/seed.lua."""
    names = [keys.versions(bucket), keys.epoch(bucket), keys.entitlement(entitlement.org_id)]
    words = [entitlement.org_id, str(entitlement.version), text]
    for seed in seeds:
        names += [seed.begun.counter, seed.begun.period_counter]
        words += [str(seed.offset), str(seed.expires_ms)]
    return names, words


async def withdraw_keys(client: Redis, hashes: Sequence[str]) -> None:
    """Forget revoked keys. The caller also raises the organization's version, so that the next call obeys."""
    pipe = client.pipeline(transaction=False)
    for sha256_hex in hashes:
        pipe.delete(keys.api_key(sha256_hex))
        pipe.publish(keys.CHANGED, f"nokey {sha256_hex}")
    await pipe.execute()


async def withdraw_org(client: Redis, org_id: str, slug: str, hashes: Sequence[str]) -> None:
    """Forget an organization and its keys; the next call with one of them is refused. Its slug may be another's by now."""
    pipe = client.pipeline(transaction=False)
    for sha256_hex in hashes:
        pipe.delete(keys.api_key(sha256_hex))
    pipe.delete(keys.entitlement(org_id))
    pipe.eval(_DELETE_IF, 1, keys.slug(slug), org_id)
    pipe.hdel(keys.versions(keys.bucket_of(org_id)), org_id)
    pipe.publish(keys.CHANGED, f"noorg {org_id}")
    await pipe.execute()


async def publish_bypasses(client: Redis, bypasses: Sequence[Bypass]) -> bool:
    """Make `bypasses` those in force, and tell the gateways; False where they stand there already.

    None is written too, as an empty list: a gateway that finds nothing at all knows that the store forgot, and goes on with
    those it knows until they end.
    """
    wanted = bypass.to_json(bypasses).encode()
    if await client.get(keys.BYPASS) == wanted:
        return False
    await client.set(keys.BYPASS, wanted)
    await client.publish(keys.CHANGED, "bypass")
    return True
