"""Bearer tokens (JWT): verified once, remembered until they expire.

Signatures are PyJWT's affair, claims are read here against the worker's clock (RFC 7519, and RFC 8725 for what to refuse). Which key
verifies a token is fixed by the configuration: a secret for HS…, else a key of the issuer's set that suits the algorithm; so no
token can choose to be checked in another way than its issuer signs.
"""

import base64
import binascii
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from jwt import PyJWK, PyJWS
from jwt.exceptions import PyJWTError

from config.gateway import JwtIdentity
from metering.model.apikey import KeyRecord, Kind, is_scope
from metering.model.entitlement import is_org_id, is_slug
from metering.model.errors import ConfigFaulty, Unauthorized

from .directory import Caller, Directory
from .jwks import IssuerUnavailable, KeySet, KeySets

LONGEST_TOKEN = 16_000  # characters
REMEMBERED = 100_000
LEAST_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2
_LONGEST_HEADER = 4_000
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")  # of others a token may be meant for somebody else (RFC 8725 §3.11)
_LONGEST_TENANT = 128
_tags = count(1)


class InvalidToken(Unauthorized):
    """The token is not valid."""

    code = "invalid_token"

    def __init__(self, message: str) -> None:
        """`message` is one of ours: nothing that a client sent stands in it."""
        super().__init__(message)
        self.challenge = f'Bearer realm="api", error="invalid_token", error_description="{message}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a good token says. `ends_ms` is its expiry, the skew included; `key` what verified it."""

    org: str
    ends_ms: int
    scopes: frozenset[str]
    tenant: str | None
    key: PyJWK


class Issuer:
    """One way to take tokens: whose, and with which keys."""

    def __init__(self, way: JwtIdentity, keys: KeySet | PyJWK) -> None:
        self.way, self._keys = way, keys
        self._jws = PyJWS(algorithms=list(way.algorithms))

    @property
    def keys(self) -> KeySet | None:
        return self._keys if isinstance(self._keys, KeySet) else None

    async def verify(self, token: str, now_ms: Callable[[], int]) -> Verified:
        """Raises InvalidToken, IssuerUnavailable."""
        header = _part(token.partition(".")[0])
        key = await self._key(self._algorithm(header), header.get("kid"))
        try:
            payload = self._jws.decode(token, key, algorithms=[key.algorithm_name])
            claims = orjson.loads(payload)
        except (PyJWTError, ValueError) as exc:
            raise InvalidToken("the signature does not fit") from exc
        return _read_claims(claims if isinstance(claims, dict) else {}, self.way, key, now_ms())

    def _algorithm(self, header: Mapping[str, Any]) -> str:
        algorithm, kind = header.get("alg"), header.get("typ")
        if not isinstance(algorithm, str) or algorithm not in self.way.algorithms:
            raise InvalidToken("the algorithm is not one that is taken here")
        if "crit" in header or "b64" in header:
            raise InvalidToken("the header asks for what is not known here")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise InvalidToken("the token is of another type")
        return algorithm

    async def _key(self, algorithm: str, kid: object) -> PyJWK:
        if isinstance(self._keys, PyJWK):
            if self._keys.algorithm_name != algorithm:
                raise InvalidToken("the algorithm is not one that is taken here")
            return self._keys
        if kid is not None and not isinstance(kid, str):
            raise InvalidToken("the key id is no text")
        found = self._keys.find(kid, algorithm)
        if found is None:
            await self._keys.learn()
            found = self._keys.find(kid, algorithm)
        if found is not None:
            return found
        if self._keys.failing or not self._keys.ever_fetched:
            raise IssuerUnavailable
        raise InvalidToken("no key of the issuer fits")


