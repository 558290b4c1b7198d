"""Tokens: which are good, for how long they are remembered, and what a bad one costs."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from config.gateway import JwtIdentity
from gateway import tokens as module
from gateway.directory import Caller
from gateway.jwks import AGAIN_SECONDS, FRESH_SECONDS, IssuerUnavailable, KeySets
from gateway.strangers import MISS_BURST, TooManyUnknownKeys
from gateway.tokens import InvalidToken, Tokens, open_tokens
from metering.model import keys
from metering.model.apikey import Kind
from metering.model.errors import ConfigFaulty, StoreUnavailable
from metering.store.redis.errors import LinkLost
from tests.unit.gateway.issuers import AUDIENCE, EC, OTHER_RSA, RSA, URL, claims, jwk, key_set, token
from tests.unit.gateway.test_directory import HERE, ORG, Desk

WAY = JwtIdentity(issuer=URL, audience=(AUDIENCE, "other-api"), jwks_url="https://id.example.com/keys", tenant_claim="shop")
SECRET = "a secret of more than thirty-two bytes"
SHARED = JwtIdentity(issuer="shared", audience=(AUDIENCE,), algorithms=("HS256",), secret_env="JWT_SECRET")


class House:
    """An issuer, a store that knows acme, and the tokens of one worker."""

    def __init__(self, *ways: JwtIdentity) -> None:
        self.desk = Desk(most=1000)
        self.desk.store.publish()
        self.clock = self.desk.clock
        self.body = key_set(jwk(RSA, "one"), jwk(EC, "two"))
        self.down = False
        self.fetched = 0
        self.sets = KeySets(self.clock.monotonic, self.fetch)
        self.tokens = self.open(*ways)

    def open(self, *ways: JwtIdentity) -> Tokens:
        return open_tokens(ways or (WAY, SHARED), {"JWT_SECRET": SECRET}.get, self.sets, self.desk.directory)

    async def fetch(self, url: str) -> bytes:
        self.fetched += 1
        if self.down:
            raise OSError("gone")
        return self.body

    def claims(self, **changed: Any) -> dict[str, Any]:
        return claims(self.clock.now_ms(), **changed)

    async def find(self, text: str, address: str = HERE) -> Caller:
        return self.tokens.known(text) or await self.tokens.find(text, address)

    async def refused(self, text: str, address: str = HERE) -> str:
        with pytest.raises((InvalidToken, TooManyUnknownKeys)) as caught:
            await self.find(text, address)
        assert self.tokens.known(text) is None
        return str(caught.value)


@pytest.fixture
def house() -> House:
    return House()


# --- good ones ----------------------------------------------------------------------------------------------------------


async def test_a_good_token_names_its_organization_its_scopes_and_its_tenant(house: House) -> None:
    caller = await house.find(token(house.claims(scope="read reports:all", shop="shop-7")))
    assert (caller.org.entitlement.org_id, caller.tenant, caller.key.kind) == (ORG, "shop-7", Kind.TOKEN)
    assert caller.key.scopes == {"read", "reports:all"}
    assert caller.key.key_id == 0


@pytest.mark.parametrize("ref", [ORG, "acme"])
async def test_the_organization_is_named_by_id_or_by_slug(house: House, ref: str) -> None:
    assert (await house.find(token(house.claims(org_id=ref)))).org.entitlement.slug == "acme"


@pytest.mark.parametrize(
    "changed",
    [{"aud": ["x", AUDIENCE]}, {"aud": "other-api"}, {"nbf": 1}, {"iat": None}, {"exp": 2**33 + 0.5}, {"scope": None}, {"shop": 7}],
)
async def test_what_a_good_token_may_say(house: House, changed: dict[str, Any]) -> None:
    assert (await house.find(token(house.claims(**changed)))).valid


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_the_types_that_an_access_token_may_have(house: House, typ: str | None) -> None:
    assert (await house.find(token(house.claims(), typ=typ))).valid


async def test_every_configured_algorithm_is_taken(house: House) -> None:
    assert (await house.find(token(house.claims(), EC, "ES256", "two"))).valid
    assert (await house.find(token(house.claims(iss="shared"), SECRET, "HS256", None))).valid


async def test_scopes_may_come_as_a_list_and_under_another_name() -> None:
    house = House(JwtIdentity(issuer=URL, audience=(AUDIENCE,), jwks_url="https://k/", scopes_claim="permissions"))
    caller = await house.find(token(house.claims(permissions=["read", 5, "with space", "write"], scope="admin")))
    assert caller.key.scopes == {"read", "write"}


# --- remembered ---------------------------------------------------------------------------------------------------------


async def test_a_token_costs_cryptography_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text = token(house.claims())
    caller = await house.find(text)
    monkeypatch.setattr(jwt.PyJWS, "decode", lambda *args, **options: pytest.fail("verified again"))
    assert await house.find(text) is caller
    house.desk.store.publish(version=2)
    house.desk.directory.heard("org", ORG)
    assert not caller.valid
    assert (await house.find(text)).org.entitlement.version == 2


async def test_a_token_is_good_until_it_expires_and_the_skew_has_passed(house: House) -> None:
    text = token(house.claims())
    await house.find(text)
    house.clock.advance(3600 + WAY.skew_s - 0.01)
    assert await house.find(text)
    house.clock.advance(0.02)
    with pytest.raises(Exception, match="expired"):
        await house.find(text)


async def test_tokens_are_remembered_within_bounds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for number in range(9):
        await house.find(token(house.claims(jti=str(number))))
    assert len(house.tokens._verified) == 3


async def test_what_a_withdrawn_key_signed_is_refused_once_the_issuer_says_so(house: House) -> None:
    good, withdrawn = token(house.claims(), EC, "ES256", "two"), token(house.claims())
    kept, lost = await house.find(good), await house.find(withdrawn)
    house.body = key_set(jwk(EC, "two"))
    house.clock.advance(FRESH_SECONDS + 1)
    house.tokens.tend()
    while house.fetched < 2 or lost.valid:
        await asyncio.sleep(0)
    assert kept.valid
    assert "no key" in await house.refused(withdrawn)


async def withdraw_first_key(house: House) -> None:
    """The issuer takes its RSA key back, and this worker learns it."""
    house.body, fetched = key_set(jwk(EC, "two")), house.fetched
    house.clock.advance(FRESH_SECONDS + 1)
    house.tokens.tend()
    while house.fetched == fetched or house.sets.at(WAY.jwks_url or "").find("one", "RS256") is not None:
        await asyncio.sleep(0)


async def test_a_token_too_many_to_remember_is_no_caller_either(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    withdrawn = token(house.claims())
    first = await house.find(withdrawn)
    for number in range(3):
        await house.find(token(house.claims(jti=str(number)), EC, "ES256", "two"))
    await withdraw_first_key(house)
    assert not first.valid
    assert "no key" in await house.refused(withdrawn)


async def test_a_key_withdrawn_while_the_organization_is_read_lets_nobody_in(house: House) -> None:
    withdrawn = token(house.claims())
    await house.find(token(house.claims(), EC, "ES256", "two"))
    house.desk.directory.forget_all()
    house.desk.store.gate.clear()
    asking = asyncio.ensure_future(house.tokens.find(withdrawn, HERE))
    while not house.desk.store.reads(keys.slug("acme")):
        await asyncio.sleep(0)
    await withdraw_first_key(house)
    house.desk.store.gate.set()
    with pytest.raises(InvalidToken, match="no key"):
        await asking


async def test_a_refresh_does_not_bring_back_what_a_withdrawn_key_signed(house: House) -> None:
    withdrawn = token(house.claims())
    caller = await house.find(withdrawn)
    await house.find(token(house.claims(), EC, "ES256", "two"))
    await withdraw_first_key(house)
    await house.desk.directory.refresh(caller)
    assert "no key" in await house.refused(withdrawn)


async def test_tokens_of_a_former_configuration_are_no_callers_of_the_present_one(house: House) -> None:
    text = token(house.claims())
    await house.find(text)
    house.tokens = house.open(JwtIdentity(issuer=URL, audience=("another",), jwks_url=WAY.jwks_url))
    assert "audience" in await house.refused(text)


async def test_a_refresh_keeps_what_the_token_said(house: House) -> None:
    stale = await house.find(token(house.claims(scope="read", shop="shop-7")))
    house.desk.store.publish(version=2)
    fresh = await house.desk.directory.refresh(stale)
    assert (fresh.org.entitlement.version, fresh.tenant, fresh.key.scopes) == (2, "shop-7", {"read"})
    assert not stale.valid
    assert (await house.find(token(house.claims(scope="read", shop="shop-7")))).org is fresh.org


# --- bad ones -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "https://evil.example.com/"}, "issuer"),
        ({"iss": URL.rstrip("/")}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [URL]}, "issuer"),
        ({"aud": None}, "audience"),
        ({"aud": "somebody"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": [["api"]]}, "audience"),
        ({"aud": {"api": 1}}, "audience"),
        ({"exp": None}, "exp"),
        ({"exp": "2099"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"exp": -1}, "exp"),
        ({"exp": 10**30}, "exp"),
        ({"nbf": 1_740_000_000 + 31}, "not valid yet"),
        ({"iat": 1_740_000_000 + 31}, "not valid yet"),
        ({"nbf": "soon"}, "nbf"),
        ({"org_id": None}, "organization"),
        ({"org_id": 5}, "organization"),
        ({"org_id": ""}, "organization"),
        ({"org_id": "acme\r\nX-Org-Id: other"}, "organization"),
        ({"org_id": "key 5"}, "organization"),
        ({"org_id": "nobody-here"}, "not known here"),
        ({"shop": "a\r\nX-Org-Id: other"}, "tenant"),
        ({"shop": ""}, "tenant"),
        ({"shop": "x" * 129}, "tenant"),
        ({"shop": {"a": 1}}, "tenant"),
        ({"shop": "ü"}, "tenant"),
    ],
)
async def test_a_token_that_says_the_wrong_thing_is_refused(house: House, changed: dict[str, Any], said: str) -> None:
    assert said in await house.refused(jws(house.claims(**changed)))


def jws(of: Any, key: Any = RSA, algorithm: str = "RS256", headers: dict[str, Any] | None = None) -> str:
    """A signed token with whatever payload."""
    return jwt.PyJWS().encode(json.dumps(of).encode(), key, algorithm, headers={"kid": "one", **(headers or {})})


@pytest.mark.parametrize(("skew", "good"), [(29, True), (31, False)])
async def test_clocks_may_differ_by_the_skew_in_either_direction(house: House, skew: int, good: bool) -> None:
    now = house.clock.now_ms() // 1000
    for changed in ({"nbf": now + skew}, {"iat": now + skew}, {"exp": now - skew}):
        text = token(house.claims(**changed))
        assert (await house.find(text)).valid if good else await house.refused(text)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_an_unsigned_token_is_refused_however_it_is_spelled(house: House) -> None:
    for algorithm in ("none", "None", "NONE", "", None, 5, ["RS256"]):
        text = f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'one'})}.{part(house.claims())}."
        assert "algorithm" in await house.refused(text, f"198.51.100.{len(str(algorithm))}")


async def test_a_public_key_is_never_taken_for_a_secret(house: House) -> None:
    """The classic: an RSA issuer's public key, which everybody has, used to sign with HS256."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for number, secret in enumerate((pem, pem.strip(), json.dumps(jwk(RSA, "one")).encode(), b"")):
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{part(house.claims())}"
        mac = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
        assert "algorithm" in await house.refused(f"{signed}.{mac}", f"198.51.100.{number}")


