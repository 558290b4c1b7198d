"""A gateway alone: without Postgres its supervisor compiles orgs.yaml and plans.yaml into Redis, and answers misses.

What stands in Redis already and is the same is left alone.
Epochs are opened by weighbridge/standalone.py.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing.model.organization import Organization
from billing.services.entitlements import compile_entitlement
from config.load import Configuration
from config.plans import OverrideSpec
from metering.model import keys
from metering.model.apikey import KeyRecord, record_from_json
from metering.model.clock import Clock
from metering.model.entitlement import Entitlement, Override
from metering.model.seeding import Seed, begun
from metering.store.redis.publish import publish_bypasses, publish_orgs, standing, withdraw_keys, withdraw_org

from .bypass_file import in_force
from .checkpoint import Checkpoint

log = logging.getLogger("weighbridge.sidecar")

_LISTEN_SECONDS = 1
_AWAY_SECONDS = 1.0
_BATCH = 500

Published = dict[str, tuple[Entitlement, dict[str, KeyRecord]]]


def compiled(config: Configuration, now_ms: int) -> Published:
    """org id -> what it may do and its active keys, out of the YAML alone. Pure. The version is given on publishing."""
    if config.orgs is None:
        return {}
    result: Published = {}
    for org in config.orgs.orgs.values():
        held = Organization(id=org.id, slug=org.slug, name=org.name, version=0)
        override = config.plans.overrides.get(org.slug)
        overrides = [_override(override)] if override else []
        entitlement = compile_entitlement(held, config.plans.plans[org.plan], 0, overrides, org.anchor_ms, 0, now_ms)
        records = {
            key.sha256: KeyRecord(
                key_id=key.key_id,
                org_id=org.id,
                expires_at_ms=key.expires_at_ms,
                test=key.test,
                kind=key.kind,
                scopes=key.scopes,
                quotas=key.quotas,
            )
            for key in org.keys
        }
        result[org.id] = (entitlement, records)
    return result


def _override(spec: OverrideSpec) -> Override:
    return Override(
        quotas=spec.quotas, rates=spec.rates, concurrency=spec.concurrency, until_ms=spec.until_ms, reason=spec.reason
    )  # fmt: skip


class Sidecar:
    """Keeps Redis as the YAML says, and the bypasses as `data_dir` does (None: there are none). `publish` again whenever the
    YAML changed or the store forgot."""

    def __init__(self, client: Redis, clock: Clock, data_dir: Path | None = None) -> None:
        self._client, self._clock, self._data_dir = client, clock, data_dir
        self._published: Published = {}

    async def publish(self, config: Configuration) -> None:
        """Write what differs, withdraw what is gone. Raises RedisError."""
        wanted = compiled(config, self._clock.now_ms())
        forced = await self._strangers(wanted) if not self._published else set()
        for org_id, (entitlement, records) in self._published.items():
            if org_id not in wanted:
                await withdraw_org(self._client, org_id, entitlement.slug, list(records))
            elif records != wanted[org_id][1]:
                await withdraw_keys(self._client, sorted(set(records) - set(wanted[org_id][1])))
                forced.add(org_id)
        self._published = wanted
        await self._write(wanted, forced)
        await self._tell_bypasses()

    async def _tell_bypasses(self) -> None:
        try:
            standing = in_force(self._data_dir, self._clock.now_ms()) if self._data_dir is not None else []
        except (OSError, ValueError, TypeError) as exc:
            log.error("the bypasses cannot be read (%s); those that the gateways know stay until they end", exc)
            return
        await publish_bypasses(self._client, standing)

    async def _strangers(self, wanted: Published) -> set[str]:
        """Withdraw keys that the store holds and the YAML does not: taken out while no supervisor ran. Returns whose they were."""
        active = {sha for _, records in wanted.values() for sha in records}
        prefix, owners = keys.api_key(""), set()
        async for name in self._client.scan_iter(match=keys.api_key("*"), count=1000):
            sha = (name.decode() if isinstance(name, bytes) else name).removeprefix(prefix)
            if sha not in active and (record := await self._client.get(name)) is not None:
                owners.add(record_from_json(record).org_id)
                await withdraw_keys(self._client, [sha])
        return owners & wanted.keys()

    async def run(self) -> None:
        """Answer what workers miss, for ever; wait while the store is away."""
        while True:
            try:
                asked = await self._client.blpop([keys.ASKED], timeout=_LISTEN_SECONDS)
                if asked is not None:
                    await self._answer(str(asked[1], "ascii") if isinstance(asked[1], bytes) else asked[1])
                else:
                    await self._tell_bypasses()
            except RedisError as exc:
                log.warning("the store is away, misses wait: %s", exc)
                await asyncio.sleep(_AWAY_SECONDS)

    async def _answer(self, question: str) -> None:
        kind, _, what = question.partition(" ")
        owner = self._owner(kind, what)
        if owner in self._published:
            await self._write({owner: self._published[owner]}, set())
            await self._client.publish(keys.CHANGED, question)
        else:
            await self._client.publish(keys.CHANGED, f"no{kind} {what}")

    def _owner(self, kind: str, what: str) -> str | None:
        if kind == "org":
            return what
        if kind == "slug":
            return next((org_id for org_id, (entitlement, _) in self._published.items() if entitlement.slug == what), None)
        return next((org_id for org_id, (_, records) in self._published.items() if what in records), None)

    async def _write(self, orgs: Mapping[str, tuple[Entitlement, dict[str, KeyRecord]]], forced: set[str]) -> None:
        """Each under its standing version if nothing changed, else under a new one: the clock, which only rises."""
        ids = list(orgs)
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            known = await standing(self._client, batch)
            told = [(self._versioned(orgs[o][0], known.get(o), o in forced), list(orgs[o][1].items())) for o in batch]
            await publish_orgs(self._client, told, self._seeds(known, [entitlement for entitlement, _ in told]))

    def _versioned(self, entitlement: Entitlement, known: Entitlement | None, forced: bool) -> Entitlement:
        if known is not None and not forced and replace(known, version=0) == entitlement:
            return known
        return replace(entitlement, version=self._clock.now_ms())

    def _seeds(self, known: Mapping[str, Entitlement], told: Sequence[Entitlement]) -> dict[str, list[Seed]]:
        """What counters must begin with that begin with what is told now, by the checkpoint."""
        now_ms = self._clock.now_ms()
        begin = [b for e in told if e.org_id in known for b in begun(known[e.org_id], e, now_ms)]
        if not begin or self._data_dir is None:
            return {}
        checkpoint, seeds = Checkpoint(self._data_dir / "journal"), dict[str, list[Seed]]()
        for one in begin:
            seeds.setdefault(one.org_id, []).append(Seed(one, checkpoint.offset(one)))
        return seeds