class Tokens:
    """Who presents a token, for one list of issuers."""

    def __init__(self, ways: Sequence[JwtIdentity], issuers: Sequence[Issuer], directory: Directory) -> None:
        self.ways = tuple(ways)
        self._issuers = {issuer.way.issuer: issuer for issuer in issuers}
        self._directory = directory
        self._verified: OrderedDict[str, Verified] = OrderedDict()
        self._tag = f"{Kind.TOKEN}:{next(_tags)}:"  # callers of another configuration's tokens are no callers of these
        for issuer in issuers:
            if issuer.keys is not None:
                issuer.keys.on_lost = self._forget_unheld

    def known(self, token: str) -> Caller | None:
        """Who presents it, if it was verified here before. No waiting, no cryptography."""
        return self._directory.kept(self._name(token))

    async def find(self, token: str, address: str) -> Caller:
        """Who presents it. What can be refused without cryptography is; bad signatures are held down by address."""
        name = self._name(token)
        verified = self._verified.get(name) or await self._verify(name, token, address)
        try:
            org = await self._directory.member(verified.org, address)
        except Unauthorized as exc:
            raise InvalidToken("the organization that the token names is not known here") from exc
        record = KeyRecord(key_id=0, org_id=org.entitlement.org_id, expires_at_ms=verified.ends_ms, kind=Kind.TOKEN, scopes=verified.scopes)
        if self._verified.get(name) is not verified:  # withdrawn while its organization was read
            return await self.find(token, address)
        return self._directory.keep(Caller(name, record, org, verified.tenant))

    def tend(self) -> None:
        """Called each second or so: so that a key which its issuer withdrew is not believed for long."""
        for issuer in self._issuers.values():
            if issuer.keys is not None:
                issuer.keys.tend()

    def _name(self, token: str) -> str:
        return self._tag + hashlib.sha256(token.encode("latin-1")).hexdigest()

    async def _verify(self, name: str, token: str, address: str) -> Verified:
        strangers = self._directory.strangers
        try:
            issuer = self._issuer(token)
        except InvalidToken:
            strangers.refused(address)
            raise
        strangers.check(address)
        try:
            verified = await issuer.verify(token, self._directory.now_ms)
        except InvalidToken:
            strangers.missed(address)
            raise
        self._verified[name] = verified
        if len(self._verified) > REMEMBERED:  # whoever is kept must be found here when a key is withdrawn
            self._directory.forget(self._verified.popitem(last=False)[0])
        return verified

    def _issuer(self, token: str) -> Issuer:
        """Whose it claims to be; its signature then shows whether it is."""
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise InvalidToken("the token is malformed")
        header, payload, _ = token.split(".")
        _part(header, _LONGEST_HEADER)
        claimed = _part(payload).get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise InvalidToken("the issuer is not one that is trusted here")
        return issuer

    def _forget_unheld(self) -> None:
        """A key was withdrawn by its issuer: what it signed is verified anew, and then refused."""
        sets = [issuer.keys for issuer in self._issuers.values() if issuer.keys is not None]
        for name, verified in list(self._verified.items()):
            if not any(keys.holds(verified.key) for keys in sets) and not verified.key.algorithm_name.startswith("HS"):
                del self._verified[name]
                self._directory.forget(name)


def open_tokens(ways: Sequence[JwtIdentity], secrets: Callable[[str], str | None], sets: KeySets, directory: Directory) -> Tokens:
    """`secrets` gives the value of an environment variable. Raises ConfigFaulty for a secret that is missing or too short."""
    issuers = [Issuer(way, _secret(way, secrets) if way.secret_env else sets.at(way.jwks_url or "")) for way in ways]
    sets.keep_only({way.jwks_url for way in ways if way.jwks_url})
    return Tokens(ways, issuers, directory)


def _secret(way: JwtIdentity, secrets: Callable[[str], str | None]) -> PyJWK:
    value = (secrets(way.secret_env or "") or "").encode()
    algorithm = way.algorithms[0]
    least = LEAST_SECRET_BYTES[algorithm]
    if len(value) < least:
        raise ConfigFaulty(
            f"identity: jwt: secret_env: {way.secret_env} "
            + (f"holds {len(value)} bytes; a secret for {algorithm} has at least {least}" if value else "is not set where the gateway runs")
        )
    return PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(value).rstrip(b"=").decode()}, algorithm=algorithm)


def _part(segment: str, longest: int = LONGEST_TOKEN) -> Mapping[str, Any]:
    """The JSON object in one part of a token. Raises InvalidToken."""
    try:
        if len(segment) > longest:
            raise ValueError
        value = orjson.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, binascii.Error) as exc:
        raise InvalidToken("the token is malformed") from exc
    if not isinstance(value, dict):
        raise InvalidToken("the token is malformed")
    return value


# --- claims ---------------------------------------------------------------------------------------------------------------


def _read_claims(claims: Mapping[str, Any], way: JwtIdentity, key: PyJWK, now_ms: int) -> Verified:
    """RFC 7519 §4.1. A token without an end is none."""
    if claims.get("iss") != way.issuer:
        raise InvalidToken("the issuer is not one that is trusted here")
    audience = claims.get("aud")
    if not any(one in way.audience for one in (audience if isinstance(audience, list) else [audience]) if isinstance(one, str)):
        raise InvalidToken("the token is meant for another audience")
    skew_ms = round(way.skew_s * 1000)
    ends_ms = _instant(claims, "exp", required=True)
    assert ends_ms is not None
    if ends_ms + skew_ms <= now_ms:
        raise InvalidToken("the token has expired")
    for name in ("nbf", "iat"):
        begins_ms = _instant(claims, name)
        if begins_ms is not None and begins_ms - skew_ms > now_ms:
            raise InvalidToken("the token is not valid yet")
    return Verified(
        org=_org(claims, way.org_claim),
        ends_ms=ends_ms + skew_ms,
        scopes=_scopes(claims.get(way.scopes_claim)),
        tenant=_tenant(claims, way.tenant_claim),
        key=key,
    )


def _instant(claims: Mapping[str, Any], name: str, *, required: bool = False) -> int | None:
    """Milliseconds."""
    value = claims.get(name)
    if value is None and not required:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < 2**40:
        raise InvalidToken(f"the claim {name} is missing or no instant")
    return round(value * 1000)


def _org(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not (is_org_id(value) or is_slug(value)):
        raise InvalidToken("the token names no organization")
    return value


def _scopes(value: object) -> frozenset[str]:
    words = value.split(" ") if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(word for word in words if isinstance(word, str) and is_scope(word))


def _tenant(claims: Mapping[str, Any], name: str | None) -> str | None:
    """It goes to the service in a header field, so it must be fit for one."""
    value = claims.get(name) if name else None
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_TENANT or not text.isascii() or not text.isprintable():
        raise InvalidToken("the tenant that the token names will not do")
    return text
