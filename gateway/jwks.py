"""The public keys of a token's issuer: fetched in the background, kept while they cannot be fetched again.

A token with an unknown key id asks for them anew, at most once in ten seconds however many tokens come. A set that cannot be read
changes nothing. Which key may verify which algorithm is decided here, by the key, never by the token alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from metering.model.errors import WeighbridgeError
from metering.model.outward import Forbidden, Reach
from metering.outgoing import guarded

log = logging.getLogger("weighbridge.gateway")

AGAIN_SECONDS = 10.0  # between two fetches
FRESH_SECONDS = 300.0
FETCH_SECONDS = 5.0
LARGEST_BYTES = 256 * 1024
MOST_KEYS = 100
_LEAST_RSA_BITS = 2048  # RFC 7518 §3.3
_CURVES = {"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521")}


class IssuerUnavailable(WeighbridgeError):
    """The keys of the token's issuer cannot be fetched right now; try again in a moment."""

    code, http_status, retryable = "issuer_unavailable", 503, True


class Unreadable(ValueError):
    """What was fetched is no set of keys."""


Fetch = Callable[[str], Awaitable[bytes]]


async def fetch_over_http(url: str) -> bytes:
    """At most LARGEST_BYTES within FETCH_SECONDS, from where the operator's own files may lead (metering/outgoing.py); redirects are not
    followed. Raises Unreadable, Forbidden, OSError, aiohttp.ClientError."""
    async with (
        asyncio.timeout(FETCH_SECONDS),
        aiohttp.ClientSession(connector=guarded(url, Reach.OPERATOR)) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
    ):
        if response.status != 200:
            raise Unreadable(f"it answers {response.status}")
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > LARGEST_BYTES:
                raise Unreadable(f"it sends more than {LARGEST_BYTES} bytes")
        return body


def read_keys(body: bytes) -> list[Mapping[str, Any]]:
    """The public keys for signatures in a JWK set (RFC 7517 §5); what else stands in it is left out. Raises Unreadable."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Unreadable("it is no JSON") from exc
    found = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise Unreadable("it has no list of keys")
    return [key for key in found[:MOST_KEYS] if isinstance(key, dict) and _verifies(key)]


def _verifies(jwk: Mapping[str, Any]) -> bool:
    """Never a secret: with one, whoever reads the set could sign."""
    operations = jwk.get("key_ops")
    return (
        jwk.get("kty") in ("RSA", "EC", "OKP")
        and jwk.get("use", "sig") == "sig"
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def suits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    """Whether this key may verify this algorithm."""
    if jwk.get("alg", algorithm) != algorithm:
        return False
    if algorithm in _CURVES:
        return (jwk.get("kty"), jwk.get("crv")) == _CURVES[algorithm]
    if algorithm == "EdDSA":
        return jwk.get("kty") == "OKP" and jwk.get("crv") in ("Ed25519", "Ed448")
    return algorithm[:2] in ("RS", "PS") and jwk.get("kty") == "RSA"


class KeySet:
    """One address of keys. `on_lost` is called after a fetch in which a key that was used is gone."""

    def __init__(self, url: str, *, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self.url = url
        self.on_lost: Callable[[], None] = lambda: None
        self._fetch, self._monotonic = fetch, monotonic
        self._keys: list[Mapping[str, Any]] | None = None
        self._made: dict[tuple[str | None, str], tuple[Mapping[str, Any], PyJWK]] = {}
        self._tried_at = self._fetched_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failing = False

    @property
    def ever_fetched(self) -> bool:
        return self._keys is not None

    @property
    def failing(self) -> bool:
        """Whether the last fetch failed: then an unknown key may well be a good one."""
        return self._failing

    def holds(self, key: PyJWK) -> bool:
        """Whether it still stands in the set."""
        return any(key is made for _, made in self._made.values())

    def tend(self) -> None:
        """Fetch anew, for later, where the set has grown old. Called each second or so, whether tokens come or not."""
        if self._monotonic() - self._fetched_at > FRESH_SECONDS:
            self._begin()

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this id; without an id the only one that suits."""
        known = self._made.get((kid, algorithm))
        if known is not None or self._keys is None:
            return known[1] if known is not None else None
        fitting = [jwk for jwk in self._keys if suits(jwk, algorithm) and (kid is None or jwk.get("kid") == kid)]
        if not fitting or (kid is None and len(fitting) > 1):
            return None
        made = _make(fitting[0], algorithm)
        if made is not None:
            self._made[kid, algorithm] = fitting[0], made
        return made

    async def learn(self) -> None:
        """Wait for a fetch that is under way, or may begin now."""
        self._begin()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _begin(self) -> None:
        now = self._monotonic()
        if self._fetching is None and now - self._tried_at >= AGAIN_SECONDS:
            self._tried_at = now
            self._fetching = asyncio.ensure_future(self._refresh())
            self._fetching.add_done_callback(self._ended)

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _refresh(self) -> None:
        try:
            keys = read_keys(await self._fetch(self.url))
        except (Unreadable, Forbidden, OSError, TimeoutError, aiohttp.ClientError) as exc:
            if not self._failing:
                log.error("the keys at %s cannot be fetched (%s); %s", self.url, exc or type(exc).__name__, self._meanwhile())
            self._failing = True
            return
        if self._failing:
            log.info("the keys at %s are fetched again", self.url)
        self._failing, self._fetched_at = False, self._monotonic()
        self._keys = keys
        lost = [name for name, (jwk, _) in self._made.items() if name[0] is None or jwk not in keys]
        for name in lost:
            del self._made[name]
        if lost:
            self.on_lost()

    def _meanwhile(self) -> str:
        return "those known go on" if self.ever_fetched else "tokens of this issuer are refused with 503"


def _make(jwk: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    """Bound to one algorithm. None for a key that is broken or too short."""
    try:
        made = PyJWK(dict(jwk), algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    bits = getattr(made.key, "key_size", _LEAST_RSA_BITS)
    return made if jwk.get("kty") != "RSA" or bits >= _LEAST_RSA_BITS else None


class KeySets:
    """The key sets of a worker, by address: a new configuration goes on with what was fetched."""

    def __init__(self, monotonic: Callable[[], float], fetch: Fetch = fetch_over_http) -> None:
        self._monotonic, self._fetch = monotonic, fetch
        self._sets: dict[str, KeySet] = {}

    def at(self, url: str) -> KeySet:
        if url not in self._sets:
            self._sets[url] = KeySet(url, fetch=self._fetch, monotonic=self._monotonic)
        return self._sets[url]

    def keep_only(self, urls: set[str]) -> None:
        for url in self._sets.keys() - urls:
            del self._sets[url]
