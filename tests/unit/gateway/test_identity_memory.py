"""Whatever was remembered of earlier requests, who calls is who the present one's credentials name."""

import itertools
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.gateway import ApiKeyIdentity, ClientCertIdentity, Identity, JwtIdentity, Limits
from gateway import http1, shapes
from gateway.credentials import AmbiguousCredentials, ApiKey, Certificate, Credential, Token
from gateway.directory import Caller, Org
from gateway.headers import TrustedProxies
from gateway.http1 import RequestParser
from gateway.identity import Identities
from gateway.request import Request
from gateway.shapes import Shapes
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.errors import Unauthorized

PROXY, STRANGER = "10.0.0.1", "192.0.2.1"
WAYS: list[Identity] = [
    JwtIdentity(issuer="i", audience=("a",)),
    ApiKeyIdentity(sources=("X-API-Key",)),
    ApiKeyIdentity(sources=("bearer", "X-Other-Key")),
    ClientCertIdentity(header="X-Cert"),
]
VALUES = {
    "X-API-Key": ["k1", "k2", "k3"],
    "Authorization": ["Bearer k1", "Bearer k2", "Bearer a.b.c", "Bearer d.e.f", "Basic k1", "bearer k3"],
    "X-Other-Key": ["k1", "k2"],
    "X-Cert": ["1" * 64, "2" * 64, ""],
    "X-Plain": [f"{n}" for n in range(1000)],
}


class Everybody:
    """A directory in which every credential is somebody's."""

    def __init__(self) -> None:
        self.callers: dict[object, Caller] = {}

    def of(self, kind: type, text: str) -> Caller:
        made = self.callers.get((kind, text))
        if made is None:
            org_id = f"{kind.__name__} {text}"
            entitlement = Entitlement(org_id=org_id, slug="s", name="n", version=1, plan="p", plan_version=1, anchor_ms=0)
            made = self.callers[kind, text] = Caller(text, KeyRecord(key_id=1, org_id=""), Org(entitlement))
            made.valid = True
        return made

    def let_go(self, rng: random.Random) -> None:
        """Of one of them, as control says that it changed."""
        if self.callers:
            self.callers.pop(rng.choice(list(self.callers))).valid = False

    def known(self, text: str) -> Caller:
        return self.of(ApiKey, text)

    def known_certificate(self, sha256_hex: str) -> Caller:
        return self.of(Certificate, sha256_hex)


def said(credential: Credential) -> str:
    return credential.sha256_hex if isinstance(credential, Certificate) else credential.text


def kind(rng: random.Random) -> list[str]:
    """Names of fields, seldom one of them twice."""
    names = [name for name in VALUES if rng.random() < 0.6]
    rng.shuffle(names)
    return names + ([rng.choice(names)] if names and rng.random() < 0.05 else [])


def block(rng: random.Random, names: list[str]) -> bytes:
    lines = [f"{name}: {rng.choice(VALUES[name])}".rstrip() for name in names]
    return "\r\n".join(["GET / HTTP/1.1", "Host: a.example", *lines, "", ""]).encode()


@pytest.mark.parametrize("ways", list(itertools.permutations(WAYS)), ids=lambda ways: "-".join(type(way).__name__[:3] for way in ways))
def test_who_calls_is_who_the_first_credential_present_names(ways: tuple[Identity, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "_shapes", Shapes())
    monkeypatch.setattr(shapes, "_OFTEN", 3)
    http1._blocks.clear()
    rng, everybody = random.Random(str(ways)), Everybody()
    tokens = SimpleNamespace(known=lambda text: everybody.of(Token, text))
    config = SimpleNamespace(identity=ways)
    identities = Identities(cast(Any, config), cast(Any, everybody), TrustedProxies([PROXY]), cast(Any, tokens))
    kinds = [kind(rng) for _ in range(30)]
    read = RequestParser(Limits(), Request)
    shaped = 0
    for turn in range(3000):
        if turn % 50 == 0:
            read, names = RequestParser(Limits(), Request), rng.choice(kinds)
            everybody.let_go(rng)
        request, _ = read.feed(block(rng, names))
        assert request is not None
        request.peer = rng.choice((PROXY, STRANGER))
        shaped += request.fields.shape is not None
        try:
            expected = identities.credentials.of(request, request.peer == PROXY)
        except AmbiguousCredentials:
            with pytest.raises(AmbiguousCredentials):
                identities.known(request)
            continue
        if expected is None:
            with pytest.raises(Unauthorized):
                identities.known(request)
            continue
        found = identities.known(request)
        assert found is not None
        assert found.org.entitlement.org_id == f"{type(expected).__name__} {said(expected)}"
        assert found.valid
    assert shaped > 500
