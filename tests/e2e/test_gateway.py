"""What a caller and a service see of the gateway, over real sockets: routes, identity, refusals, failure rules."""

import asyncio
import hashlib
import hmac
import json
import os
import re
import signal
from collections.abc import Iterator

import aiohttp
import pytest

from .conftest import House, Org, housed

SECRET = "between the gateway and the service"
CLOSED = "/hello"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(tmp_path_factory, WEIGHBRIDGE_SIGNING_SECRET=SECRET, WEIGHBRIDGE_STORE_DEADLINE_MS="200") as running:
        yield running


@pytest.fixture(scope="module")
def wide(house: House) -> Org:
    made = json.loads(house.cli("org", "create", "Wide", "--plan", "wide", "--format", "json").stdout)
    return Org(made["id"], made["slug"], made["api_key"])


async def call(house: House, path: str, org: Org | None = None, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers in lower case, body)"""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if org is not None:
        sent["X-API-Key"] = org.api_key
    async with aiohttp.ClientSession() as session, session.request(method, house.gateway + path, headers=sent) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


def error(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


async def test_a_call_without_a_key_or_with_a_wrong_one_is_refused(house: House) -> None:
    for headers in ({}, {"X_API_Key": "wbk_live_nonsense"}, {"X_API_Key": "someone elses"}, {"Authorization": "Bearer nobody"}):
        status, answered, body = await call(house, CLOSED, **headers)
        assert (status, error(body)) == (401, "unauthorized")
        assert answered["www-authenticate"].startswith("Bearer")


async def test_a_bearer_token_may_be_the_key(house: House, wide: Org) -> None:
    assert (await call(house, CLOSED, Authorization=f"Bearer {wide.api_key}"))[0] == 200


async def test_the_service_learns_from_us_alone_who_calls(house: House, wide: Org) -> None:
    _, _, body = await call(house, CLOSED, wide, X_Org_Id="somebody else", X_Org_Plan="enterprise")
    seen = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    assert (seen["x-org-id"], seen["x-org-slug"], seen["x-org-plan"]) == (wide.id, wide.slug, "wide")


async def test_the_identity_is_signed_so_that_a_service_can_refuse_who_went_past_us(house: House, wide: Org) -> None:
    _, _, body = await call(house, "/hello?x=1", wide)
    seen = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    at, given = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", seen["x-weighbridge-signature"]).groups()
    told = ("x-org-id", "x-org-slug", "x-org-plan", "x-key-id", "x-org-tenant", "x-org-features", "x-org-test")
    message = "\n".join([at, seen["x-request-id"], "GET /hello?x=1", *(seen.get(name, "") for name in told)])
    assert hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest() == given


async def test_request_id_and_trace_context_are_on_the_answer_and_at_the_service(house: House, wide: Org) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, answered, body = await call(house, CLOSED, wide, X_Request_Id="order-7", traceparent=trace)
    seen = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    assert (answered["x-request-id"], answered["traceparent"], seen["x-request-id"]) == ("order-7", trace, "order-7")
    refused = (await call(house, CLOSED))[1]
    assert re.fullmatch("[0-9a-f]{32}", refused["x-request-id"])


@pytest.mark.long
async def test_a_method_bound_route_wins_over_the_catch_all_and_others_fall_through(house: House, wide: Org) -> None:
    before = await charged(house, wide)
    assert (await call(house, "/orders/1", wide))[0] == 200
    assert (await call(house, "/orders/1", wide, "POST"))[0] == 200
    assert await charged(house, wide) - before == 3


@pytest.mark.long
async def test_an_odd_spelling_does_not_dodge_a_routes_charge(house: House, wide: Org) -> None:
    before = await charged(house, wide)
    async with aiohttp.ClientSession() as session:
        from yarl import URL

        odd = URL(house.gateway + "/x/%2e%2e//%6frders/1", encoded=True)
        async with session.get(odd, headers={"X-API-Key": wide.api_key}) as answer:
            assert answer.status == 200
    assert await charged(house, wide) - before == 2


async def charged(house: House, org: Org) -> int:
    await house.flush()
    return (await house.ledger(org))[0]


async def test_headers_are_edited_and_the_prefix_is_stripped(house: House, wide: Org) -> None:
    _, answered, body = await call(house, "/v2/hello", wide)
    seen = json.loads(body)
    assert (seen["path"], seen["headers"]["X-Tier"]) == ("/hello", "gold")
    assert (answered["x-served-by"], "server" in answered) == ("wb", False)


async def test_a_preflight_is_forwarded_without_a_key_and_costs_nothing(house: House, wide: Org) -> None:
    before = (await house.served()).get("", 0)
    status, _, _ = await call(house, "/orders/1", None, "OPTIONS", Origin="https://app.example", Access_Control_Request_Method="GET")
    assert (status, (await house.served()).get("", 0) - before) == (200, 1)


async def test_a_request_with_a_body_or_without_a_method_asked_about_is_no_preflight(house: House) -> None:
    async with aiohttp.ClientSession() as session:
        for asked, body in (("GET", b"goods"), ("", b"")):
            headers = {"Origin": "https://app.example", "Access-Control-Request-Method": asked}
            async with session.options(house.gateway + "/orders/1", headers=headers, data=body) as answer:
                assert answer.status == 401


async def test_dots_in_a_path_do_not_lead_through_an_open_route(house: House) -> None:
    from yarl import URL

    async with aiohttp.ClientSession() as session:
        for path in ("/orders/%2e%2e/_count", "/orders/1/%2E./%2e%2e/_count"):
            async with session.get(URL(house.gateway + path, encoded=True)) as answer:
                assert answer.status == 401


async def test_a_browser_can_read_why_it_was_refused(house: House) -> None:
    _, answered, _ = await call(house, CLOSED, Origin="https://app.example")
    assert answered["access-control-allow-origin"] == "https://app.example"
    assert "Retry-After" in answered["access-control-expose-headers"]


async def test_a_refusal_is_one_json_line_in_the_log(house: House) -> None:
    await call(house, "/hello", X_Request_Id="find-me-in-the-log")
    lines = []
    for _ in range(50):
        lines = [line for line in house.log.read_text().splitlines() if "find-me-in-the-log" in line]
        if lines:
            break
        await asyncio.sleep(0.1)
    told = json.loads(lines[0][lines[0].index("{") :])
    assert (len(lines), told["event"], told["status"], told["reason"], told["path"]) == (1, "refused", 401, "unauthorized", "/hello")


@pytest.mark.long
async def test_an_upstream_that_is_down_is_a_502_and_the_units_go_back(house: House) -> None:
    org = await house.org("Down", "wide")
    status, _, body = await call(house, "/down", org)
    assert (status, error(body)) == (502, "upstream_unreachable")
    await house.flush()
    assert (await house.ledger(org), await house.counter(org)) == ((0, 1), 0)


async def test_a_full_quota_says_so_in_body_and_headers_and_when_to_come_back(house: House) -> None:
    org = await house.org("Full", "wide")
    for _ in range(3):
        await call(house, "/once-a-day/x", org)
    status, answered, body = await call(house, "/once-a-day/x", org)
    details = json.loads(body)["error"]["details"]
    assert (status, details["service"], details["quota"], details["used"], details["window"]) == (429, "api", 3, 3, "day")
    assert 1 <= int(answered["retry-after"]) <= 86_400
    state = {part.split(";")[0].strip().strip('"'): part for part in answered["ratelimit"].split(",")}
    assert state["api-daily-route-key"].split(";")[1] == "r=0"


async def test_a_raised_limit_and_a_revoked_key_act_on_the_next_call(house: House) -> None:
    org = await house.org("Live", "wide")
    assert (await call(house, CLOSED, org))[0] == 200
    key = await house.run("key", "list", "--org", org.slug)
    number = str((key["keys"] if isinstance(key, dict) else key)[0]["id"])
    await asyncio.to_thread(house.cli, "key", "revoke", number)
    assert (await call(house, CLOSED, org))[0] == 401


@pytest.mark.long
async def test_while_the_store_hangs_each_quota_follows_its_rule_and_the_counts_are_whole_afterwards(house: House) -> None:
    org = await house.org("Away", "wide")
    before = (CLOSED, "/open/x", "/grace/x") * 8  # so many that each worker has seen the key
    for path in before:
        assert (await call(house, path, org))[0] == 200
    valkey = house.pids("valkey")[0]
    os.kill(valkey, signal.SIGSTOP)
    try:
        first = [(await call(house, path, org))[0] for path in (CLOSED, "/open/x")]
        statuses = [(await call(house, "/grace/x", org))[0] for _ in range(30)]
        refused = await call(house, CLOSED, org)
    finally:
        os.kill(valkey, signal.SIGCONT)
    assert first == [503, 200]
    assert (error(refused[2]), json.loads(refused[2])["error"]["details"]) == ("metering_unavailable", {"rule": "closed"})
    assert (statuses.count(200), statuses.count(503)) == (10, 20)
    for _ in range(100):
        await house.flush()
        if await house.ledger(org) == (len(before) + 1 + 10, 0) and await house.counter(org) == len(before) + 11:
            return
        await asyncio.sleep(0.2)
    raise AssertionError((await house.ledger(org), await house.counter(org)))
