"""Sessions of pages: a cookie that holds a token, and the proof that a change comes from a page of ours."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from billing.api.server import application
from billing.api.sessions import COOKIE
from billing.model.token import Scope

from .conftest import Desk
from .test_tokens import parts_of

SESSION, UPGRADE, USAGE = "/api/v1/session", "/api/v1/billing/subscription/upgrade", "/api/v1/billing/usage"
CHANGE = {"plan": "pro", "preview": True}


@pytest.fixture
async def page(sold: Desk) -> AsyncIterator[TestClient]:
    """A browser, as far as cookies go."""
    await sold.billing.orgs.create("Acme", plan="free")
    async with TestClient(TestServer(application(parts_of(sold))), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def token(desk: Desk, scope: Scope = Scope.BILLING) -> str:
    return (await desk.billing.tokens.create(org_ref="acme", scopes=(scope,), label="", seconds=None, by="ann")).text


async def test_a_page_signs_in_reads_changes_with_its_proof_and_signs_out(sold: Desk, page: TestClient) -> None:
    answer = await page.post(SESSION, json={"token": await token(sold)})
    said = await answer.json()
    [cookie] = [morsel for name, morsel in answer.cookies.items() if name == COOKIE]
    assert (answer.status, cookie["httponly"], cookie["samesite"], cookie["path"]) == (200, True, "Strict", "/")
    assert (await page.get(USAGE)).status == 200
    assert (await (await page.get(SESSION)).json()) == said
    assert (await page.post(UPGRADE, json=CHANGE, headers={"X-CSRF-Token": said["csrf"]})).status == 200
    assert (await page.delete(SESSION, headers={"X-CSRF-Token": said["csrf"]})).status == 204
    assert (await page.get(USAGE)).status == 401


async def test_a_change_by_the_cookie_alone_is_refused_whoever_makes_it(sold: Desk, page: TestClient) -> None:
    said = await (await page.post(SESSION, json={"token": await token(sold)})).json()
    proof = said["csrf"]
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "é"}, {"X-CSRF-Token": proof, "Sec-Fetch-Site": "cross-site"}):
        for method, path in (("POST", UPGRADE), ("DELETE", SESSION), ("POST", "/graphql")):
            answer = await page.request(method, path, json=CHANGE, headers=headers)
            assert (answer.status, (await answer.json())["code"]) == (403, "csrf"), (headers, path)
    assert (await sold.billing.subscriptions.show("acme")).subscription.plan == "free"


async def test_another_site_signs_nobody_in(sold: Desk, page: TestClient) -> None:
    text = await token(sold)
    assert (await page.post(SESSION, json={"token": text}, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await page.post(SESSION, data={"token": text})).status == 415  # what a form of another site could send
    for said in ({"token": "wbt_wrong"}, {"token": ""}):
        assert (await page.post(SESSION, json=said)).status == 401
    for said in ({}, {"token": 7}, {"token": text, "more": 1}):
        assert (await page.post(SESSION, json=said)).status == 400
    assert not list(page.session.cookie_jar)


async def test_a_session_ends_with_its_token_and_a_header_comes_before_the_cookie(sold: Desk, page: TestClient) -> None:
    text, other = await token(sold), await token(sold, Scope.READ)
    await page.post(SESSION, json={"token": text})
    answer = await page.post(UPGRADE, json=CHANGE, headers={"Authorization": f"Bearer {other}"})
    assert (answer.status, (await answer.json())["code"]) == (403, "scope_missing")
    await sold.billing.tokens.revoke(text, by="bob")
    assert (await page.get(USAGE)).status == 401
