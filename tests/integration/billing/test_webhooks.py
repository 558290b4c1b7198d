"""`POST /webhooks/stripe`: verified, kept once, answered; over a real socket and a real Postgres."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from billing.api.server import Parts, application
from billing.model.webhook import MOST_BYTES, Status, read_event, sign
from billing.services.inbox import Inbox, NoSuchEvent

from .conftest import Desk, dispatch_of

SECRETS = ("whsec_new", "whsec_old")
PATH = "/webhooks/stripe"


async def nothing() -> dict[str, object]:
    return {"ready": True}


class Door:
    """The control server's routes, and what it counted."""

    def __init__(self, desk: Desk, secrets: tuple[str, ...] = SECRETS, mode: str = "sandbox") -> None:
        self.desk, self.counted = desk, list[str]()
        self.inbox = Inbox(desk.books, desk.clock, secrets=secrets, mode=mode)
        self.app = application(
            Parts(
                dispatch=dispatch_of(desk), readiness=nothing, metrics=lambda: b"",
                inbox=lambda: self.inbox, webhook_came=self.counted.append,
            )
        )  # fmt: skip

    def signed(self, body: bytes, secret: str = SECRETS[0]) -> dict[str, str]:
        return {"Stripe-Signature": sign(body, secret, self.desk.clock.now_ms() // 1000)}


@pytest.fixture
def door(desk: Desk) -> Door:
    return Door(desk)


@pytest.fixture
async def client(door: Door) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(door.app)) as client:
        yield client


def event(number: int = 1, kind: str = "invoice.paid", **changes: Any) -> bytes:
    about = {"id": "in_1", "object": "invoice"}
    return json.dumps({"id": f"evt_{number}", "type": kind, "created": 1, "livemode": False, "data": {"object": about}} | changes).encode()


async def kept(desk: Desk) -> list[asyncpg.Record]:
    return await desk.pool.fetch("SELECT * FROM billing.webhook_events ORDER BY seq")


async def test_an_event_is_kept_and_answered(door: Door, client: TestClient) -> None:
    answer = await client.post(PATH, data=event(), headers=door.signed(event()))
    (row,) = await kept(door.desk)
    assert (answer.status, await answer.json(), door.counted) == (200, {"received": True}, ["new"])
    assert (row["event_id"], row["type"], row["object_id"], row["status"]) == ("evt_1", "invoice.paid", "in_1", "received")


async def test_the_same_event_again_is_answered_and_kept_once(door: Door, client: TestClient) -> None:
    for _ in range(3):
        assert (await client.post(PATH, data=event(), headers=door.signed(event()))).status == 200
    assert (len(await kept(door.desk)), door.counted) == (1, ["new", "duplicate", "duplicate"])


async def test_an_unknown_type_is_kept_and_answered(door: Door, client: TestClient) -> None:
    body = event(kind="some.thing.of_the_future")
    assert (await client.post(PATH, data=body, headers=door.signed(body))).status == 200
    assert [row["type"] for row in await kept(door.desk)] == ["some.thing.of_the_future"]


async def test_while_a_secret_is_replaced_both_are_good(door: Door, client: TestClient) -> None:
    for number, secret in enumerate(SECRETS):
        body = event(number)
        assert (await client.post(PATH, data=body, headers=door.signed(body, secret))).status == 200
    assert len(await kept(door.desk)) == 2


async def test_what_is_forged_is_refused_in_the_guides_words_and_leaves_nothing(door: Door, client: TestClient) -> None:
    body, now = event(), door.desk.clock.now_ms() // 1000
    forged: list[tuple[bytes, dict[str, str]]] = [
        (body, {}),
        (body, {"Stripe-Signature": sign(body, "whsec_guessed", now)}),
        (body, {"Stripe-Signature": sign(body, SECRETS[0], now - 301)}),
        (body, {"Stripe-Signature": sign(body, SECRETS[0], now + 301)}),
        (body.replace(b"in_1", b"in_2"), door.signed(body)),
        (b"not json", door.signed(b"not json")),
        (event(livemode=True), door.signed(event(livemode=True))),
        (body, door.signed(body) | {"Content-Encoding": "gzip"}),
    ]
    for data, headers in forged:
        answer = await client.post(PATH, data=data, headers=headers)
        assert (answer.status, (await answer.text()).partition(":")[0]) == (400, "Webhook Error"), headers
    assert (await kept(door.desk), set(door.counted)) == ([], {"refused"})


async def test_two_signatures_headers_are_refused(door: Door, client: TestClient) -> None:
    body, good = event(), door.signed(event())["Stripe-Signature"]
    answer = await client.post(PATH, data=body, headers=[("Stripe-Signature", good), ("Stripe-Signature", good)])
    assert (answer.status, await answer.text()) == (400, "Webhook Error: Stripe-Signature comes 2 times")


async def test_a_body_beyond_any_event_is_refused_before_it_is_held(door: Door, client: TestClient) -> None:
    body = b"x" * (MOST_BYTES + 1)
    answer = await client.post(PATH, data=body, headers=door.signed(body))
    assert (answer.status, "more than" in await answer.text()) == (400, True)


async def test_an_event_larger_than_other_requests_may_be_is_taken(door: Door, client: TestClient) -> None:
    body = event(padding="x" * 300_000)
    assert (await client.post(PATH, data=body, headers=door.signed(body))).status == 200


async def test_only_post_is_taken(client: TestClient) -> None:
    assert (await client.get(PATH)).status == 405


async def test_without_a_secret_stripe_is_asked_to_come_back(desk: Desk) -> None:
    door = Door(desk, secrets=())
    async with TestClient(TestServer(door.app)) as client:
        answer = await client.post(PATH, data=event(), headers=door.signed(event()))
        code = (await answer.json())["code"]
    assert (answer.status, code, door.counted) == (503, "webhook_secret_missing", ["unavailable"])


async def test_without_postgres_stripe_is_asked_to_come_back(door: Door, client: TestClient) -> None:
    await door.desk.pool.close()
    answer = await client.post(PATH, data=event(), headers=door.signed(event()))
    assert (answer.status, door.counted) == (503, ["unavailable"])


async def test_the_stamp_of_the_database_decides_which_side_an_event_must_be_of(door: Door, client: TestClient) -> None:
    await door.desk.pool.execute("INSERT INTO billing.installation (stripe_mode, stamped_at, account) VALUES ('live', now(), 'acct_1')")
    told = {}
    for number, (live, account) in enumerate([(False, None), (True, None), (True, "acct_2"), (True, "acct_1")]):
        body = event(number, livemode=live, account=account)
        told[live, account] = (await client.post(PATH, data=body, headers=door.signed(body))).status
    assert told == {(False, None): 400, (True, None): 200, (True, "acct_2"): 400, (True, "acct_1"): 200}


async def test_the_inbox_is_shown_newest_first_and_tried_again(door: Door, client: TestClient) -> None:
    for number in range(3):
        body = event(number)
        await client.post(PATH, data=body, headers=door.signed(body))
    assert [row.event_id for row in await door.inbox.all(2)] == ["evt_2", "evt_1"]
    await door.desk.pool.execute(
        "UPDATE billing.webhook_events SET status = 'failed', attempts = 9, last_error = 'x' WHERE event_id = 'evt_1'"
    )
    assert [row.event_id for row in await door.inbox.all(9, Status.FAILED)] == ["evt_1"]
    again = await door.inbox.again("evt_1")
    assert (again.status, again.attempts, again.last_error) == (Status.RECEIVED, 0, None)
    with pytest.raises(NoSuchEvent):
        await door.inbox.again("evt_9")


async def test_a_claim_takes_of_each_object_the_first_and_nobody_else_gets_it(door: Door) -> None:
    now = door.desk.clock.now_ms()
    async with door.desk.books.transaction() as unit:
        events = [read_event(event(n, data={"object": {"id": f"in_{n % 2}"}})) for n in range(4)]
        await unit.inbox.add(events, now)
    async with door.desk.books.transaction() as unit:
        first = await unit.inbox.claim(now, now + 1000, 10)
    async with door.desk.books.transaction() as unit:
        assert await unit.inbox.claim(now, now + 1000, 10) == []
        assert await unit.inbox.finish(first[0], Status.SUCCESS, None, None, now)
        assert not await unit.inbox.finish(first[0], Status.SUCCESS, None, None, now)
    async with door.desk.books.transaction() as unit:
        then = await unit.inbox.claim(now, now + 1000, 10)
        late = await unit.inbox.claim(now + 1000, now + 2000, 10)
    assert [row.event_id for row in first] == ["evt_0", "evt_1"]
    assert [row.event_id for row in then] == ["evt_2"]
    assert sorted(row.event_id for row in late) == ["evt_1", "evt_2"]
