"""The control API's doors: every route with every kind of credential, and tokens from their making to their end."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from billing.api.doors import Doors, Endpoint
from billing.api.errors import as_json
from billing.api.rest import PREFIX
from billing.api.server import Parts, application, endpoints
from billing.model.token import Scope, Token, includes, mint_token, read_scopes, token_fails
from billing.operations.dispatch import Dispatch
from billing.operations.operation import About, Facts, Operation
from billing.operations.registry import OPERATIONS
from billing.services.access import Access
from billing.services.tokens import NoSuchToken, TokenOver
from billing.services.use_cases import Billing
from metering.model.errors import BadInput, NotFound, Unauthorized

from .conftest import Desk, dispatch_of

READ, BILLING, ADMIN = Scope


async def nothing() -> dict[str, object]:
    return {"ready": True}


def parts_of(desk: Desk) -> Parts:
    return Parts(
        dispatch=dispatch_of(desk), readiness=nothing, metrics=lambda: b"",
        inbox=lambda: desk.billing.inbox, webhook_came=lambda _outcome: None,
    )  # fmt: skip


@pytest.fixture
async def api(sold: Desk) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(application(parts_of(sold)))) as client:
        yield client


async def token(desk: Desk, org: str | None, *scopes: Scope, seconds: int | None = 3600) -> tuple[Token, str]:
    made = await desk.billing.tokens.create(org_ref=org, scopes=scopes or (READ,), label="a test", seconds=seconds, by="ann@ops")
    return made.token, made.text


def paths(*about: About) -> list[tuple[str, str, Scope]]:
    """Every operation about that, as a request: its path with a word for each {name}, and what it needs; what an API key lacks, more
    than reading."""
    return [(o.method, PREFIX + re.sub(r"{\w+}", "api", o.path), BILLING if o.by_token else o.need) for o in OPERATIONS if of(o) in about]


def of(operation: Operation[Any, Any]) -> About:
    """What is no matter for the organization that it is about is, for one that is bound to it, as if it were about all."""
    return About.ALL if operation.unbound else operation.about


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_every_route_that_answers_is_in_the_table_with_what_it_needs(sold: Desk) -> None:
    parts = parts_of(sold)
    table = {(e.method, e.path) for e in endpoints(parts)}
    routes = {(r.method, r.resource.canonical) for r in application(parts).router.routes() if r.resource is not None}
    assert {("GET" if method == "HEAD" else method, path) for method, path in routes} == table
    assert {e.path for e in endpoints(parts) if e.need is None} == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/webhooks/stripe",
        "/api/v1/openapi.json",
        "/api/v1/docs",
        "/api/v1/docs.css",
        "/api/v1/docs.js",
        "/api/v1/session",
    }


async def test_a_route_that_declares_nothing_lets_nobody_in(sold: Desk) -> None:
    async def secret(_request: web.Request) -> web.Response:
        return web.Response(text="everything")

    doors = Doors(lambda: sold.billing.access)
    app = web.Application(middlewares=[as_json, doors.middleware])
    app.router.add_get("/forgotten", secret)
    _, text = await token(sold, None, ADMIN)
    async with TestClient(TestServer(app)) as client:
        for headers in ({}, bearer(text)):
            answer = await client.get("/forgotten", headers=headers)
            assert (answer.status, "everything" in await answer.text()) == (500, False)


async def test_without_a_credential_and_with_a_wrong_one_every_guarded_route_is_401(sold: Desk, api: TestClient) -> None:
    _, text = await token(sold, None)
    wrong = [
        {}, bearer(mint_token(b"x" * 24)), bearer(text[:-1] + ("0" if text[-1] != "0" else "1")), bearer("wbt_"), {"Authorization": text},
        {"Authorization": f"Basic {text}"}, {"X-API-Key": "wbt_ü"}, {"X-API-Key": " "}, bearer("é" * 9),
    ]  # fmt: skip
    for method, path, _ in paths(*About):
        for headers in wrong:
            answer = await api.request(method, path, headers=headers)
            assert (answer.status, (await answer.json())["code"]) == (401, "unauthorized"), (path, headers)
            assert "WWW-Authenticate" in answer.headers


async def test_a_token_or_key_of_one_organization_finds_no_other_on_any_route(sold: Desk, api: TestClient) -> None:
    acme, bolt = [await sold.billing.orgs.create(name, plan="pro") for name in ("Acme", "Bolt")]
    _, text = await token(sold, "acme", ADMIN)
    for credential in (text, acme.api_key):
        for method, path, need in paths(About.ORG, About.EITHER):
            for ref in (bolt.org.id, "bolt", bolt.org.id.upper(), "nobody"):
                answer = await api.request(method, path, params={"org": ref}, headers=bearer(credential))
                said = await answer.text()
                refused = 403 if credential is acme.api_key and need is not READ else 404
                assert (answer.status, "bolt" in said.replace(ref, "").lower()) == (refused, False), (path, ref, said)
        for method, path, _ in paths(About.ALL):
            answer = await api.request(method, path, headers=bearer(credential))
            assert (answer.status, "bolt" in (await answer.text()).lower()) == (403, False), path
    assert [row["slug"] for row in await sold.pool.fetch("SELECT slug FROM billing.organizations ORDER BY slug")] == ["acme", "bolt"]


async def test_its_own_is_read_on_every_route_under_row_level_security(sold: Desk, api: TestClient) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    _, text = await token(sold, "acme", ADMIN)
    for method, path, _ in paths(About.ORG, About.EITHER):
        if method == "GET":
            answer = await api.request(method, path, params={"org": "acme"}, headers=bearer(text))
            assert answer.status in (200, 400, 404), (path, await answer.text())  # 400, 404: it wants what this test does not know


async def test_a_token_for_all_says_which_organization_it_means(sold: Desk, api: TestClient) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="pro")
    _, text = await token(sold, None, ADMIN)
    for method, path, _ in paths(About.ORG):
        assert (await api.request(method, path, headers=bearer(text))).status == 400
        assert (await api.request(method, path + "?org=acme&org=bolt", headers=bearer(text))).status == 400
    for slug in ("acme", "bolt"):
        answer = await api.get(PREFIX + "/usage", params={"org": slug}, headers=bearer(text))
        assert (answer.status, (await answer.json())["org"]["slug"]) == (200, slug)


async def test_one_request_carries_one_credential_once(sold: Desk, api: TestClient) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="pro")
    for twice in ([("X-API-Key", acme.api_key)] * 2, [("Authorization", f"Bearer {acme.api_key}")] * 2):
        assert (await api.get("/api/quota/api", headers=twice)).status == 401


NEEDS = [(READ, {READ, BILLING, ADMIN}), (BILLING, {BILLING, ADMIN}), (ADMIN, {ADMIN})]


async def test_a_scope_includes_those_before_it_and_what_is_missing_is_a_403(sold: Desk) -> None:
    async def done(_request: web.Request) -> web.Response:
        return web.Response(text="done")

    await sold.billing.orgs.create("Acme", plan="pro")
    doors = Doors(lambda: sold.billing.access)
    app = web.Application(middlewares=[as_json, doors.middleware])
    for need in Scope:
        doors.add(app, Endpoint(method="POST", path=f"/{need.value}", handler=done, need=need))
    texts = {scope: (await token(sold, "acme", scope))[1] for scope in Scope}
    async with TestClient(TestServer(app)) as client:
        for need, scope, enough in ((n, s, s in those) for n, those in NEEDS for s in Scope):
            answer = await client.post(f"/{need.value}", headers=bearer(texts[scope]))
            assert (answer.status, includes([scope], need)) == (200 if enough else 403, enough)
            if not enough:
                assert (await answer.json())["details"] == {"scope": need.value}
                assert f'scope="{need.value}"' in answer.headers["WWW-Authenticate"]


async def test_a_token_ends_when_it_was_to_end_when_it_is_revoked_and_with_its_organization(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    access = sold.billing.access
    brief, revoked, orphan, lasting = [await token(sold, "acme", seconds=s) for s in (60, 3600, 3600, None)]
    for _, text in (brief, revoked, orphan, lasting):
        assert (await access.caller(text)).org_id is not None
    sold.clock.advance(60)
    await sold.billing.tokens.revoke(revoked[1], by="bob@ops")
    for _, text in (brief, revoked):
        with pytest.raises(Unauthorized, match="unknown, revoked or expired"):
            await access.caller(text)
    await access.caller(lasting[1])
    await sold.billing.orgs.delete("acme")
    with pytest.raises(Unauthorized):
        await access.caller(orphan[1])
    rows = {row.id: row for row in await sold.billing.tokens.all()}
    assert [rows[t.id].status(sold.clock.now_ms()) for t, _ in (brief, revoked, lasting)] == ["expired", "revoked", "active"]
    assert (rows[revoked[0].id].revoked_by, rows[revoked[0].id].created_by) == ("bob@ops", "ann@ops")


async def test_a_token_is_stored_as_its_hash_and_listed_by_its_end(sold: Desk) -> None:
    made, text = await token(sold, None, ADMIN)
    rows = [dict(row) for row in await sold.pool.fetch("SELECT * FROM billing.api_tokens")]
    assert text not in str(rows)
    assert text[4:-6] not in str(rows)
    assert made.hint == "…" + text[-4:]


async def test_a_token_is_revoked_once_by_number_or_by_itself(sold: Desk) -> None:
    made, text = await token(sold, None)
    await sold.billing.tokens.revoke(str(made.id), by="ann")
    with pytest.raises(TokenOver):
        await sold.billing.tokens.revoke(text, by="ann")
    for ref in ("999", "wbt_nothing", "9" * 40, "-1"):
        with pytest.raises(NoSuchToken) as refusal:
            await sold.billing.tokens.revoke(ref, by="ann")
        assert ref not in str(refusal.value)


SENSELESS: list[tuple[dict[str, object], type[Exception]]] = [
    ({"org_ref": "nobody"}, NotFound), ({"scopes": ()}, BadInput), ({"seconds": 0}, BadInput), ({"label": "a\nb"}, BadInput),
    ({"label": "x" * 201}, BadInput),
]  # fmt: skip


async def test_a_token_that_makes_no_sense_is_refused(sold: Desk) -> None:
    sound: dict[str, object] = {"org_ref": None, "scopes": (READ,), "label": "", "seconds": 60, "by": "ann"}
    for facts, error in SENSELESS:
        with pytest.raises(error):
            await sold.billing.tokens.create(**{**sound, **facts})  # type: ignore[arg-type]
    assert await sold.pool.fetchval("SELECT count(*) FROM billing.api_tokens") == 0


@pytest.mark.parametrize("words", [[], ["root"], ["read", "everything"]])
def test_an_unknown_scope_is_refused_with_those_there_are(words: list[str]) -> None:
    with pytest.raises(BadInput, match="read, billing, admin"):
        read_scopes(words)


def test_scopes_are_kept_in_order_each_once() -> None:
    assert read_scopes(["admin", "read", "admin"]) == (READ, ADMIN)


def test_what_cannot_be_a_token_is_known_without_asking() -> None:
    good = mint_token(bytes(range(24)))
    assert not token_fails(good)
    assert [t for t in ("wbt_", good[:-1], good + "0", good.swapcase(), "wbt_" + "0" * 30) if not token_fails(t)] == []


async def test_what_is_asked_at_the_same_time_stays_apart(sold: Desk, api: TestClient) -> None:
    """Bindings belong to transactions: many callers on few connections each see their own organization alone."""
    keys = {o.org.slug: o.api_key for o in [await sold.billing.orgs.create(f"Org {n}", plan="pro") for n in range(4)]}

    async def ask(slug: str) -> bool:
        answer = await api.get("/api/v1/billing/usage", headers=bearer(keys[slug]))
        return bool((await answer.json())["org"]["slug"] == slug)

    assert all(await asyncio.gather(*(ask(slug) for slug in keys for _ in range(12))))


def test_no_other_file_adds_a_route_to_control() -> None:
    folder = Path(__file__).parents[3] / "billing" / "api"
    assert [path.name for path in folder.glob("*.py") if "router.add" in path.read_text()] == ["doors.py"]


async def test_access_alone_keeps_organizations_apart_where_the_database_would_not(sold: Desk) -> None:
    """The second door behind the first: a login that policies do not hold finds the other organization, and it is refused."""
    acme, bolt = [await sold.billing.orgs.create(name, plan="pro") for name in ("Acme", "Bolt")]

    class Unbound:
        def transaction(self, *, keep: bool = True, org: str | None = None):  # type: ignore[no-untyped-def]
            return sold.billing.access._books.transaction(keep=keep)

    access = Access(Unbound(), sold.clock)
    caller = await access.caller(acme.api_key)
    with pytest.raises(NotFound):
        await access.organization(caller, bolt.org.id)


async def test_no_request_writes_a_line_of_its_own_into_the_log(sold: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def broken(org: str | None, actor: str | None) -> Billing:
        if actor is not None:
            raise RuntimeError("nobody foresaw this")
        return sold.billing

    acme = await sold.billing.orgs.create("Acme", plan="free")
    parts = replace(parts_of(sold), dispatch=Dispatch(broken, Facts, sold.clock))
    odd = "/api/quota/api%0d%0aERROR%20root%1b%5b2J%e2%80%a8"
    async with TestServer(application(parts)) as server:
        for line in (f"GET {odd} HTTP/1.1", "GET /api/quota/a\x1b[2J HTTP/1.1", "GET /\rERROR HTTP/1.1", "BAD\x00 / HTTP/1.1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"{line}\r\nHost: a\r\nX-API-Key: {acme.api_key}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            assert answer.startswith((b"HTTP/1.1 500", b"HTTP/1.0 400", b"HTTP/1.1 400"))
            writer.close()
    messages = [record.getMessage() for record in caplog.records]
    assert any("nobody foresaw this" in message for message in messages)
    assert [message for message in messages if not message.isprintable() or acme.api_key in message] == []
