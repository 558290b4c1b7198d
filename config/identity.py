"""`identity` of gateway.yaml: the ways to know who calls, as they are written and resolved."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, WithJsonSchema

from metering.model.apikey import is_scope

from .document import Table
from .faults import Report, unavailable
from .gateway import ApiKeyIdentity, ClientCertIdentity, Identity, JwtIdentity
from .shape import Shape
from .words import header_name, one_of, seconds, shown

HMAC = ("HS256", "HS384", "HS512")
PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_VARIABLE = r"[A-Z_][A-Z0-9_]{0,127}"
_MOST_SKEW = 300.0
_WAYS = ("api_key", "jwt", "client_cert")


def _key_source(value: Any) -> str:
    if isinstance(value, str) and value.partition(":")[0] in ("query", "cookie"):
        raise ValueError(unavailable(value, "name a header, or bearer"))
    return "bearer" if value == "bearer" else header_name(value)


def _plain_text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{shown(value)} will not do; write a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """One text, or a list of them."""
    found = value if isinstance(value, list) else [value]
    if not found:
        raise ValueError("there is nothing in it; write at least one")
    return tuple(_plain_text(each) for each in found)


def _url(value: Any) -> str:
    """Where keys are fetched: https, or http on this machine."""
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError(f"{shown(value)} is no address of keys; write it like https://id.example.com/.well-known/jwks.json")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("keys that come over plain http can be replaced on their way; write https://")
    return str(value)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_VARIABLE, value):
        raise ValueError("name the environment variable that holds the secret, such as JWT_SECRET; a secret stands in no file")
    return value


def _skew(value: Any) -> float:
    if value in (0, "0", "0s"):
        return 0.0
    found = seconds(value)
    if found is None or found > _MOST_SKEW:
        raise ValueError("clocks differ by seconds: write 0s to 5m")
    return found


def scope(value: Any) -> str:
    if not isinstance(value, str) or not is_scope(value):
        raise ValueError(f"{shown(value)} is no scope; write a word such as reports or reports:read")
    return value


_TEXT = {"type": "string", "minLength": 1}
_Text = Annotated[str, PlainValidator(_plain_text), WithJsonSchema(_TEXT)]
_Texts = Annotated[tuple[str, ...], PlainValidator(_texts), WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]})]
_Source = Annotated[str, PlainValidator(_key_source), WithJsonSchema({"type": "string"})]
_Header = Annotated[str, PlainValidator(header_name), WithJsonSchema({"type": "string"})]
_Url = Annotated[str, PlainValidator(_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
_Variable = Annotated[str, PlainValidator(_variable), WithJsonSchema({"type": "string", "pattern": f"^{_VARIABLE}$"})]
_Skew = Annotated[float, PlainValidator(_skew), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]})]
ScopeWord = Annotated[str, PlainValidator(scope), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64})]


class ApiKeyShape(Shape):
    """An API key."""

    sources: list[_Source] = Field(
        default=["X-API-Key", "bearer"], alias="from", min_length=1, description="Header names, or bearer; the first present decides."
    )


class JwtShape(Shape):
    """A token of an issuer: a bearer of three dotted parts."""

    misplaced: ClassVar[dict[str, str]] = {
        "secret": "a secret stands in no file; name the environment variable that holds it: secret_env: JWT_SECRET",
        "public_key": "public keys are fetched: jwks_url: https://…",
        "jwks": "public keys are fetched: jwks_url: https://…",
        "leeway": "write skew: 30s",
    }

    issuer: _Text = Field(description="What the claim iss says, to the letter.")
    audience: _Texts = Field(description="One of these stands in the claim aud.")
    org_claim: _Text = Field("org_id", description="The claim that names the organization, by id or slug.")
    jwks_url: _Url | None = Field(None, description="Where the issuer's public keys are. Default: issuer/.well-known/jwks.json.")
    algorithms: list[one_of((*PUBLIC, *HMAC), {"none": "an unsigned token proves nothing"})] | None = Field(  # type: ignore[valid-type]
        None, min_length=1, description="Default: RS256 and ES256; HS256 with secret_env."
    )
    secret_env: _Variable | None = Field(None, description="The environment variable with the secret that HS… tokens are signed with.")
    skew: _Skew = Field(30.0, description="How far the issuer's clock may be from ours. Default 30s.")
    tenant_claim: _Text | None = Field(None, description="The claim that names the organization's own customer.")
    scopes_claim: _Text = Field("scope", description="The claim with the scopes: words with spaces between them, or a list.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        words = table.get("algorithms")
        named = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
        if "secret_env" in table and "jwks_url" in table:
            report.fault(table, "jwks_url", "a secret and public keys do not go together: whoever has the public key could sign; keep one")
        elif "secret_env" in table and any(word in PUBLIC for word in named):
            report.fault(table, "algorithms", f"with secret_env tokens are signed with a secret: {', '.join(HMAC)}")
        elif "secret_env" not in table and any(word in HMAC for word in named):
            report.fault(table, "algorithms", "HS… is signed with a secret, never with a public key; name it: secret_env: JWT_SECRET")
        issuer = table.get("issuer")
        if isinstance(issuer, str) and issuer and "secret_env" not in table and "jwks_url" not in table:
            try:
                _url(issuer)
            except ValueError:
                report.fault(table, "issuer", "this is no address, so it does not say where its keys are; write jwks_url: https://…")


class ClientCertShape(Shape):
    """A client certificate, which a trusted proxy has checked and passes on."""

    header: _Header = Field(description="Where the proxy puts the certificate's SHA-256 fingerprint, or the certificate as PEM.")


class IdentityShape(Shape):
    """One way to say who calls."""

    not_built: ClassVar[dict[str, str]] = {"basic": "use api_key"}
    misplaced: ClassVar[dict[str, str]] = dict.fromkeys(("mtls", "client_certificate"), "write client_cert: {header: X-Client-Cert}")

    api_key: ApiKeyShape | None = None
    jwt: JwtShape | None = None
    client_cert: ClientCertShape | None = None

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        ways = [word for word in _WAYS if table.get(word) is not None]
        if len(ways) > 1:
            report.fault(table, ways[1], f"one way an item: give `{ways[1]}` an item of its own, in the order in which they are looked for")
        if not ways and not any(word in (*cls.not_built, *cls.misplaced) for word in table):
            report.fault(table, None, "say how callers are known: api_key: {from: [X-API-Key, bearer]}")


def read_identity(shapes: Iterable[IdentityShape | None], report: Report) -> tuple[Identity, ...]:
    """The ways in order; API keys where none is named."""
    found: list[Identity] = []
    fields: dict[str, str] = {}
    for shape in shapes:
        way = _way(shape) if shape is not None else None
        if shape is None or way is None:
            continue
        for field, what in _fields(way):
            other = fields.setdefault(field.lower(), what)
            if other != what:
                report.fault(shape.table, None, f"{field} holds {other} already; a field holds one kind of credential")
        if isinstance(way, JwtIdentity) and any(isinstance(each, JwtIdentity) and each.issuer == way.issuer for each in found):
            report.fault(shape.table, "jwt", f"there is a way for tokens of {way.issuer} already; keep one")
        found.append(way)
    return tuple(found) or (ApiKeyIdentity(),)


def _way(shape: IdentityShape) -> Identity | None:
    if shape.api_key is not None:
        return ApiKeyIdentity(sources=tuple(shape.api_key.sources))
    if shape.client_cert is not None:
        return ClientCertIdentity(header=shape.client_cert.header)
    return _jwt(shape.jwt) if shape.jwt is not None else None


def _fields(way: Identity) -> list[tuple[str, str]]:
    if isinstance(way, ApiKeyIdentity):
        return [(source, "an API key") for source in way.sources if source != "bearer"]
    return [(way.header, "a client certificate")] if isinstance(way, ClientCertIdentity) else []


def _jwt(shape: JwtShape) -> JwtIdentity:
    return JwtIdentity(
        issuer=shape.issuer,
        audience=shape.audience,
        org_claim=shape.org_claim,
        jwks_url=None if shape.secret_env else shape.jwks_url or shape.issuer.rstrip("/") + "/.well-known/jwks.json",
        algorithms=tuple(shape.algorithms or (HMAC[:1] if shape.secret_env else ("RS256", "ES256"))),
        secret_env=shape.secret_env,
        skew_s=shape.skew,
        tenant_claim=shape.tenant_claim,
        scopes_claim=shape.scopes_claim,
    )


def facts(way: Identity) -> str:
    """A way in one line, as a diff shows it."""
    if isinstance(way, ApiKeyIdentity):
        return ", ".join(way.sources)
    if isinstance(way, ClientCertIdentity):
        return f"client certificate in {way.header}"
    keys = f"secret in {way.secret_env}" if way.secret_env else f"keys at {way.jwks_url}"
    claims = ", ".join(filter(None, (way.org_claim, way.tenant_claim, way.scopes_claim)))
    return f"tokens of {way.issuer} for {', '.join(way.audience)}; {', '.join(way.algorithms)}, {keys}; {claims}; skew {way.skew_s:g}s"
