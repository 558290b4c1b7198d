"""API keys and client certificates of an organization. A key is shown once, where it is made."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from billing.model.organization import ApiKey, limit_words
from billing.model.token import Scope
from billing.operations.dispatch import ForEverybody
from billing.operations.instants import given_ms, instant, instant_or_none
from billing.operations.operation import About, Call, Model, Nothing, operation
from billing.services.keys import KeyFaulty, KeyOver, KeyTaken, NewKey
from billing.services.lookup import NoSuchKey
from metering.model.apikey import Kind

REFERENCE = r"^([0-9]{1,18}|sha256:[0-9a-f]{64})$"
_SHA256 = r"^[0-9a-f]{64}$"
_LIMITS = "limits of this key alone: api=1000/day, bandwidth=5 GB/period, api=5/second, 5/second"
_SCOPES = "what routes may ask for; only a token for every organization gives them"


class KeyRow(Model):
    """What is known of a key, or of a certificate that serves as one; never the key itself."""

    id: int
    kind: Kind
    hint: str
    label: str
    status: str = Field(description="active, expiring, expired, revoked")
    test: bool
    scopes: tuple[str, ...]
    limits: tuple[str, ...]
    imported: bool
    created: datetime
    expires: datetime | None
    replaced_by: int | None


class KeyList(Model):
    keys: tuple[KeyRow, ...]


class NewKeyAnswer(KeyRow):
    """`api_key` is shown this once. `old` is what a rotation replaces. `told_gateways` false: stored, and they hear of it once the store
    answers."""

    org_id: str
    api_key: str
    old: KeyRow | None
    told_gateways: bool


class ChangedKey(KeyRow):
    told_gateways: bool


class ImportAnswer(Model):
    """`known` were imported before, for the same organization."""

    added: tuple[KeyRow, ...]
    known: tuple[KeyRow, ...]
    told_gateways: bool


class CertificateAnswer(ChangedKey):
    org_id: str
    sha256: str


class CreateKey(Model):
    label: str = Field("", description="what it is for")
    test: bool = Field(False, description="wbk_test_…: limited by rates and its own limits, and never billed")
    seconds: int | None = Field(None, ge=1, le=10**10, description="how long it is good; until it is revoked")
    scopes: tuple[str, ...] = Field((), description=_SCOPES)
    limits: tuple[str, ...] = Field((), description=_LIMITS)


class ImportKeys(Model):
    keys: tuple[str, ...] = Field(min_length=1, max_length=10_000, description="as callers hold them; only their hashes are kept")
    label: str = Field("", description="what they are for")


class AddCertificate(Model):
    sha256: str = Field(pattern=_SHA256, description="the fingerprint of its DER form")
    expires: AwareDatetime
    label: str = ""
    test: bool = False
    scopes: tuple[str, ...] = Field((), description=_SCOPES)
    limits: tuple[str, ...] = Field((), description=_LIMITS)


class WhichKey(Model):
    key: str = Field(pattern=REFERENCE, description="its number, or sha256: and the hash of its text")


class GrantKey(WhichKey):
    scopes: tuple[str, ...] | None = Field(None, description="in place of those it has; null leaves them")
    limits: tuple[str, ...] | None = Field(None, description="in place of those it has; null leaves them")


class RotateKey(WhichKey):
    overlap_seconds: int = Field(86_400, ge=0, le=10**10, description="how long the old one works on; 0: not another call")


@operation("GET", "/keys", name="key.list", need=Scope.ADMIN)
async def list_all(call: Call, ask: Nothing) -> KeyList:
    """The keys of an organization, those that are over too."""
    return KeyList(keys=tuple(key_row(key, call.now_ms) for key in await call.billing.keys.all(call.org)))


@operation("POST", "/keys", name="key.create", need=Scope.ADMIN, status=201, errors=(ForEverybody,))
async def create(call: Call, ask: CreateKey) -> NewKeyAnswer:
    """One more key for an organization."""
    _theirs_to_give(call, test=ask.test, scopes=ask.scopes)
    grants = call.billing.keys.grants(ask.scopes, ask.limits)
    return _new(await call.billing.keys.create(call.org, label=ask.label, test=ask.test, grants=grants, seconds=ask.seconds), call)


@operation("POST", "/keys/import", name="key.import", need=Scope.ADMIN, errors=(KeyFaulty, KeyTaken))
async def bring(call: Call, ask: ImportKeys) -> ImportAnswer:
    """Keys that callers hold already; all of them, or none."""
    made = await call.billing.keys.bring(call.org, ask.keys, label=ask.label)
    added, known = (tuple(key_row(key, call.now_ms) for key in keys) for keys in (made.added, made.known))
    return ImportAnswer(added=added, known=known, told_gateways=made.published)


@operation("POST", "/keys/certificates", name="key.add-cert", need=Scope.ADMIN, status=201, errors=(KeyTaken, KeyOver, ForEverybody))
async def add_certificate(call: Call, ask: AddCertificate) -> CertificateAnswer:
    """A client certificate, known by its fingerprint, stands for an organization."""
    _theirs_to_give(call, test=ask.test, scopes=ask.scopes)
    grants = call.billing.keys.grants(ask.scopes, ask.limits)
    key, told = await call.billing.keys.add_certificate(
        call.org, ask.sha256, expires_at_ms=given_ms(ask.expires), label=ask.label, test=ask.test, grants=grants
    )
    return CertificateAnswer(**dict(key_row(key, call.now_ms)), told_gateways=told, org_id=key.org_id, sha256=key.sha256)


@operation("PATCH", "/keys/{key}", name="key.grant", need=Scope.ADMIN, about=About.EITHER, errors=(NoSuchKey, KeyOver, ForEverybody))
async def grant(call: Call, ask: GrantKey) -> ChangedKey:
    """Other scopes or limits in place of those it has, from the next call on."""
    _theirs_to_give(call, test=False, scopes=ask.scopes or ())
    given = call.billing.keys.grants(ask.scopes or (), ask.limits or ())
    scopes, limits = None if ask.scopes is None else given.scopes, None if ask.limits is None else given
    return _changed(*await call.billing.keys.grant(ask.key, scopes=scopes, limits=limits, within=call.org_id), call)


@operation("POST", "/keys/{key}/rotate", name="key.rotate", need=Scope.ADMIN, about=About.EITHER, errors=(NoSuchKey, KeyOver))
async def rotate(call: Call, ask: RotateKey) -> NewKeyAnswer:
    """A new key in place of one, which works on for a while."""
    return _new(await call.billing.keys.rotate(ask.key, overlap_seconds=ask.overlap_seconds, within=call.org_id), call)


@operation("DELETE", "/keys/{key}", name="key.revoke", need=Scope.ADMIN, about=About.EITHER, errors=(NoSuchKey, KeyOver))
async def revoke(call: Call, ask: WhichKey) -> ChangedKey:
    """Not another call with it."""
    return _changed(*await call.billing.keys.revoke(ask.key, within=call.org_id), call)


def key_row(key: ApiKey, now_ms: int) -> KeyRow:
    return KeyRow(
        id=key.id, kind=key.kind, hint=key.hint, label=key.label, status=key.status(now_ms), test=key.test, scopes=key.grants.scopes,
        limits=tuple(limit_words(key.grants)), imported=key.imported, created=instant(key.created_at_ms),
        expires=instant_or_none(key.expires_at_ms), replaced_by=key.replaced_by,
    )  # fmt: skip


def _theirs_to_give(call: Call, *, test: bool, scopes: tuple[str, ...]) -> None:
    """A key that is not billed, and a key's way to guarded routes, come from who runs the gateway. Raises ForEverybody."""
    if call.caller.org_id is not None and (test or scopes):
        raise ForEverybody("test keys and scopes are given with a token for every organization; yours is bound to one")


def _new(made: NewKey, call: Call) -> NewKeyAnswer:
    old = None if made.old is None else key_row(made.old, call.now_ms)
    return NewKeyAnswer(
        **dict(key_row(made.key, call.now_ms)), org_id=made.key.org_id, api_key=made.api_key, old=old, told_gateways=made.published
    )


def _changed(key: ApiKey, told: bool, call: Call) -> ChangedKey:
    return ChangedKey(**dict(key_row(key, call.now_ms)), told_gateways=told)


OPERATIONS = (list_all, create, bring, add_certificate, grant, rotate, revoke)