async def test_the_secret_of_one_issuer_signs_nothing_for_another(house: House) -> None:
    assert "algorithm" in await house.refused(token(house.claims(), SECRET, "HS256"))
    assert "algorithm" in await house.refused(token(house.claims(iss="shared"), RSA, "RS256"))
    assert "signature" in await house.refused(token(house.claims(iss="shared"), SECRET + "!", "HS256"))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid", "said"),
    [
        (OTHER_RSA, "RS256", "one", "signature"),
        (RSA, "RS256", "two", "no key"),  # an elliptic key's id
        (RSA, "RS256", "unknown", "no key"),
        (RSA, "RS512", "one", "algorithm"),  # a good one that is not configured
        (EC, "ES256", "one", "no key"),
    ],
)
async def test_a_signature_by_another_key_is_refused(house: House, key: Any, algorithm: str, kid: str, said: str) -> None:
    assert said in await house.refused(token(house.claims(), key, algorithm, kid))


async def test_a_token_that_was_changed_after_it_was_signed_is_refused(house: House) -> None:
    header, _, signature = token(house.claims()).split(".")
    assert "signature" in await house.refused(f"{header}.{part(house.claims(org_id=ORG))}.{signature}")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"crit": ["exp"]}, "header asks"),
        ({"b64": False, "crit": ["b64"]}, "header asks"),
        ({"typ": "secevent+jwt"}, "another type"),
        ({"typ": "dpop+jwt"}, "another type"),
        ({"kid": 5}, "key id"),
        ({"kid": ["one"]}, "key id"),
    ],
)
async def test_a_header_that_asks_for_something_else_is_refused(house: House, headers: dict[str, Any], said: str) -> None:
    header = part({"alg": "RS256", "kid": "one", **headers})
    assert said in await house.refused(f"{header}.{part(house.claims())}.AAAA")


