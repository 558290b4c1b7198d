"""Which credential a request carries, and what the service is told about its sender."""

import hashlib
import hmac
import random
import re
from typing import Protocol

from config.gateway import GatewayConfig
from metering.model.errors import Unauthorized

from .directory import Caller, Directory
from .downstream import Request
from .headers import TrustedProxies

_random = random.Random()  # seeded by the system: ids must be unique, they need not be secret
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class HasHeaders(Protocol):
    """A parsed request head."""

    def header(self, lower_name: bytes) -> bytes | None: ...


def credential(config: GatewayConfig, request: HasHeaders) -> str | None:
    """The first credential present, in the configured order; a bad one never falls through to the next."""
    for identity in config.identity:
        for source in identity.sources:
            if source == "bearer":
                value = request.header(b"authorization")
                if value is not None and value[:7].lower() == b"bearer ":
                    return value[7:].strip().decode("latin-1")
            else:
                value = request.header(source.lower().encode())
                if value is not None:
                    return value.strip().decode("latin-1")
    return None


def credential_headers(config: GatewayConfig) -> list[str]:
    """The header names in which a credential may come."""
    sources = [source for identity in config.identity for source in identity.sources]
    return ["Authorization" if source == "bearer" else source for source in sources]


def client_address(trusted: TrustedProxies, request: Request) -> str:
    """Who is really calling: the address nearest to us that no trusted proxy stands behind, over all X-Forwarded-For lines."""
    came = [value for (_, value), name in zip(request.headers, request.names, strict=True) if name == b"x-forwarded-for"]
    return trusted.client_address(request.peer, b", ".join(came) or None)


class Identities:
    """Who sends a request, under one configuration. Both ways raise what the client is answered: 400, 401, 429, 503."""

    def __init__(self, config: GatewayConfig, directory: Directory, trusted: TrustedProxies) -> None:
        self._config, self._directory, self._trusted = config, directory, trusted

    def known(self, request: Request) -> Caller | None:
        """Who it is, if this worker knows; None where somebody must be asked (`find`). No waiting."""
        return self._directory.known(self._credential(request))

    async def find(self, request: Request) -> Caller:
        """Who it is."""
        return await self._directory.caller(self._credential(request), client_address(self._trusted, request))

    def _credential(self, request: Request) -> str:
        found = credential(self._config, request)
        if found is None:
            raise Unauthorized("an API key is required")
        return found


def request_id(request: HasHeaders) -> bytes:
    """The client's X-Request-Id if it is harmless, else one of ours."""
    given = request.header(b"x-request-id")
    return given if given and _REQUEST_ID.match(given) else b"%032x" % _random.getrandbits(128)


def traceparent(request: HasHeaders) -> bytes:
    """The client's W3C trace context if it is well-formed, else the root of a new trace."""
    given = request.header(b"traceparent")
    if given and _TRACEPARENT.match(given):
        return given
    return b"00-%032x-%016x-01" % (_random.getrandbits(128) or 1, _random.getrandbits(64) or 1)


def identity_headers(caller: Caller) -> list[tuple[bytes, bytes]]:
    """What the service learns from us alone; the same names are stripped from what clients send."""
    entitlement = caller.org.entitlement
    return [
        (b"X-Org-Id", entitlement.org_id.encode()),
        (b"X-Org-Slug", entitlement.slug.encode()),
        (b"X-Org-Plan", entitlement.plan.encode()),
        (b"X-Key-Id", str(caller.key.key_id).encode()),
    ]


def signature(secret: bytes, timestamp: int, org_id: str, key_id: int, rid: bytes, method: str, target: bytes) -> tuple[bytes, bytes]:
    """X-Weighbridge-Signature: `t=<unix>,v1=<hex>`, HMAC-SHA256 over `t.org.key.request id.method target`.

    A service that checks it (and that t is recent) can refuse whoever went past the gateway.
    """
    message = b"%d.%s.%d.%s.%s %s" % (timestamp, org_id.encode(), key_id, rid, method.encode(), target)
    digest = hmac.new(secret, message, hashlib.sha256).hexdigest()
    return b"X-Weighbridge-Signature", f"t={timestamp},v1={digest}".encode()
