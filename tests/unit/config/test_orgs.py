"""orgs.yaml: the organizations of a gateway alone."""

import zlib

import pytest

from config.load import load_good
from config.orgs import KeySpec, OrgSpec
from metering.model import apikey
from metering.model.apikey import Kind
from metering.model.quota import Per, Quota, Window

from .samples import faults, files

KEY = apikey.mint(b"eighteen bytes of entropy")
HASH = apikey.sha256_hex(KEY)
ID = "018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f"


def orgs(words: str = f"id: {ID}, plan: pro, anchor: 2026-01-15T00:00:00Z, keys: [{{sha256: {HASH}}}]", more: str = "") -> str:
    return f"orgs:\n  acme: {{{words}}}\n{more}"


def test_an_organization_has_id_plan_anchor_and_hashes_of_keys() -> None:
    found = load_good(files(orgs=orgs())).orgs
    assert found is not None
    key = KeySpec(sha256=HASH, key_id=zlib.crc32(HASH.encode()))
    assert found.orgs == {"acme": OrgSpec(id=ID, slug="acme", name="acme", plan="pro", anchor_ms=1_768_435_200_000, keys=(key,))}


def keyed(words: str) -> str:
    return orgs(f"id: {ID}, plan: pro, anchor: 2026-01-15T00:00:00Z, keys: [{{sha256: {HASH}, {words}}}]")


def test_a_key_may_carry_scopes_and_quotas_of_its_own_and_a_hash_may_be_a_certificates() -> None:
    found = load_good(files(orgs=keyed("certificate: true, scopes: [read], quotas: [{meter: api, limit: 5, window: day}]"))).orgs
    assert found is not None
    (key,) = found.orgs["acme"].keys
    assert (key.kind, key.scopes) == (Kind.CERTIFICATE, {"read"})
    assert key.quotas == (Quota(meter="api", limit=5, window=Window.DAY, per=Per.KEY, source="key"),)


def test_without_the_file_there_are_none() -> None:
    assert load_good(files()).orgs is None


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        (orgs(f"id: {ID}, plan: por, anchor: 2026-01-15T00:00:00Z"), "orgs.acme.plan", "did you mean `pro`?"),
        (orgs("id: 5, plan: pro, anchor: 2026-01-15T00:00:00Z"), "orgs.acme.id", "UUID"),
        (orgs(f"id: {ID}, plan: pro, anchor: 2026-01-15"), "orgs.acme.anchor", "zone"),
        (orgs(f"id: {ID}, plan: pro"), "orgs.acme", "`anchor` is missing"),
        (keyed("scopes: ['two words']"), "orgs.acme.keys[0].scopes[0]", "no scope"),
        (keyed("quotas: [{meter: apo, limit: 5}]"), "orgs.acme.keys[0].quotas[0].meter", "did you mean `api`"),
        (keyed("quotas: [{meter: api, limit: 5, per: route}]"), "orgs.acme.keys[0].quotas[0].per", "leave out `per`"),
        (keyed("quotas: [{meter: api, limit: 5, mode: overage}]"), "orgs.acme.keys[0].quotas[0].mode", "write mode"),
        (orgs(f"id: {ID}, plan: pro, anchor: 2026-01-15T00:00:00Z, keys: [{{sha256: {KEY}}}]"), "orgs.acme.keys[0].sha256", HASH),
        (orgs(f"id: {ID}, plan: pro, anchor: 2026-01-15T00:00:00Z, keys: [{{key: {KEY}}}]"), "orgs.acme.keys[0].key", "sha256"),
        (orgs(more=f"  two: {{id: {ID}, plan: pro, anchor: 2026-01-15T00:00:00Z}}"), "orgs.two.id", "`acme` has this id"),
        (
            orgs(more=f"  two: {{id: {ID[:-1]}0, plan: pro, anchor: 2026-01-15T00:00:00Z, keys: [{{sha256: {HASH}}}]}}"),
            "orgs.two.keys[0].sha256",
            "belongs to one organization",
        ),
    ],
)
def test_a_faulty_organization_says_what_to_do(text: str, path: str, said: str) -> None:
    found = {fault.path: fault.message for fault in faults(orgs=text)}
    assert said in found[path]
