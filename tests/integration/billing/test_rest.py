"""The control API as HTTP: tags, keys of changes that are asked for again, and what is refused before anything is done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from billing.api import bodies
from billing.api.attempts import Attempts
from billing.api.repeated import Answer, once
from billing.api.sealing import Seal, seal
from billing.api.server import application
from billing.model.token import Scope
from billing.services.repeats import KEPT_MS, KeyReused, OutcomeUnknown, StillAsked
from metering.model.errors import Conflict, DependencyUnavailable, WeighbridgeError

from .conftest import Desk
from .test_tokens import parts_of

SUBSCRIPTION, UPGRADE, TOKENS = "/api/v1/billing/subscription", "/api/v1/billing/subscription/upgrade", "/api/v1/billing/tokens"


@pytest.fixture
async def api(sold: Desk) -> AsyncIterator[TestClient]:
    """As an administrator of Acme."""
    await sold.billing.orgs.create("Acme", plan="free")
    text = (await sold.billing.tokens.create(org_ref=None, scopes=(Scope.ADMIN,), label="", seconds=None, by="ann")).text
    async with TestClient(TestServer(application(parts_of(sold))), headers={"Authorization": f"Bearer {text}"}) as client:
        yield client


async def code(answer: ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json(content_type=None))["code"]


async def test_an_answer_that_still_stands_is_not_sent_again(sold: Desk, api: TestClient) -> None:
    first = await api.get(SUBSCRIPTION, params={"org": "acme"})
    tag = first.headers["ETag"]
    assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("private, no-cache", "Authorization, X-API-Key")
    again = await api.get(SUBSCRIPTION, params={"org": "acme"}, headers={"If-None-Match": tag})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    await sold.billing.subscriptions.change_plan("acme", "pro")
    changed = await api.get(SUBSCRIPTION, params={"org": "acme"}, headers={"If-None-Match": tag})
    assert (changed.status, changed.headers["ETag"] == tag) == (200, False)


async def test_a_change_under_a_key_is_made_once_and_answered_each_time(sold: Desk, api: TestClient) -> None:
    """And what is told once, a token, is not to be read in the database."""
    headers, body = {"Idempotency-Key": "first"}, {"scopes": ["read"], "label": "ci", "all": True}
    answers = [await api.post(TOKENS, json=body, headers=headers) for _ in range(3)]
    texts = {await answer.text() for answer in answers}
    assert ({a.status for a in answers}, len(texts)) == ({201}, 1)
    assert [a.headers.get("Idempotency-Replayed") for a in answers] == [None, "true", "true"]
    assert await sold.pool.fetchval("SELECT count(*) FROM billing.api_tokens WHERE label = 'ci'") == 1
    (row,) = await sold.pool.fetch("SELECT * FROM billing.repeats")
    assert all(word not in bytes(row["answer"]) for word in (b"wbt_", b"ci"))
    assert await code(await api.post(TOKENS, json={**body, "label": "other"}, headers=headers)) == (422, "idempotency_key_reused")
    assert (await api.post(TOKENS, json=body, headers={"Idempotency-Key": "second"})).status == 201
    assert await sold.pool.fetchval("SELECT count(*) FROM billing.api_tokens WHERE label = 'ci'") == 2


async def test_the_same_key_of_another_caller_is_another_key(sold: Desk, api: TestClient) -> None:
    other = (await sold.billing.tokens.create(org_ref=None, scopes=(Scope.ADMIN,), label="", seconds=None, by="bob")).text
    for headers in ({}, {"Authorization": f"Bearer {other}"}):
        answer = await api.post(TOKENS, json={"scopes": ["read"], "all": True}, headers={"Idempotency-Key": "same", **headers})
        assert (answer.status, "Idempotency-Replayed" in answer.headers) == (201, False)


async def test_what_was_refused_may_be_asked_again_under_its_key(sold: Desk, api: TestClient) -> None:
    params, headers = {"org": "acme"}, {"Idempotency-Key": "upgrade"}
    assert (await api.post(UPGRADE, params=params, json={"plan": "gold"}, headers=headers)).status == 404
    await sold.billing.orgs.create("Bolt", plan="free")
    assert (await api.post(UPGRADE, params=params, json={"plan": "pro"}, headers=headers)).status == 200


def named(key: str = "k", body: bytes = b"{}") -> Seal:
    return seal(credential="wbt_x", key=key, method="POST", target="/", body=body)


def failing(error: BaseException) -> Callable[[], Awaitable[Answer]]:
    async def work() -> Answer:
        raise error

    return work


async def done() -> Answer:
    return Answer(200, "{}")


FAULTS = [(Conflict(), None), (WeighbridgeError(), OutcomeUnknown), (DependencyUnavailable(), OutcomeUnknown), (KeyError(), OutcomeUnknown)]


@pytest.mark.parametrize(("fault", "then"), FAULTS)
async def test_what_perhaps_was_made_is_not_made_again(desk: Desk, fault: Exception, then: type[Exception] | None) -> None:
    with pytest.raises(type(fault)):
        await once(desk.billing.repeats, named(), failing(fault))
    if then is None:
        assert await once(desk.billing.repeats, named(), done) == Answer(200, "{}")
    else:
        with pytest.raises(then):
            await once(desk.billing.repeats, named(), done)


async def test_of_two_that_ask_at_once_one_makes_the_change(desk: Desk) -> None:
    made, going = [], asyncio.Event()

    async def slow() -> Answer:
        made.append(1)
        await going.wait()
        return Answer(200, '{"n": 1}')

    first = asyncio.create_task(once(desk.billing.repeats, named(), slow))
    while not made:
        await asyncio.sleep(0)
    with pytest.raises(StillAsked):
        await once(desk.billing.repeats, named(), slow)
    with pytest.raises(KeyReused):
        await once(desk.billing.repeats, named(body=b"[]"), slow)
    going.set()
    assert (await first, await once(desk.billing.repeats, named(), slow), len(made)) == (
        Answer(200, '{"n": 1}'), Answer(200, '{"n": 1}', again=True), 1
    )  # fmt: skip


async def test_a_key_is_kept_for_a_day_and_what_nobody_ended_is_unknown_after_a_while(desk: Desk) -> None:
    assert await desk.billing.repeats.begin(named("left").id, named("left").fingerprint) is None  # and its process died
    await once(desk.billing.repeats, named(), done)
    desk.clock.advance(601)
    with pytest.raises(OutcomeUnknown):
        await once(desk.billing.repeats, named("left"), done)
    assert (await once(desk.billing.repeats, named(), done)).again
    desk.clock.advance(KEPT_MS // 1000)
    assert not (await once(desk.billing.repeats, named(), done)).again
    assert await desk.pool.fetchval("SELECT count(*) FROM billing.repeats") == 1


REFUSED: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, (415, "unsupported_media_type")),
    ({"data": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, (415, "unsupported_media_type")),
    ({"json": {}, "headers": {"Accept": "text/html"}}, (406, "not_acceptable")),
    ({"json": {}, "headers": {"If-Match": "*"}}, (412, "precondition_failed")),
    ({"json": {}, "headers": {"Idempotency-Key": ""}}, (400, "idempotency_key_faulty")),
    ({"data": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, (400, "not_json")),
    ({"data": b"[]", "headers": {"Content-Type": "application/json"}}, (400, "not_json")),
    ({"data": b'{"plan": "\xff"}', "headers": {"Content-Type": "application/json"}}, (400, "not_json")),
    ({"data": b" " * (bodies.MOST_BYTES + 1), "headers": {"Content-Type": "application/json"}}, (413, "body_too_large")),
]


async def test_what_cannot_be_read_or_answered_is_refused_with_its_status(api: TestClient) -> None:
    for request, refusal in REFUSED:
        assert await code(await api.post(UPGRADE, params={"org": "acme"}, **request)) == refusal, request["headers"]
    for method, path in (("PUT", UPGRADE), ("POST", SUBSCRIPTION), ("TRACE", SUBSCRIPTION)):
        answer = await api.request(method, path)
        assert (await code(answer), "OPTIONS" in answer.headers["Allow"]) == ((405, "method_not_allowed"), True)


async def test_a_body_that_says_no_length_is_bound_too(api: TestClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(bodies.MOST_BYTES // 65_536 + 1):
            yield b" " * 65_536

    answer = await api.post(UPGRADE, params={"org": "acme"}, data=endless(), headers={"Content-Type": "application/json"})
    assert await code(answer) == (413, "body_too_large")


async def test_head_and_options_are_answered(api: TestClient) -> None:
    head = await api.head(SUBSCRIPTION, params={"org": "acme"})
    assert (head.status, await head.read(), "ETag" in head.headers) == (200, b"", True)
    options = await api.options(SUBSCRIPTION)
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, PATCH")


async def test_who_guesses_credentials_is_told_to_wait_and_who_has_one_is_not(sold: Desk) -> None:
    made = await sold.billing.orgs.create("Acme", plan="free")
    good, bad = {"X-API-Key": made.api_key}, {"Authorization": "Bearer wbt_guess"}
    async with TestClient(TestServer(application(replace(parts_of(sold), attempts=Attempts(sold.clock, most=2))))) as client:
        assert (await client.get(SUBSCRIPTION, headers=good)).status == 200
        assert [(await client.get(SUBSCRIPTION, headers=bad)).status for _ in range(4)] == [401, 401, 429, 429]
        waiting = await client.get(SUBSCRIPTION, headers=bad)
        assert (await code(waiting), waiting.headers["Retry-After"]) == ((429, "too_many_attempts"), "60")
        assert (await client.get(SUBSCRIPTION, headers=good)).status == 200
        sold.clock.advance(60)
        assert (await client.get(SUBSCRIPTION, headers=bad)).status == 401
