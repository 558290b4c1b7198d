"""Who is calling: keys, certificates and entitlements, fetched on first sight, kept by LRU, dropped when control says so.

Nothing here is O(organizations). A wrong entitlement never does harm: admission names the version it used, and a
version that is not the current one answers `stale`, which comes back here as `refresh`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import hiredis
import orjson

from config.gateway import Route
from metering.model import apikey, entitlement, keys
from metering.model.apikey import KeyRecord, Kind
from metering.model.entitlement import Entitlement
from metering.model.errors import StoreUnavailable, Unauthorized
from metering.store.redis.errors import LinkLost
from metering.store.redis.link import Link

from .charges import Charge
from .strangers import Strangers

MISS_WAIT_SECONDS = 0.3  # control answers a miss within milliseconds, or is away
STORE_WAIT_SECONDS = 0.5  # from the loss of the connection on
NEGATIVE_SECONDS = 5.0
UNKNOWN_REMEMBERED = 10_000
ASKED_AT_MOST = 10_000
_SECOND_CHANCES = 100
_EXPIRED = {
    Kind.KEY: "the API key has expired",
    Kind.CERTIFICATE: "the client certificate has expired",
    Kind.TOKEN: "the token has expired",
}
_UNKNOWN = {
    Kind.KEY: "the API key is unknown, revoked or expired",
    Kind.CERTIFICATE: "the client certificate is unknown, revoked or expired",
}


class Org:
    """One organization as this worker knows it; `charges` are its ready-made limit-and-cost vectors, `callers` who calls for it.

    `latest` is the charge that was asked for last, for that caller and method.
    """

    __slots__ = ("callers", "charges", "entitlement", "latest", "latest_method", "latest_of", "young")

    def __init__(self, entitlement: Entitlement) -> None:
        self.entitlement = entitlement
        self.charges: dict[tuple[int, str, int], Charge] = {}
        self.latest: Charge | None = None
        self.latest_of: Caller | None = None
        self.latest_method = ""
        self.callers: set[Caller] = set()
        self.young = False

    def forget_charge(self, name: tuple[int, str, int]) -> None:
        self.charges.pop(name, None)
        self.latest = self.latest_of = None

    def forget_charges(self) -> None:
        self.charges.clear()
        self.latest = self.latest_of = None


class Caller:
    """Whoever presents one active key, certificate or token, and the organization called for.

    `valid` until the directory lets go of either; then it must be looked up anew. `tenant`: whom of the organization's own customers
    the token names. `name` is what the directory keeps it under.
    """

    __slots__ = ("key", "lines", "name", "org", "tenant", "valid", "young")

    def __init__(self, name: str, key: KeyRecord, org: Org, tenant: str | None = None) -> None:
        self.name, self.key, self.org, self.tenant = name, key, org, tenant
        self.valid = self.young = False
        self.lines: bytes | None = None  # what the service is told of it, once that was asked for

    def may(self, route: Route) -> bool:
        """Whether it carries every scope that the route asks for."""
        return route.scopes <= self.key.scopes

    def refuse_expired(self, now_ms: int) -> None:
        """Raises Unauthorized."""
        expires = self.key.expires_at_ms
        if expires is not None and expires <= now_ms:
            raise Unauthorized(_EXPIRED[self.key.kind])


class Directory:
    """`caller(credential)` gives who is calling, or raises Unauthorized, TooManyUnknownKeys, StoreUnavailable.

    A caller that is kept is valid, and so is its Org. Who was used longest ago is forgotten first, as near as a mark set at each use
    tells (`touch`), which costs less than a place in a queue.
    """

    def __init__(self, link: Link, *, now_ms: Callable[[], int], monotonic: Callable[[], float], most: int = 100_000) -> None:
        self._link, self.now_ms, self._monotonic, self._most = link, now_ms, monotonic, most
        self.strangers = Strangers(monotonic)
        self._callers: OrderedDict[str, Caller] = OrderedDict()
        self._orgs: OrderedDict[str, Org] = OrderedDict()
        self._by_slug: dict[str, Org] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()  # what was asked for -> until when it is known to be unknown
        self._fetching: dict[str, asyncio.Task[Any]] = {}
        self._answers: dict[str, asyncio.Event] = {}

    # --- the hot path ----------------------------------------------------------------------------------------------
    def known(self, credential: str) -> Caller | None:
        """The caller, if this worker has seen the key before. No waiting."""
        return self.kept(_name(Kind.KEY, apikey.sha256_hex(credential)))

    def known_certificate(self, sha256_hex: str) -> Caller | None:
        """The same for a client certificate by its fingerprint."""
        return self.kept(_name(Kind.CERTIFICATE, sha256_hex))

    def kept(self, name: str) -> Caller | None:
        caller = self._callers.get(name)
        if caller is not None:
            self.touch(caller)
            caller.refuse_expired(self.now_ms())
        return caller

    @staticmethod
    def touch(caller: Caller) -> None:
        """It was used just now."""
        caller.young = caller.org.young = True

    # --- who is it -------------------------------------------------------------------------------------------------
    async def caller(self, credential: str, address: str) -> Caller:
        """Who presents this key; asks the store when it is new here."""
        if apikey.malformed(credential):
            self.strangers.refused(address)
            raise Unauthorized("the API key is malformed")
        return await self._caller(Kind.KEY, apikey.sha256_hex(credential), address)

    async def certificate(self, sha256_hex: str, address: str) -> Caller:
        """Who presents the client certificate of this fingerprint."""
        return await self._caller(Kind.CERTIFICATE, sha256_hex, address)

    async def _caller(self, kind: Kind, sha256_hex: str, address: str) -> Caller:
        name = _name(kind, sha256_hex)
        found = self.kept(name)
        if found is not None:
            return found
        if self._is_unknown(name):
            self.strangers.refused(address)
            raise Unauthorized(_UNKNOWN[kind])
        made: Caller = await self._once(name, lambda: self._look(kind, sha256_hex, address))
        return made

    async def member(self, ref: str, address: str) -> Org:
        """The organization of this id or slug, which somebody trusted has named. Raises Unauthorized where there is none."""
        found = self._orgs.get(ref) or self._by_slug.get(ref)
        if found is not None:
            return found
        name = f"org {ref}"
        if self._is_unknown(name):
            self.strangers.refused(address)
            raise Unauthorized("there is no such organization")
        org: Org = await self._once(name, lambda: self._look_for_org(name, ref, address))
        return org

    def keep(self, caller: Caller) -> Caller:
        """Remember a caller whom another has identified."""
        caller.refuse_expired(self.now_ms())
        self._keep_caller(caller)
        return caller

    async def refresh(self, caller: Caller) -> Caller:
        """Read the entitlement and the key again: admission said that they changed."""
        newer = self._callers.get(caller.name)
        if newer is not None and newer.org is not caller.org:
            return newer  # another call has done it
        if self._orgs.get(caller.key.org_id) is caller.org:
            self._drop_org(caller.key.org_id)
        self._drop_caller(caller.name)
        made: Caller = await self._once(caller.name, lambda: self._reread(caller))
        return made

    async def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """One fetch of a thing at a time, however many calls wait for it; a client that leaves does not end it."""
        task = self._fetching.get(name)
        if task is None:
            task = self._fetching[name] = asyncio.ensure_future(work())
            task.add_done_callback(lambda done: (self._fetching.pop(name, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    # --- fetching --------------------------------------------------------------------------------------------------
    async def _look(self, kind: Kind, sha256_hex: str, address: str) -> Caller:
        async with self.strangers.look(address):
            return await self._fetch(kind, sha256_hex)

    async def _look_for_org(self, name: str, ref: str, address: str) -> Org:
        async with self.strangers.look(address):
            try:
                org: Org = await self._store_says(lambda: self._read_member(ref))
            except Unauthorized:
                self._remember_unknown(name)
                raise
        return org

    async def _reread(self, caller: Caller) -> Caller:
        if caller.key.kind is not Kind.TOKEN:
            return await self._fetch(caller.key.kind, caller.name.partition(":")[2])
        org = await self._store_says(lambda: self._read_org(caller.key.org_id))
        return Caller(caller.name, caller.key, org, caller.tenant)  # for this call: whether the token is still good, tokens.py knows

    async def _fetch(self, kind: Kind, sha256_hex: str) -> Caller:
        name = _name(kind, sha256_hex)
        key = await self._store_says(lambda: self._read_key(name, kind, sha256_hex))
        return self.keep(Caller(name, key, await self._store_says(lambda: self._read_org(key.org_id))))

    async def _store_says(self, read: Callable[[], Awaitable[Any]]) -> Any:
        """What was read. No rule can decide for whom nobody knows, so a store that was lost just now (it forked, it failed over)
        is given a moment; one that stays away costs nobody a wait."""
        try:
            try:
                return await read()
            except LinkLost:
                if not await self._link.regained(STORE_WAIT_SECONDS):
                    raise
                return await read()
        except (LinkLost, hiredis.ReplyError) as exc:  # away, or full, loading, demoted: it cannot say
            raise StoreUnavailable("this key is not known here yet, and the store that knows it is away", rule="closed") from exc

    async def _read_key(self, name: str, kind: Kind, sha256_hex: str) -> KeyRecord:
        value = await self._get_or_ask(keys.api_key(sha256_hex), f"key {sha256_hex}", 0)
        record = apikey.record_from_json(value) if value is not None else None
        if record is None or record.kind is not kind:  # what is registered as a certificate is not to be had by a text, nor the reverse
            self._remember_unknown(name)
            raise Unauthorized(_UNKNOWN[kind])
        return record

    async def _read_org(self, org_id: str) -> Org:
        org = self._orgs.get(org_id)
        if org is None:
            value = await self._get_or_ask(keys.entitlement(org_id), f"org {org_id}", keys.bucket_of(org_id))
            if value is None:
                raise Unauthorized("the organization of this API key no longer exists")
            org = self._keep_org(Org(entitlement.from_json(orjson.loads(value))))
        return org

    async def _read_member(self, ref: str) -> Org:
        if entitlement.is_org_id(ref):
            return await self._read_org(ref)
        value = await self._get_or_ask(keys.slug(ref), f"slug {ref}", 0)
        org = await self._read_org(value.decode()) if value is not None else None
        if org is None or org.entitlement.slug != ref:  # a slug may be left behind by an organization that is gone
            raise Unauthorized("there is no such organization")
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
            self._unknown.pop(f"org {name}", None)
        elif kind in ("slug", "noslug"):
            self._unknown.pop(f"org {name}", None)
        elif kind in ("key", "nokey"):
            for each in (Kind.KEY, Kind.CERTIFICATE):
                self._drop_caller(_name(each, name))
                self._unknown.pop(_name(each, name), None)
        self.answered(kind, name)

    def answered(self, kind: str, name: str) -> None:
        """Whoever asked control about this finds it in the store by now, or never."""
        event = self._answers.get(f"{kind.removeprefix('no')} {name}")
        if event is not None:
            event.set()

    def forget_charges(self) -> None:
        """The routes changed: every ready-made charge is worked out again."""
        for org in self._orgs.values():
            org.forget_charges()

    def forget_all(self) -> None:
        """After a gap in the channel anything may have changed; versions would tell, this is cheaper to reason about."""
        for org_id in list(self._orgs):
            self._drop_org(org_id)
        self._unknown.clear()

    def forget(self, name: str) -> None:
        """This caller is good no longer."""
        self._drop_caller(name)

    # --- keeping ---------------------------------------------------------------------------------------------------
    def _keep_caller(self, caller: Caller) -> None:
        """Unless its Org was let go while the key was read: then it is good for this call, and looked up anew for the next."""
        if self._orgs.get(caller.key.org_id) is not caller.org:
            return
        self._drop_caller(caller.name)
        self._make_room(self._callers, self._drop_caller)
        self._callers[caller.name] = caller
        caller.org.callers.add(caller)
        caller.valid = True

    def _keep_org(self, org: Org) -> Org:
        """The same that another has read meanwhile stands: its callers stay valid."""
        org_id = org.entitlement.org_id
        other = self._orgs.get(org_id)
        if other is not None and other.entitlement == org.entitlement:
            return other
        self._drop_org(org_id)
        self._make_room(self._orgs, self._drop_org)
        self._orgs[org_id] = org
        self._by_slug[org.entitlement.slug] = org
        return org

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

    def _drop_caller(self, name: str) -> None:
        caller = self._callers.pop(name, None)
        if caller is not None:
            caller.valid = False
            caller.org.callers.discard(caller)
            if caller.org.latest_of is caller:  # else each keeps the other in memory, long after both were let go
                caller.org.latest = caller.org.latest_of = None

    def _drop_org(self, org_id: str) -> None:
        org = self._orgs.pop(org_id, None)
        if org is None:
            return
        if self._by_slug.get(org.entitlement.slug) is org:
            del self._by_slug[org.entitlement.slug]
        for caller in list(org.callers):
            self._drop_caller(caller.name)

    def _is_unknown(self, name: str) -> bool:
        return self._unknown.get(name, 0.0) > self._monotonic()

    def _remember_unknown(self, name: str) -> None:
        self._unknown[name] = self._monotonic() + NEGATIVE_SECONDS
        self._unknown.move_to_end(name)
        if len(self._unknown) > UNKNOWN_REMEMBERED:
            self._unknown.popitem(last=False)


def _name(kind: Kind, sha256_hex: str) -> str:
    return f"{kind}:{sha256_hex}"


async def _quietly(awaitable: Awaitable[Any]) -> None:
    """Wait; a time-out is an answer too."""
    try:
        await awaitable
    except TimeoutError:
        return
