"""API keys: mint, import, list, rotate with an overlap, revoke. A key is shown once, where it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from billing.model.organization import ApiKey, Grants, check_label
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import Books, Unit
from metering.model.apikey import LONGEST, Kind, checksum_fails, hint, mint, sha256_hex
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict

Entropy = Callable[[], bytes]
ReadLimits = Callable[[Sequence[str]], Grants]


NO_GRANTS = Grants()


class KeyTaken(Conflict):
    """The key is on record already."""

    code = "key_taken"


class KeyFaulty(BadInput):
    """This cannot be an API key."""

    code = "key_faulty"


class KeyOver(Conflict):
    """The key was revoked or has expired."""

    code = "key_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """`api_key` is shown this once. `old` is what a rotation replaces. `published`: were the gateways told."""

    key: ApiKey
    api_key: str
    published: bool
    old: ApiKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """`known` were imported before, for the same organization."""

    added: tuple[ApiKey, ...]
    known: tuple[ApiKey, ...]
    published: bool


class Keys:
    """`entropy` gives at least 18 random bytes a call; `read_limits` knows how limits are typed."""

    def __init__(self, books: Books, entitlements: Entitlements, clock: Clock, *, entropy: Entropy, read_limits: ReadLimits) -> None:
        self._books, self._entitlements, self._clock, self._entropy = books, entitlements, clock, entropy
        self._read_limits = read_limits

    async def create(
        self, org_ref: str, *, label: str = "", test: bool = False, grants: Grants = NO_GRANTS, seconds: int | None = None
    ) -> NewKey:
        """One more key for an organization, good for so many seconds (None: until it is revoked).

        Raises NoSuchOrganization, ScopeFaulty, BadInput.
        """
        if seconds is not None and seconds <= 0:
            raise BadInput("a key is good for at least a second")
        ends_ms = None if seconds is None else self._clock.now_ms() + seconds * 1000
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            key, secret = await self.mint_into(unit, org.id, label=label, test=test, grants=grants.checked(), expires_at_ms=ends_ms)
            await unit.orgs.raise_versions([org.id])
        return NewKey(key=key, api_key=secret, published=await self._entitlements.tell([org.id]))

    async def mint_into(
        self, unit: Unit, org_id: str, *, label: str, test: bool, grants: Grants = NO_GRANTS, expires_at_ms: int | None = None
    ) -> tuple[ApiKey, str]:
        """A new key as part of a larger transaction, and its text."""
        secret = mint(self._entropy(), test=test)
        key = replace(self._fresh(org_id, secret, label=label, test=test), grants=grants, expires_at_ms=expires_at_ms)
        added = await unit.keys.insert(key)
        if added is None:
            raise KeyTaken("a fresh key equals one on record: the source of randomness is broken")
        return added, secret

    async def bring(self, org_ref: str, keys: Sequence[str], *, label: str = "") -> Imported:
        """Import keys that callers hold already; only their hashes are kept. All or none.

        Raises KeyFaulty (names the line, not the key), KeyTaken where one belongs to another organization or was
        revoked, NoSuchOrganization.
        """
        for number, text in enumerate(keys, 1):
            _check(text, number)
        added, known = [], []
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            for number, text in enumerate(keys, 1):
                fresh = await unit.keys.insert(self._fresh(org.id, text, label=label, imported=True))
                if fresh is not None:
                    added.append(fresh)
                else:
                    known.append(await self._own(unit, org.id, text, number))
            await unit.orgs.raise_versions([org.id])
        return Imported(added=tuple(added), known=tuple(known), published=await self._entitlements.tell([org.id]))

    async def add_certificate(
        self, org_ref: str, sha256: str, *, expires_at_ms: int, label: str = "", test: bool = False, grants: Grants = NO_GRANTS
    ) -> tuple[ApiKey, bool]:
        """A client certificate by its fingerprint, to stand for the organization. The flag: were the gateways told.

        Raises NoSuchOrganization, ScopeFaulty, KeyTaken, KeyOver for one that has expired.
        """
        now_ms = self._clock.now_ms()
        if expires_at_ms <= now_ms:
            raise KeyOver("this certificate has expired")
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            fresh = ApiKey(
                id=0, org_id=org.id, sha256=sha256, hint="…" + sha256[-8:], label=check_label(label), test=test, imported=True,
                created_at_ms=now_ms,
                expires_at_ms=expires_at_ms, kind=Kind.CERTIFICATE, grants=grants.checked(),
            )  # fmt: skip
            added = await unit.keys.insert(fresh)
            if added is None:
                raise KeyTaken("this certificate is on record already, or was revoked")
            await unit.orgs.raise_versions([org.id])
        return added, await self._entitlements.tell([org.id])

    def grants(self, scopes: Sequence[str], limits: Sequence[str]) -> Grants:
        """What is typed as api=1000/day, with scopes. Raises BadInput, ScopeFaulty."""
        return replace(self._read_limits(limits), scopes=tuple(dict.fromkeys(scopes))).checked()

    async def grant(
        self, key_ref: str, *, scopes: Sequence[str] | None = None, limits: Grants | None = None, within: str | None = None
    ) -> tuple[ApiKey, bool]:
        """Other scopes, or other limits (the quotas and rates of `limits`), in place of those a key carries; None leaves them. Acts on
        the next call. `within` an organization, no other's key. The flag: were the gateways told. Raises NoSuchKey, KeyOver,
        ScopeFaulty."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            key = await self._live(unit, key_ref, now_ms, within)
            grants = key.grants if scopes is None else replace(key.grants, scopes=tuple(scopes)).checked()
            grants = grants if limits is None else replace(grants, quotas=limits.quotas, rates=limits.rates)
            await unit.keys.grant(key.id, grants)
            await unit.orgs.raise_versions([key.org_id])
        return replace(key, grants=grants), await self._entitlements.tell([key.org_id])

    async def all(self, org_ref: str) -> list[ApiKey]:
        """Every key of an organization, the revoked too, by number. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            return await unit.keys.of_org((await lookup.organization(unit, org_ref)).id)

    async def rotate(self, key_ref: str, *, overlap_seconds: int = 86_400, within: str | None = None) -> NewKey:
        """A new key in place of one, which keeps working for the overlap (0: not another call).

        Raises NoSuchKey, KeyOver, BadInput.
        """
        if overlap_seconds < 0:
            raise BadInput("an overlap is at least 0 seconds")
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            old = await self._live(unit, key_ref, now_ms, within)
            if old.kind is Kind.CERTIFICATE:
                raise BadInput(f"{old.id} is a client certificate, which its holder renews; add the new one with key add-cert")
            key, secret = await self.mint_into(unit, old.org_id, label=old.label, test=old.test, grants=old.grants)
            await unit.keys.replace(old.id, key.id)
            old = replace(old, replaced_by=key.id)
            if overlap_seconds == 0:
                await unit.keys.revoke([old.id], now_ms)
                old = replace(old, revoked_at_ms=now_ms)
            else:
                ends_ms = min(now_ms + overlap_seconds * 1000, old.expires_at_ms or now_ms + overlap_seconds * 1000)
                await unit.keys.expire(old.id, ends_ms)
                old = replace(old, expires_at_ms=ends_ms)
            await unit.orgs.raise_versions([old.org_id])
        return NewKey(key=key, api_key=secret, old=old, published=await self._entitlements.tell([old.org_id]))

    async def revoke(self, key_ref: str, *, within: str | None = None) -> tuple[ApiKey, bool]:
        """Not another call with it. The flag: were the gateways told. Raises NoSuchKey, KeyOver for one revoked before."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            key = await lookup.key(unit, key_ref, within)
            await unit.orgs.find(key.org_id, lock=True)
            if key.revoked_at_ms is not None:
                raise KeyOver(f"key {key.id} was revoked before", key=key.id)
            await unit.keys.revoke([key.id], now_ms)
            await unit.orgs.raise_versions([key.org_id])
        return replace(key, revoked_at_ms=now_ms), await self._entitlements.tell([key.org_id])

    async def _live(self, unit: Unit, key_ref: str, now_ms: int, within: str | None) -> ApiKey:
        key = await lookup.key(unit, key_ref, within)
        await unit.orgs.find(key.org_id, lock=True)
        if key.status(now_ms) in ("revoked", "expired"):
            raise KeyOver(f"key {key.id} is {key.status(now_ms)}; make a new one with key create", key=key.id)
        return key

    async def _own(self, unit: Unit, org_id: str, text: str, number: int) -> ApiKey:
        found = await unit.keys.find(sha256=sha256_hex(text))
        if found is None or found.org_id != org_id:
            raise KeyTaken(f"key {number} of the list belongs to another organization; nothing was imported", line=number)
        if found.revoked_at_ms is not None:
            raise KeyTaken(f"key {number} of the list was revoked (key {found.id}); nothing was imported", line=number)
        return found

    def _fresh(self, org_id: str, text: str, *, label: str, test: bool = False, imported: bool = False) -> ApiKey:
        return ApiKey(
            id=0,
            org_id=org_id,
            sha256=sha256_hex(text),
            hint=hint(text) if len(text) >= 12 else "…",  # four characters of a short key are too much of it
            label=check_label(label),
            test=test,
            imported=imported,
            created_at_ms=self._clock.now_ms(),
        )


def _check(text: str, number: int) -> None:
    """What a header could not carry as it is, or the gateway would refuse unseen."""
    if not text or len(text) > LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise KeyFaulty(f"key {number} of the list must be 1 to {LONGEST} visible ASCII characters; nothing was imported", line=number)
    if checksum_fails(text):
        raise KeyFaulty(f"key {number} of the list starts with wbk_ and has a wrong checksum; nothing was imported", line=number)
