"""orgs.yaml: the organizations of a gateway without Postgres. Keys stand there as hashes alone."""

import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field, PlainValidator, StrictBool, WithJsonSchema

from metering.model import apikey
from metering.model.apikey import Kind
from metering.model.quota import Mode, Per, Quota

from .faults import Report, did_you_mean
from .identity import ScopeWord
from .plans_file import InstantWord
from .quotas import QuotaShape, make_quotas
from .shape import Lenient, Shape, read_shape
from .words import Slug, shown

FILE = "orgs.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """An API key by its hash, or a client certificate by its fingerprint; its id is made from the hash."""

    sha256: str
    key_id: int
    expires_at_ms: int | None = None
    test: bool = False
    kind: Kind = Kind.KEY
    scopes: frozenset[str] = frozenset()
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgSpec:
    """One organization. `anchor_ms`: its periods are counted from there."""

    id: str
    slug: str
    name: str
    plan: str
    anchor_ms: int
    keys: tuple[KeySpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgSet:
    """The organizations by slug."""

    orgs: Mapping[str, OrgSpec] = field(default_factory=dict)


def _uuid(value: Any) -> str:
    try:
        return str(UUID(shown(value)))
    except ValueError as error:
        raise ValueError(f"{shown(value)} is no id; write a UUID: 018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f") from error


def _hash(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return value
    if isinstance(value, str) and value.startswith(apikey.PREFIX):
        raise ValueError(f"this is a key itself, which is written nowhere; write its hash: {apikey.sha256_hex(value)}")
    raise ValueError("this is the SHA-256 of a key, 64 hex digits: printf %s KEY | sha256sum")


class KeyShape(Shape):
    """One API key, or client certificate."""

    misplaced: ClassVar[dict[str, str]] = {"key": "a key is written nowhere; write its hash under `sha256`"}

    sha256: Annotated[str, PlainValidator(_hash), WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"})]
    expires: InstantWord | None = None
    test: StrictBool = Field(False, description="true: limited by rates and by limits of its own; nothing is counted for the organization.")
    certificate: StrictBool = Field(False, description="true: sha256 is the fingerprint of a client certificate.")
    scopes: list[ScopeWord] = Field(default_factory=list, description="What routes may ask for.")
    quotas: list[Lenient[QuotaShape]] = Field(default_factory=list, description="Limits of this key alone, beside the plan's.")


class OrgShape(Shape):
    """One organization."""

    id: Annotated[str, PlainValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
    name: str | None = Field(None, min_length=1, max_length=120)
    plan: str = Field(description="A name from plans.yaml.")
    anchor: InstantWord = Field(description="When the subscription began; periods are counted from there.")
    keys: list[Lenient[KeyShape]] = Field(default_factory=list)


class OrgsFile(Shape):
    """orgs.yaml: organizations by slug."""

    orgs: dict[Slug, Lenient[OrgShape]]


def read_orgs(value: Any, report: Report, plans: Collection[str] | None) -> OrgSet:
    """The organizations of the file; `plans` are the names that exist (None: unknown)."""
    file = read_shape(OrgsFile, value, report)
    shapes = {slug: shape for slug, shape in file.orgs.items() if shape is not None} if file else {}
    ids: dict[str, str] = {}
    owners: dict[str, str] = {}
    for slug, shape in shapes.items():
        if plans is not None and shape.plan not in plans:
            report.fault(shape.table, "plan", f"there is no plan `{shape.plan}` in plans.yaml{did_you_mean(shape.plan, plans)}")
        if (other := ids.setdefault(shape.id, slug)) != slug:
            report.fault(shape.table, "id", f"`{other}` has this id already; give each organization its own")
        for key in shape.keys:
            if key is not None and owners.setdefault(key.sha256, slug) != slug:
                report.fault(key.table, "sha256", f"`{owners[key.sha256]}` has this key already; a key belongs to one organization")
    return OrgSet(orgs={slug: _org(slug, shape, report) for slug, shape in shapes.items()})


def _org(slug: str, shape: OrgShape, report: Report) -> OrgSpec:
    return OrgSpec(
        id=shape.id,
        slug=slug,
        name=shape.name or slug,
        plan=shape.plan,
        anchor_ms=shape.anchor,
        keys=tuple(
            KeySpec(
                sha256=key.sha256, key_id=zlib.crc32(key.sha256.encode()), expires_at_ms=key.expires, test=key.test,
                kind=Kind.CERTIFICATE if key.certificate else Kind.KEY, scopes=frozenset(key.scopes), quotas=_quotas(key, report),
            )
            for key in shape.keys
            if key is not None
        ),
    )  # fmt: skip


def _quotas(key: KeyShape, report: Report) -> tuple[Quota, ...]:
    """Each adds up the use of this key."""
    for shape in key.quotas:
        if shape is not None and "per" in shape.table and shape.per != Per.KEY:
            report.fault(shape.table, "per", "a key's own quota adds up the use of that key; leave out `per`")
        if shape is not None and shape.mode == Mode.OVERAGE:
            report.fault(shape.table, "mode", "overage is billed to the organization as a whole; write mode: hard or soft")
    return tuple(replace(quota, per=Per.KEY) for quota in make_quotas(key.quotas, report, source="key"))
