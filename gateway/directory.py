"""Who is calling: API keys and entitlements, fetched on first sight, kept by LRU, dropped when control says so.

Nothing here is O(organizations). A wrong entitlement never does harm: admission names the version it used, and a
version that is not the current one answers `stale`, which comes back here as `refresh`.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
import orjson

from metering.model import apikey, entitlement, keys
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.errors import StoreUnavailable, Unauthorized, WeighbridgeError
from metering.store.redis.link import Link, LinkLost

from .charges import Charge

MISS_WAIT_SECONDS = 0.3  # control answers a miss within milliseconds, or is away
NEGATIVE_SECONDS = 5.0
MISSES_PER_SECOND, MISS_BURST = 10.0, 20.0
ASKED_AT_MOST = 10_000
_SECOND_CHANCES = 100


class TooManyUnknownKeys(WeighbridgeError):
    """Too many unknown API keys from this address; try again in a second."""

    code, http_status, retryable = "too_many_unknown_keys", 429, True


class Org:
    """One organization as this worker knows it; `charges` are its ready-made limit-and-cost vectors, `callers` who calls for it."""

    __slots__ = ("callers", "charges", "entitlement", "young")

    def __init__(self, entitlement: Entitlement) -> None:
        self.entitlement = entitlement
        self.charges: dict[tuple[int, str, int], Charge] = {}
        self.callers: set[Caller] = set()
        self.young = False


class Caller:
    """An active key and its organization. `valid` until the directory lets go of either; then it must be looked up anew."""

    __slots__ = ("key", "org", "sha256_hex", "valid", "young")

    def __init__(self, sha256_hex: str, key: KeyRecord, org: Org) -> None:
        self.sha256_hex, self.key, self.org = sha256_hex, key, org
        self.valid = self.young = False


class Directory:
    """`caller(credential)` gives who is calling, or raises Unauthorized, TooManyUnknownKeys, StoreUnavailable.

    A caller that is kept is valid, and so is its Org. Who was used longest ago is forgotten first, as near as a mark set at each use
    tells (`touch`), which costs less than a place in a queue.
    """

    def __init__(self, link: Link, *, now_ms: Callable[[], int], monotonic: Callable[[], float], most: int = 100_000) -> None:
        self._link, self._now_ms, self._monotonic, self._most = link, now_ms, monotonic, most
        self._callers: OrderedDict[str, Caller] = OrderedDict()
        self._orgs: OrderedDict[str, Org] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()  # hash -> until when it is known to be unknown
        self._fetching: dict[str, asyncio.Task[Caller]] = {}
        self._answers: dict[str, asyncio.Event] = {}
        self._misses: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (tokens, since)

    # --- the hot path ----------------------------------------------------------------------------------------------
    def known(self, credential: str) -> Caller | None:
        """The caller, if this worker has seen the key before. No waiting."""
        caller = self._callers.get(apikey.sha256_hex(credential))
        if caller is None:
            return None
        self.touch(caller)
        self._refuse_expired(caller)
        return caller

    @staticmethod
    def touch(caller: Caller) -> None:
        """It was used just now."""
        caller.young = caller.org.young = True

    async def caller(self, credential: str, address: str) -> Caller:
        """Who presents this key; asks the store when it is new here."""
        found = self.known(credential)
        if found is not None:
            return found
        if not credential or apikey.checksum_fails(credential):
            raise Unauthorized("the API key is malformed")
        sha256_hex = apikey.sha256_hex(credential)
        if self._unknown.get(sha256_hex, 0.0) > self._monotonic():
            raise Unauthorized("the API key is unknown, revoked or expired")
        task = self._fetching.get(sha256_hex)
        if task is None:
            self._refuse_flood(address)
            task = self._begin_fetch(sha256_hex)
        try:
            return await asyncio.shield(task)
        except Unauthorized:
            self._spend_miss(address)
            raise

    async def refresh(self, caller: Caller) -> Caller:
        """Read the entitlement and the key again: admission said that they changed."""
        sha256_hex = caller.sha256_hex
        newer = self._callers.get(sha256_hex)
        if newer is not None and newer.org is not caller.org:
            return newer  # another call has done it
        if self._orgs.get(caller.key.org_id) is caller.org:
            self._drop_org(caller.key.org_id)
        self._drop_caller(sha256_hex)
        return await asyncio.shield(self._fetching.get(sha256_hex) or self._begin_fetch(sha256_hex))

    def _begin_fetch(self, sha256_hex: str) -> "asyncio.Task[Caller]":
        """One fetch a key at a time, however many calls wait for it."""
        task = self._fetching[sha256_hex] = asyncio.ensure_future(self._fetch(sha256_hex))
        task.add_done_callback(lambda done: (self._fetching.pop(sha256_hex, None), done.cancelled() or done.exception()))
        return task

    def _refuse_expired(self, caller: Caller) -> None:
        expires = caller.key.expires_at_ms
        if expires is not None and expires <= self._now_ms():
            raise Unauthorized("the API key has expired")

    # --- fetching --------------------------------------------------------------------------------------------------
    async def _fetch(self, sha256_hex: str) -> Caller:
        try:
            key = await self._read_key(sha256_hex)
            caller = Caller(sha256_hex, key, await self._read_org(key.org_id))
        except (LinkLost, hiredis.ReplyError) as exc:  # away, or full, loading, demoted: it cannot say
            raise StoreUnavailable("this key is not known here yet, and the store that knows it is away", rule="closed") from exc
        self._refuse_expired(caller)
        self._keep_caller(caller)
        return caller

    async def _read_key(self, sha256_hex: str) -> KeyRecord:
        value = await self._get_or_ask(keys.api_key(sha256_hex), f"key {sha256_hex}", 0)
        if value is None:
            self._remember(self._unknown, sha256_hex, self._monotonic() + NEGATIVE_SECONDS, 10_000)
            raise Unauthorized("the API key is unknown, revoked or expired")
        return apikey.record_from_json(value)

    async def _read_org(self, org_id: str) -> Org:
        org = self._orgs.get(org_id)
        if org is None:
            value = await self._get_or_ask(keys.entitlement(org_id), f"org {org_id}", keys.bucket_of(org_id))
            if value is None:
                raise Unauthorized("the organization of this API key no longer exists")
            org = Org(entitlement.from_json(orjson.loads(value)))
            self._keep_org(org)
        return org

    async def _get_or_ask(self, key: str, question: str, bucket: int) -> bytes | None:
        """The value; on a miss control is asked. None only where the store is whole: else StoreUnavailable."""
        value: bytes | None = await self._link.execute("GET", key)
        if value is not None:
            return value
        event = self._answers.setdefault(question, asyncio.Event())
        try:
            await self._link.execute("RPUSH", keys.ASKED, question)
            await self._link.execute("LTRIM", keys.ASKED, -ASKED_AT_MOST, -1)
            await _quietly(asyncio.wait_for(event.wait(), MISS_WAIT_SECONDS))
            value = await self._link.execute("GET", key)
        finally:
            self._answers.pop(question, None)
        if value is None and not await self._stands(bucket):
            raise StoreUnavailable("the store is being restored; try again in a moment", rule="closed")
        return value

    async def _stands(self, bucket: int) -> bool:
        """Whether the store holds all it should: its epoch is there, and blessed for this very server."""
        epoch: bytes | None = await self._link.execute("GET", keys.epoch(bucket))
        parts = (epoch or b"").decode().split(" ")
        return len(parts) > 1 and self._link.server is not None and parts[1] == self._link.server.run_id

    # --- what control says -----------------------------------------------------------------------------------------
    def heard(self, kind: str, name: str) -> None:
        """A message of the `changed` channel."""
        if kind in ("org", "noorg"):
            self._drop_org(name)
        elif kind in ("key", "nokey"):
            self._drop_caller(name)
            self._unknown.pop(name, None)
        event = self._answers.get(f"{kind.removeprefix('no')} {name}")
        if event is not None:
            event.set()

    def forget_charges(self) -> None:
        """The routes changed: every ready-made charge is worked out again."""
        for org in self._orgs.values():
            org.charges.clear()

    def forget_all(self) -> None:
        """After a gap in the channel anything may have changed; versions would tell, this is cheaper to reason about."""
        for org_id in list(self._orgs):
            self._drop_org(org_id)
        self._unknown.clear()

    # --- keeping ---------------------------------------------------------------------------------------------------
    def _keep_caller(self, caller: Caller) -> None:
        """Unless its Org was let go while the key was read: then it is good for this call, and looked up anew for the next."""
        if self._orgs.get(caller.key.org_id) is not caller.org:
            return
        self._drop_caller(caller.sha256_hex)
        self._make_room(self._callers, self._drop_caller)
        self._callers[caller.sha256_hex] = caller
        caller.org.callers.add(caller)
        caller.valid = True

    def _keep_org(self, org: Org) -> None:
        org_id = org.entitlement.org_id
        self._drop_org(org_id)
        self._make_room(self._orgs, self._drop_org)
        self._orgs[org_id] = org

    def _make_room(self, kept: "OrderedDict[str, Any]", drop: Callable[[str], None]) -> None:
        """Let go of who was used longest ago; who was used since its last turn gets another, within bounds."""
        chances = _SECOND_CHANCES
        while len(kept) >= self._most:
            name, oldest = next(iter(kept.items()))
            if oldest.young and chances:
                oldest.young = False
                kept.move_to_end(name)
                chances -= 1
            else:
                drop(name)

    def _drop_caller(self, sha256_hex: str) -> None:
        caller = self._callers.pop(sha256_hex, None)
        if caller is not None:
            caller.valid = False
            caller.org.callers.discard(caller)

    def _drop_org(self, org_id: str) -> None:
        org = self._orgs.pop(org_id, None)
        for caller in list(org.callers) if org is not None else ():
            self._drop_caller(caller.sha256_hex)

    # --- misses ----------------------------------------------------------------------------------------------------
    def _allowance(self, address: str) -> float:
        tokens, since = self._misses.get(address, (MISS_BURST, 0.0))
        return min(MISS_BURST, tokens + (self._monotonic() - since) * MISSES_PER_SECOND)

    def _refuse_flood(self, address: str) -> None:
        """Unknown keys from one address, one after another, are refused before they cost the store anything."""
        if self._allowance(address) < 1:
            raise TooManyUnknownKeys(retry_after=math.ceil((1 - self._allowance(address)) / MISSES_PER_SECOND))

    def _spend_miss(self, address: str) -> None:
        """A key turned out to be unknown. First sight of a good one costs nothing, however many come at once."""
        left = max(self._allowance(address) - 1, -MISS_BURST)
        self._remember(self._misses, address, (left, self._monotonic()), 10_000)

    @staticmethod
    def _remember(cache: "OrderedDict[str, Any]", name: str, value: Any, most: int) -> None:
        cache[name] = value
        cache.move_to_end(name)
        if len(cache) > most:
            cache.popitem(last=False)


async def _quietly(awaitable: Awaitable[Any]) -> None:
    """Wait; a time-out is an answer too."""
    try:
        await awaitable
    except TimeoutError:
        return
