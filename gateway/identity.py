"""Who sends a request, and what the service is told of it. Where a credential stands is in gateway/credentials.py."""

import hashlib
import hmac
import os
import re
from binascii import hexlify
from itertools import islice
from typing import Final, Protocol

from config.gateway import GatewayConfig, Route
from metering.model.apikey import LONGEST
from metering.model.errors import Unauthorized

from .credentials import ApiKey, Certificate, Credential, Credentials
from .directory import Caller, Directory
from .downstream import Request
from .errors import ScopeMissing
from .fields import Fields
from .headers import TrustedProxies
from .shapes import Shape
from .tokens import Tokens

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")
_TRACEPARENT_BYTES: Final = 55
_HEX: Final = bytes(byte if byte in b"0123456789abcdef-" else 255 - byte for byte in range(256))  # leaves such bytes as they are
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16

_CALLERS_REMEMBERED = 16_384
_NOTHING = (b"", b"")


class HasHeaders(Protocol):
    """A parsed request head."""

    def header(self, lower_name: bytes) -> bytes | None: ...


def client_address(trusted: TrustedProxies, request: Request) -> str:
    """Who is really calling: the address nearest to us that no trusted proxy stands behind, over all X-Forwarded-For lines."""
    came = [value for (_, value), name in zip(request.headers, request.names, strict=True) if name == b"x-forwarded-for"]
    return trusted.client_address(request.peer, b", ".join(came) or None)


def check_scopes(caller: Caller, route: Route) -> None:
    """Raises ScopeMissing, which names what is missing. Where `route.scopes` is empty there is nothing to check."""
    if not caller.may(route):
        raise ScopeMissing(sorted(route.scopes - caller.key.scopes))