async def test_keys_in_the_header_are_not_looked_at(house: House) -> None:
    text = token(house.claims(), OTHER_RSA, kid="evil", jwk=jwk(OTHER_RSA, "evil"), jku="https://evil.example.com/", x5u="https://evil/")
    assert "no key" in await house.refused(text)


@pytest.mark.parametrize(
    "text", ["..", "a.b.c", "!!.??.!!", f"{part([])}.{part({})}.x", f"{part({})}.{part(5)}.x", "é.é.é", "a." * 2 + "b" * 20_000]
)
async def test_what_is_no_token_at_all_is_refused(house: House, text: str) -> None:
    assert "malformed" in await house.refused(text)


async def test_the_refusal_says_why_in_the_challenge(house: House) -> None:
    with pytest.raises(InvalidToken) as caught:
        await house.find(token(house.claims(aud="x")))
    assert (
        caught.value.challenge == 'Bearer realm="api", error="invalid_token", error_description="the token is meant for another audience"'
    )
    assert (caught.value.http_status, caught.value.code) == (401, "invalid_token")


# --- floods and failures ------------------------------------------------------------------------------------------------


async def test_bad_tokens_are_held_down_by_address_before_anything_is_verified(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    known = token(house.claims())
    await house.find(known)
    for number in range(int(MISS_BURST)):
        assert "signature" in await house.refused(token(house.claims(jti=str(number)), OTHER_RSA))
    with monkeypatch.context() as patched:
        patched.setattr(jwt.PyJWS, "decode", lambda *args, **options: pytest.fail("verified"))
        assert "Too many" in await house.refused(token(house.claims(jti="more"), OTHER_RSA))
    assert (await house.find(known)).valid
    assert (await house.find(token(house.claims(jti="good")), "198.51.100.9")).valid


async def test_unknown_key_ids_fetch_once_in_ten_seconds_and_nothing_reaches_the_store(house: House) -> None:
    for number in range(30):
        await house.refused(token(house.claims(), kid=f"made-up-{number}"), f"198.51.100.{number}")
    assert house.fetched == 1
    house.clock.advance(AGAIN_SECONDS)
    house.body = key_set(jwk(RSA, "new"))
    assert (await house.find(token(house.claims(), kid="new"))).valid
    assert house.fetched == 2


async def test_an_issuer_whose_keys_cannot_be_fetched_is_no_refusal_of_its_tokens(house: House) -> None:
    house.down = True
    with pytest.raises(IssuerUnavailable):
        await house.find(token(house.claims()))
    house.down = False
    house.clock.advance(AGAIN_SECONDS)
    assert (await house.find(token(house.claims()))).valid
    house.down = True
    house.clock.advance(FRESH_SECONDS + 1)
    house.tokens.tend()
    assert (await house.find(token(house.claims(jti="x")))).valid  # the keys that are known go on


async def test_a_token_cannot_be_judged_while_nobody_knows_its_organization(house: House) -> None:
    house.desk.store.failure = LinkLost("gone")
    with pytest.raises(StoreUnavailable):
        await house.find(token(house.claims()))
    house.desk.store.failure = None
    assert (await house.find(token(house.claims()))).valid


async def test_a_new_token_of_a_known_organization_needs_no_store(house: House) -> None:
    await house.find(token(house.claims()))
    house.desk.store.failure = LinkLost("gone")
    for ref in (ORG, "acme"):
        assert (await house.find(token(house.claims(org_id=ref, jti="x")))).valid
    assert house.desk.store.reads(keys.entitlement(ORG)) == 1


@pytest.mark.parametrize(("secret", "said"), [(None, "is not set"), ("", "is not set"), ("x" * 31, "holds 31 bytes")])
async def test_a_secret_that_is_missing_or_short_is_a_fault_of_the_configuration(house: House, secret: str | None, said: str) -> None:
    with pytest.raises(ConfigFaulty, match=said):
        open_tokens((SHARED,), lambda name: secret, house.sets, house.desk.directory)
