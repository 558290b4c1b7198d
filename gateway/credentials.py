"""Which credential a request carries: the first present, in the configured order. Pure; gateway/identity.py asks who it belongs to."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from config.gateway import ApiKeyIdentity, ClientCertIdentity, Identity, JwtIdentity
from metering.model.errors import BadInput

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
_BEARER = b"bearer"


class AmbiguousCredentials(BadInput):
    """A credential is given twice; which of the two is meant cannot be told."""

    code = "ambiguous_credentials"


class HasFields(Protocol):
    """A parsed request head."""

    @property
    def names(self) -> Sequence[bytes]: ...

    def header(self, lower_name: bytes) -> bytes | None: ...


class _One:
    """A head of one field."""

    def __init__(self, name: bytes, value: bytes) -> None:
        self.names, self._value = (name,), value

    def header(self, lower_name: bytes) -> bytes | None:
        return self._value if lower_name == self.names[0] else None


@dataclass(frozen=True, slots=True)
class ApiKey:
    text: str


@dataclass(frozen=True, slots=True)
class Token:
    text: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """`sha256_hex` is empty where it cannot be read."""

    sha256_hex: str


Credential = ApiKey | Token | Certificate


class Credentials:
    """Where to look, worked out once for a configuration."""

    def __init__(self, ways: Sequence[Identity]) -> None:
        self._has_tokens = any(isinstance(way, JwtIdentity) for way in ways)
        self._places: list[tuple[type[Credential], bytes]] = []  # in order; no bytes: the bearer
        for way in ways:
            for kind, name in _places(way):
                if (kind, name) not in self._places:
                    self._places.append((kind, name))
        self._fields = sorted({name or b"authorization" for kind, name in self._places if kind is not Certificate})
        self._proxied = sorted({name for kind, name in self._places if kind is Certificate})

    @property
    def headers(self) -> list[str]:
        """The fields in which a credential may come."""
        return [name.decode() for name in (*self._fields, *self._proxied)]

    @property
    def proxied(self) -> list[str]:
        """Those that only a trusted proxy may send."""
        return [name.decode() for name in self._proxied]

    @property
    def wanted(self) -> str:
        """What to send, for whom sent nothing."""
        names = {ApiKey: "an API key", Token: "a token", Certificate: "a client certificate"}
        found = list(dict.fromkeys(names[kind] for kind, _ in self._places))
        return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)

    def of(self, request: HasFields, trusted: bool) -> Credential | None:
        """The first credential present. `trusted`: the request comes from a proxy whose word on certificates is taken.

        Raises AmbiguousCredentials for a field that came twice: services and gateways differ in which of the two they read.
        """
        names = request.names
        for name in (*self._fields, *self._proxied) if trusted else self._fields:
            if name in names and names.count(name) > 1:
                raise AmbiguousCredentials(f"the field {name.decode()} came more than once; send one credential")
        for kind, name in self._places:
            found = self._certificate(request, name, trusted) if kind is Certificate else self._text(request, kind, name)
            if found is not None:
                return found
        return None

    def decisive(self, names: Sequence[bytes], trusted: bool) -> bytes:
        """The field that says alone who calls, among fields of which none comes twice, wherever its value is a credential
        (`is_credential`). Empty where there is none, where a certificate may say so, or another field if this one's is none."""
        present = [
            (k, n or b"authorization") for k, n in self._places if (n or b"authorization") in names and (k is not Certificate or trusted)
        ]
        if not present or present[0][0] is Certificate:
            return b""
        field = present[0][1]
        alone = field != b"authorization" or all(other == field for _, other in present)
        return field if alone else b""

    def is_credential(self, field: bytes, value: bytes) -> bool:
        one = _One(field, value)
        return any((name or b"authorization") == field and self._text(one, kind, name) is not None for kind, name in self._places)

    def _text(self, request: HasFields, kind: type[Credential], name: bytes) -> Credential | None:
        """A bearer of three dotted parts is a token where tokens are taken, any other a key."""
        value = request.header(name or b"authorization")
        if value is None:
            return None
        if name:
            return ApiKey(value.strip().decode("latin-1"))
        if value[:7].lower() != b"bearer ":
            return None
        text = value[7:].strip().decode("latin-1")
        is_token = self._has_tokens and text.count(".") == 2
        if is_token is not (kind is Token):
            return None
        return Token(text) if is_token else ApiKey(text)

    def _certificate(self, request: HasFields, name: bytes, trusted: bool) -> Certificate | None:
        """An empty field is what some proxies send for a client without a certificate."""
        value = request.header(name) if trusted else None
        return Certificate(fingerprint(value.strip())) if value and value.strip() else None


def _places(way: Identity) -> list[tuple[type[Credential], bytes]]:
    if isinstance(way, ApiKeyIdentity):
        return [(ApiKey, b"" if source == "bearer" else source.lower().encode()) for source in way.sources]
    if isinstance(way, ClientCertIdentity):
        return [(Certificate, way.header.lower().encode())]
    return [(Token, b"")]


def fingerprint(value: bytes) -> str:
    """The SHA-256 of the certificate that a proxy passes: 64 hex digits (with or without colons), or PEM, escaped as in URLs or with
    tabs and spaces for its line ends. Empty for anything else."""
    if value.startswith(b"-----BEGIN"):
        match = _PEM.fullmatch(unquote_to_bytes(value))
        try:
            der = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
        except binascii.Error:
            return ""
        return hashlib.sha256(der).hexdigest() if der else ""
    text = value.decode("latin-1").replace(":", "").lower()
    return text if _FINGERPRINT.fullmatch(text) else ""