class Identities:
    """Who sends a request, under one configuration. Both ways raise what the client is answered: 400, 401, 429, 503."""

    def __init__(self, config: GatewayConfig, directory: Directory, trusted: TrustedProxies, tokens: Tokens | None = None) -> None:
        self.credentials = Credentials(config.identity)
        self._directory, self._trusted, self._tokens = directory, trusted, tokens
        self._proxied = bool(self.credentials.proxied)
        self._slots = (object(), object())  # in the memo of a block of fields; the other for those from a trusted proxy
        self._by_value: dict[tuple[bytes, bytes], Caller] = {}
        self._missing = f"{self.credentials.wanted} is required"

    def known(self, request: Request) -> Caller | None:
        """Who it is, if this worker knows; None where somebody must be asked (`find`). No waiting."""
        trusted = self._proxied and self._trusted.trusts(request.peer)
        fields, slot = request.fields, self._slots[trusted]
        caller: Caller | None = fields.memo.get(slot)
        if caller is None and fields.shape is not None:
            caller = self._by_value.get(self._deciding(fields, fields.shape, slot, trusted))
        if caller is not None and caller.valid:
            if caller.key.expires_at_ms is not None:
                caller.refuse_expired(self._directory.now_ms())
            caller.young = caller.org.young = True  # Directory.touch
            return caller
        caller = self._look(self._credential(request, trusted))
        if caller is not None:
            self._remember(fields, slot, trusted, caller)
        return caller

    def _deciding(self, fields: Fields, shape: Shape, slot: object, trusted: bool) -> tuple[bytes, bytes]:
        """The field that says who calls, and what it says; empty where it takes more than one field to tell."""
        at: int | None = shape.memo.get(slot)
        if at is None:
            field = self.credentials.decisive(fields.names, trusted)
            at = fields.names.index(field) if field else -1
            shape.remember(slot, at)
        return (fields.names[at], fields.value(at)) if at >= 0 else _NOTHING

    def _remember(self, fields: Fields, slot: object, trusted: bool, caller: Caller) -> None:
        """By the block where it will come again; by the credential's field alone where only its kind will."""
        if fields.kept or fields.shape is None:
            fields.remember(slot, caller)
            return
        field, value = said = self._deciding(fields, fields.shape, slot, trusted)
        if field and self.credentials.is_credential(field, value):
            if len(self._by_value) >= _CALLERS_REMEMBERED and said not in self._by_value:
                for old in list(islice(self._by_value, _CALLERS_REMEMBERED // 2)):
                    del self._by_value[old]
            self._by_value[said] = caller

    async def find(self, request: Request) -> Caller:
        """Who it is."""
        address = client_address(self._trusted, request)
        found = self._credential(request, self._proxied and self._trusted.trusts(request.peer))
        if isinstance(found, ApiKey):
            return await self._directory.caller(found.text, address)
        if isinstance(found, Certificate):
            if not found.sha256_hex:
                self._directory.strangers.refused(address)
                raise Unauthorized("the client certificate is malformed")
            return await self._directory.certificate(found.sha256_hex, address)
        assert self._tokens is not None
        return await self._tokens.find(found.text, address)

    def _look(self, found: Credential) -> Caller | None:
        if isinstance(found, ApiKey):
            return None if len(found.text) > LONGEST else self._directory.known(found.text)
        if isinstance(found, Certificate):
            return self._directory.known_certificate(found.sha256_hex)
        assert self._tokens is not None
        return self._tokens.known(found.text)

    def _credential(self, request: Request, trusted: bool) -> Credential:
        found = self.credentials.of(request, trusted)
        if found is None:
            raise Unauthorized(self._missing)
        return found


class Ids:
    """Random digits for requests: drawn and written out for many at once. They must be unique, they need not be secret."""

    def __init__(self, at_once: int = 256) -> None:
        self._at_once = at_once
        self._digits, self._next = b"", 0

    def digits(self) -> bytes:
        """32 hex digits that nobody else has."""
        at = self._next
        if at == len(self._digits):
            self._digits, at = hexlify(os.urandom(16 * self._at_once)), 0
        self._next = at + 32
        return self._digits[at : at + 32]


_ids: Final = Ids()


def request_id(request: HasHeaders) -> bytes:
    """The client's X-Request-Id if it is harmless, else one of ours."""
    given = request.header(b"x-request-id")
    return given if given and _REQUEST_ID.match(given) else _ids.digits()


def traceparent(request: HasHeaders) -> bytes:
    """The client's W3C trace context if it is well-formed, else the root of a new trace."""
    given = request.header(b"traceparent")
    return given if given and _is_trace(given) else root(_ids.digits())


def _is_trace(given: bytes) -> bool:
    """Whether it is a version, a trace, its parent and flags, in small hex digits (W3C Trace Context §3.2)."""
    if len(given) != _TRACEPARENT_BYTES or given.translate(_HEX) != given:
        return False
    parts = given.split(b"-")
    if len(parts) != 4 or len(parts[0]) != 2 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return False
    return parts[0] != b"ff" and parts[1] != _NO_TRACE and parts[2] != _NO_PARENT


def root(digits: bytes) -> bytes:
    """The root of the trace of this name: its own name is the half of the trace's."""
    return b"00-%b-%b-01" % (digits, digits[16:])


def new_id() -> bytes:
    """For a request that brings none: its own id, and the name of its trace (`root`), so that either finds the other."""
    return _ids.digits()


def identity_headers(caller: Caller) -> list[tuple[bytes, bytes]]:
    """What the service learns from us alone; the same names are stripped from what clients send."""
    entitlement = caller.org.entitlement
    told = [
        (b"X-Org-Id", entitlement.org_id.encode()),
        (b"X-Org-Slug", entitlement.slug.encode()),
        (b"X-Org-Plan", entitlement.plan.encode()),
        (b"X-Key-Id", str(caller.key.key_id).encode()),
    ]
    if caller.tenant is not None:
        told.append((b"X-Org-Tenant", caller.tenant.encode()))
    if entitlement.features:
        told.append((b"X-Org-Features", ", ".join(entitlement.features).encode()))
    if caller.key.test:
        told.append((b"X-Org-Test", b"true"))
    return told


_SIGNED: Final = (b"X-Org-Id", b"X-Org-Slug", b"X-Org-Plan", b"X-Key-Id", b"X-Org-Tenant", b"X-Org-Features", b"X-Org-Test")


def signature(
    secret: bytes, timestamp: int, headers: list[tuple[bytes, bytes]], rid: bytes, method: str, target: bytes
) -> tuple[bytes, bytes]:
    """X-Weighbridge-Signature: `t=<unix>,v1=<hex>`, HMAC-SHA256 over lines: t, the request id, `method target`, then the values of
    `headers` (identity_headers) in the order of _SIGNED, empty where one is not sent.

    A service that checks it (and that t is recent) can refuse whoever went past the gateway.
    """
    told = dict(headers)
    lines = [b"%d" % timestamp, rid, b"%s %s" % (method.encode(), target), *(told.get(name, b"") for name in _SIGNED)]
    digest = hmac.new(secret, b"\n".join(lines), hashlib.sha256).hexdigest()
    return b"X-Weighbridge-Signature", f"t={timestamp},v1={digest}".encode()
