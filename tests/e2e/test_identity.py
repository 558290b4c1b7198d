"""Who calls, over a running house: tokens whose keys are fetched over HTTP, scopes, keys that change, and floods of bad ones."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from redis.asyncio import Redis

from metering.model import keys
from metering.model.clock import SystemClock

from .conftest import GATEWAY, METERS, PLANS, House, Org, housed

AUDIENCE = "https://api.example.com"
SECRET = "a shared secret of more than thirty-two bytes"
RSA, NEXT = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
IDENTITY = """
identity:
  - api_key: {{from: [X-API-Key, bearer]}}
  - jwt: {{issuer: "{issuer}", audience: "https://api.example.com", org_claim: org, tenant_claim: tenant}}
  - jwt: {{issuer: internal, audience: "https://api.example.com", org_claim: org, secret_env: INTERNAL_SECRET}}
"""
SCOPED = "  - {path: /reports/*, scopes: [reports]}\n"


class Issuer:
    """A real server of public keys on loopback, on a thread of its own."""

    def __init__(self) -> None:
        self.keys = [self.public(RSA, "first"), self.public(EC, "curve")]
        self.fetched, self.status = 0, 200
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(10)

    @staticmethod
    def public(key: Any, kid: str) -> dict[str, Any]:
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}

    async def _answer(self, request: web.Request) -> web.Response:
        self.fetched += 1
        return web.json_response({"keys": self.keys}, status=self.status)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/jwks.json", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[House]:
    gateway = GATEWAY.replace("routes:\n", "routes:\n" + SCOPED) + IDENTITY.format(issuer=issuer.url)
    environ = {"INTERNAL_SECRET": SECRET, "WEIGHBRIDGE_TRUSTED_PROXIES": "127.0.0.1", "WEIGHBRIDGE_WORKERS": "1"}
    with housed(tmp_path_factory, gateway, METERS, PLANS, **environ) as running:
        yield running


@pytest.fixture(scope="module")
def acme(house: House) -> Org:
    made = json.loads(house.cli("org", "create", "Acme", "--plan", "wide", "--format", "json").stdout)
    return Org(made["id"], made["slug"], made["api_key"])


def token(issuer: str, org: str, key: Any = RSA, kid: str = "first", algorithm: str = "RS256", **more: Any) -> str:
    now = SystemClock().now_ms() // 1000
    claims = {"iss": issuer, "aud": AUDIENCE, "exp": now + 600, "iat": now, "org": org, **more}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


async def call(house: House, path: str = "/hello", **headers: str) -> tuple[int, dict[str, str], Any]:
    """(status, headers in lower case, the body's JSON)"""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.get(house.gateway + path, headers=sent) as answer:
        body = await answer.read()
        found = json.loads(body) if answer.content_type == "application/json" else None
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, found


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def until(house: House, status: int, **headers: str) -> Any:
    for _ in range(300):
        answered, _, body = await call(house, **headers)
        if answered == status:
            return body
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {status}, but {answered}: {body}")


# --- tokens -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_token_of_a_trusted_issuer_calls_for_the_organization_that_it_names(house: House, issuer: Issuer, acme: Org) -> None:
    for ref in (acme.slug, acme.id):
        status, _, seen = await call(house, "/hello", **bearer(token(issuer.url, ref, tenant="shop-7")))
        assert status == 200
        told = {name.lower(): value for name, value in seen["headers"].items()}
        assert (told["x-org-id"], told["x-org-slug"], told["x-org-tenant"], told["x-key-id"]) == (acme.id, acme.slug, "shop-7", "0")
    assert (await call(house, **bearer(token(issuer.url, acme.slug, EC, "curve", "ES256"))))[0] == 200
    assert (await call(house, **bearer(token("internal", acme.slug, SECRET, algorithm="HS256"))))[0] == 200
    assert issuer.fetched == 1


@pytest.mark.long
async def test_calls_by_token_are_counted_like_any_others(house: House, issuer: Issuer, acme: Org) -> None:
    before = await house.counter(acme)
    text = token(issuer.url, acme.slug, jti="counted")
    for _ in range(5):
        assert (await call(house, **bearer(text)))[0] == 200
    assert await house.counter(acme) == before + 5


@pytest.mark.long
async def test_a_bad_token_is_refused_with_the_reason_in_the_challenge(house: House, issuer: Issuer, acme: Org) -> None:
    public = json.dumps(issuer.keys[0])
    bad = {
        "the token is meant for another audience": token(issuer.url, acme.slug, aud="another"),
        "the token has expired": token(issuer.url, acme.slug, exp=1),
        "the signature does not fit": token(issuer.url, acme.slug, NEXT),
        "the issuer is not one that is trusted here": token("https://evil.example.com", acme.slug),
        "the algorithm is not one that is taken here": jwt.encode({"iss": issuer.url}, public[:40], "HS256"),
        "the organization that the token names is not known here": token(issuer.url, "nobody"),
    }
    for number, (reason, text) in enumerate(bad.items()):
        status, headers, body = await call(house, X_Forwarded_For=f"198.51.100.{number}", **bearer(text))
        assert (status, body["error"]["code"], body["error"]["message"]) == (401, "invalid_token", reason)
        assert headers["www-authenticate"] == f'Bearer realm="api", error="invalid_token", error_description="{reason}"'


@pytest.mark.long
async def test_an_organization_that_is_made_now_is_known_to_tokens_at_once_and_one_that_is_deleted_no_longer(
    house: House, issuer: Issuer
) -> None:
    made = await house.org("Fresh Start", "wide")
    text = token(issuer.url, made.slug)
    assert (await call(house, **bearer(text)))[0] == 200
    await house.run("org", "delete", made.slug, "--yes")
    body = await until(house, 401, **bearer(text))
    assert body["error"]["code"] in ("invalid_token", "unauthorized")


@pytest.mark.long
async def test_a_store_that_forgot_learns_the_slugs_again(house: House, issuer: Issuer, acme: Org) -> None:
    store = Redis.from_url(house.ready["redis"])
    assert await store.get(keys.slug(acme.slug)) == acme.id.encode()
    await store.flushall()
    for _ in range(300):
        if await store.get(keys.slug(acme.slug)) == acme.id.encode():
            break
        await asyncio.sleep(0.1)
    await until(house, 200, **bearer(token(issuer.url, acme.slug, jti="after")))
    await store.aclose()


@pytest.mark.long
async def test_a_token_with_ten_seconds_of_unknown_keys_behind_it_fetches_them_once(house: House, issuer: Issuer, acme: Org) -> None:
    before = issuer.fetched
    issuer.keys = [*issuer.keys, issuer.public(NEXT, "next")]
    made_up = [token(issuer.url, acme.slug, NEXT, f"made-up-{number}") for number in range(15)]
    await asyncio.gather(*(call(house, X_Forwarded_For=f"198.51.101.{n}", **bearer(text)) for n, text in enumerate(made_up)))
    assert issuer.fetched <= before + 1
    await until(house, 200, **bearer(token(issuer.url, acme.slug, NEXT, "next")))  # the new key, as soon as one may ask again
    assert issuer.fetched <= before + 2


# --- keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_scope_is_asked_for_by_name_and_granted_for_the_next_call(house: House, issuer: Issuer, acme: Org) -> None:
    made = await house.run("key", "create", acme.slug, "--scope", "read")
    status, headers, body = await call(house, "/reports/1", X_API_Key=made["api_key"])
    assert (status, body["error"]["code"], body["error"]["details"]) == (403, "scope_missing", {"missing": ["reports"]})
    assert headers["www-authenticate"] == 'Bearer realm="api", error="insufficient_scope", scope="reports"'
    assert (await call(house, "/hello", X_API_Key=made["api_key"]))[0] == 200
    await house.run("key", "grant", str(made["id"]), "--scope", "read", "--scope", "reports")
    for _ in range(100):
        if (await call(house, "/reports/1", X_API_Key=made["api_key"]))[0] == 200:
            break
        await asyncio.sleep(0.05)
    await house.run("key", "grant", str(made["id"]), "--no-scopes")
    assert (await call(house, "/reports/1", X_API_Key=made["api_key"]))[0] == 403
    assert (await call(house, "/reports/1", **bearer(token(issuer.url, acme.slug, scope="reports"))))[0] == 200
    assert (await call(house, "/reports/1", **bearer(token(issuer.url, acme.slug))))[0] == 403


@pytest.mark.long
async def test_a_rotated_key_works_beside_the_new_one_and_the_list_says_so(house: House, acme: Org) -> None:
    old = await house.run("key", "create", acme.slug, "--label", "rotated", "--scope", "reports")
    new = await house.run("key", "rotate", str(old["id"]), "--overlap", "24h")
    assert [(await call(house, "/reports/1", X_API_Key=each["api_key"]))[0] for each in (old, new)] == [200, 200]
    listed = {row["id"]: row for row in (await house.run("key", "list", acme.slug))["keys"]}
    assert (listed[old["id"]]["status"], listed[old["id"]]["replaced_by"]) == ("expiring", new["id"])
    assert listed[new["id"]]["scopes"] == ["reports"]


@pytest.mark.long
async def test_a_keys_own_limit_holds_for_it_alone_and_another_acts_on_the_next_call(house: House, acme: Org) -> None:
    made = await house.run("key", "create", acme.slug, "--limit", "api=3/day")
    assert [(await call(house, X_API_Key=made["api_key"]))[0] for _ in range(4)] == [200, 200, 200, 429]
    _, headers, body = await call(house, X_API_Key=made["api_key"])
    assert (body["error"]["details"]["quota"], body["error"]["details"]["per"]) == (3, "key")
    assert '"api-daily-key";q=3' in headers["ratelimit-policy"]
    assert (await call(house, X_API_Key=acme.api_key))[0] == 200
    await house.run("key", "grant", str(made["id"]), "--limit", "api=5/day")
    assert [(await call(house, X_API_Key=made["api_key"]))[0] for _ in range(3)] == [200, 200, 429]
    await house.run("key", "grant", str(made["id"]), "--no-limits")
    assert (await call(house, X_API_Key=made["api_key"]))[0] == 200


@pytest.mark.long
async def test_a_keys_own_rate_holds_for_it_alone(house: House, acme: Org) -> None:
    made = await house.run("key", "create", acme.slug, "--limit", "api=2/minute")
    assert [(await call(house, X_API_Key=made["api_key"]))[0] for _ in range(3)] == [200, 200, 429]
    assert (await call(house, X_API_Key=acme.api_key))[0] == 200


@pytest.mark.long
async def test_a_test_key_is_limited_by_itself_and_billed_to_nobody(house: House) -> None:
    org = await house.org("Tester", "pro")  # overage from 1,000 on; each call on a report weighs ten
    made = await house.run("key", "create", org.slug, "--test", "--limit", "api=60/day")
    assert made["api_key"].startswith("wbk_test_")
    headers = {"X_API_Key": made["api_key"]}
    assert [(await call(house, "/v1/reports/1", **headers))[0] for _ in range(7)] == [200] * 6 + [429]
    _, _, seen = await call(house, "/hello", X_API_Key=org.api_key)
    assert "X-Org-Test" not in seen["headers"]
    assert await house.counter(org) == 1
    assert await house.counter(org, "?api") == 60
    await house.flush()
    assert (await house.ledger(org), await house.ledger(org, "?api")) == ((1, 0), (60, 0))
    usage = {row["service"]: row for row in (await house.run("usage", "--org", org.slug))["usage"]}
    assert (usage["api"]["current_usage"], usage["?api"]["current_usage"], usage["?api"]["quota"]) == (1, 60, None)


@pytest.mark.long
async def test_two_keys_in_one_request_are_ambiguous(house: House, acme: Org) -> None:
    headers = [("X-API-Key", acme.api_key), ("X-API-Key", acme.api_key)]
    async with aiohttp.ClientSession() as session, session.get(house.gateway + "/hello", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "ambiguous_credentials")


@pytest.mark.long
async def test_what_a_client_says_of_itself_never_reaches_the_service(house: House, acme: Org) -> None:
    claims = {"X-Org-Id": "mine", "X-Org-Tenant": "mine", "X-Org-Test": "true", "X-Key-Id": "7", "X_Org_Slug": "mine"}
    _, _, seen = await call(house, "/hello", X_API_Key=acme.api_key, **claims)
    assert "mine" not in json.dumps(seen["headers"])
    assert not [name for name in seen["headers"] if name.lower() in ("x-org-tenant", "x-org-test")]


# --- floods -------------------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_flood_of_bad_keys_costs_the_store_next_to_nothing_and_hurts_no_known_neighbour(house: House, acme: Org) -> None:
    store = Redis.from_url(house.ready["redis"])
    here = {"X_Forwarded_For": "203.0.113.77"}
    assert (await call(house, X_API_Key=acme.api_key, **here))[0] == 200
    async with aiohttp.ClientSession() as session:

        async def bad(number: int) -> int:
            kind = ("wbk_live_nonsense", f"unknown-{number}", f"a.{number}.c")[number % 3]
            headers = {"X-Forwarded-For": "203.0.113.77", "Authorization": f"Bearer {kind}"}
            async with session.get(house.gateway + "/hello", headers=headers) as answer:
                return answer.status

        before = (await store.info("commandstats")).get("cmdstat_rpush", {}).get("calls", 0)
        statuses: list[int] = []
        for start_at in range(0, 3000, 100):
            statuses += await asyncio.gather(*(bad(n) for n in range(start_at, start_at + 100)))
        assert (await call(house, X_API_Key=acme.api_key, **here))[0] == 200
    asked = (await store.info("commandstats")).get("cmdstat_rpush", {}).get("calls", 0) - before
    assert set(statuses) == {401, 429}
    assert statuses.count(429) > 2000
    assert asked < 300
    await store.aclose()


@pytest.mark.long
async def test_refusals_fill_no_log(house: House) -> None:
    before = len(refusals(house))
    async with aiohttp.ClientSession() as session:

        async def nameless() -> None:
            async with session.get(house.gateway + "/hello") as answer:
                assert answer.status == 401

        for _ in range(10):
            await asyncio.gather(*(nameless() for _ in range(100)))
    for _ in range(100):
        written = [line for line in refusals(house)[before:] if line["reason"] == "unauthorized"]
        if sum(line.get("more", 1) for line in written) >= 1000:
            break
        await asyncio.sleep(0.1)
    assert sum(line.get("more", 1) for line in written) >= 1000  # none is left out of the sum
    assert len(written) < 500


def refusals(house: House) -> list[dict[str, Any]]:
    return [json.loads(line[line.index("{") :]) for line in house.log.read_text().splitlines() if '"event":"refused"' in line]
