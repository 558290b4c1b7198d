"""Events for others, from what happens to a receiver that checks the signature: noted with the change, sent, tried again, replayed."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing.channels.hooks import HttpHookChannel
from billing.model.hook import signature
from billing.services.hook_delivery import HookDelivery
from billing.services.hooks import HookChange, HookDisabled, Hooks, NewSecret, NoSuchEvent, NoSuchHook, TooManyHooks
from billing.services.thresholds import Thresholds
from metering.model.errors import BadInput
from metering.model.outward import Forbidden, Reach

from .conftest import Desk


@dataclass
class Receiver:
    """Answers as told, and keeps what came."""

    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    slow: bool = False

    async def take(self, request: web.Request) -> web.Response:
        self.came.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        while self.slow:
            await asyncio.sleep(0.01)
        return web.Response(status=self.status, headers=self.headers, text="no\x00thing\nhere")

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.came]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/in", found.take)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/in"))
        yield found


def hooks_of(desk: Desk) -> Hooks:
    """As with WEIGHBRIDGE_HOOKS_INSIDE=true: the receiver listens on this machine."""
    return Hooks(desk.books, desk.clock, entropy=lambda: secrets.token_bytes(32), reach=Reach.OPERATOR)


def delivery_of(desk: Desk, reach: Reach = Reach.OPERATOR) -> HookDelivery:
    return HookDelivery(desk.books, HttpHookChannel(reach, desk.clock), desk.clock, jitter=lambda: 0.0)


async def listening(desk: Desk, receiver: Receiver, *types: str, org: str | None = None) -> NewSecret:
    return await hooks_of(desk).create(org, receiver.url, types or ("*",), by="ann")


async def state(desk: Desk) -> list[tuple[str, int, int | None]]:
    rows = await desk.pool.fetch("SELECT state, attempts, answer FROM billing.hook_deliveries ORDER BY id")
    return [tuple(row) for row in rows]


async def test_what_happens_to_a_subscription_is_told_with_what_differed(sold: Desk, receiver: Receiver) -> None:
    made = await listening(sold, receiver)
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    await sold.billing.subscriptions.change_plan(org.id, "pro")
    await sold.billing.subscriptions.cancel(org.id, now=False, reason="too dear")
    report = await delivery_of(sold).send_due()
    created, changed, canceled = receiver.events()
    assert [created["type"], changed["type"], canceled["type"]] == ["subscription.created", "subscription.changed", "subscription.changed"]
    assert created["data"]["org"] == {"id": org.id, "slug": "acme"}
    assert (changed["data"]["subscription"]["plan"], changed["data"]["previous"]["plan"]) == ("pro", "free")
    assert Decimal(changed["data"]["subscription"]["amount"]) == 49
    assert (canceled["data"]["subscription"]["cancel_reason"], set(canceled["data"]["previous"])) == (
        "too dear", {"cancel_at", "cancel_reason"},
    )  # fmt: skip
    assert (dict(report.states), await state(sold)) == ({"delivered": 3}, [("delivered", 1, 200)] * 3)
    headers, body = receiver.came[0]
    secret = base64.b64decode(made.secret.removeprefix("whsec_"))
    assert headers["webhook-signature"] == signature(secret, headers["webhook-id"], sold.clock.now_ms() // 1000, body)
    assert len({headers["webhook-id"] for headers, _ in receiver.came}) == 3


async def test_what_is_undone_is_told_to_nobody(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    await sold.billing.subscriptions.change_plan(org.id, "pro", preview=True)
    await delivery_of(sold).send_due()
    assert receiver.types() == ["subscription.created"]


async def test_an_organizations_endpoint_gets_its_own_events_of_the_types_it_wants(sold: Desk, receiver: Receiver) -> None:
    acme, bolt = [(await sold.billing.orgs.create(name, plan="free")).org for name in ("Acme", "Bolt")]
    await listening(sold, receiver, "subscription.ended", "invoice.*", org=acme.id)
    for org in (acme, bolt):
        await sold.billing.subscriptions.change_plan(org.id, "pro")
        await sold.billing.subscriptions.cancel(org.id, now=True)
    await delivery_of(sold).send_due()
    assert [(e["type"], e["data"]["org"]["slug"]) for e in receiver.events()] == [("subscription.ended", "acme")]


INVOICE = """
INSERT INTO billing.invoices (id, org_id, status, currency, subtotal, total, amount_due, period_start, period_end, created_at)
VALUES ($1, $2::uuid, $3, 'usd', 35, 35.00, 35.00, now(), now(), now())
"""


async def test_an_invoices_life_and_a_failed_charge_are_told(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver, "invoice.*")
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    for name, status in (("in_1", "draft"), ("in_2", "paid"), ("in_3", "open")):
        await sold.pool.execute(INVOICE, name, org.id, status)
    await sold.pool.execute("UPDATE billing.invoices SET status = 'open', number = 'INV-1' WHERE id = 'in_1'")
    await sold.pool.execute("INSERT INTO billing.dunning (invoice_id, org_id) VALUES ('in_1', $1::uuid)", org.id)
    for failures in (1, 1, 2):
        await sold.pool.execute("UPDATE billing.dunning SET failures = $1, reason = 'card_declined'", failures)
    await sold.pool.execute("UPDATE billing.invoices SET status = 'paid' WHERE id = 'in_1'")
    await sold.pool.execute("UPDATE billing.invoices SET status = 'void' WHERE id = 'in_3'")
    await delivery_of(sold).send_due()
    assert [(e["type"], e["data"]["invoice"]["id"], e["data"].get("attempt")) for e in receiver.events()] == [
        ("invoice.finalized", "in_2", None), ("invoice.paid", "in_2", None), ("invoice.finalized", "in_3", None),
        ("invoice.finalized", "in_1", None), ("invoice.payment_failed", "in_1", 1), ("invoice.payment_failed", "in_1", 2),
        ("invoice.paid", "in_1", None), ("invoice.voided", "in_3", None),
    ]  # fmt: skip
    failed = receiver.events()[4]["data"]
    assert (failed["reason"], failed["invoice"]["amount_due"], failed["invoice"]["number"]) == ("card_declined", "35.00", "INV-1")


async def test_payment_methods_come_and_go(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver, "payment_method.*")
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    await sold.pool.execute(
        "INSERT INTO billing.payment_methods (id, org_id, type, last4, created_at) VALUES ('pm_1', $1::uuid, 'card', '4242', now())", org.id
    )
    for year in (2030, 2030):
        await sold.pool.execute("UPDATE billing.payment_methods SET exp_year = $1", year)
    await sold.pool.execute("DELETE FROM billing.payment_methods")
    await delivery_of(sold).send_due()
    assert receiver.types() == ["payment_method.added", "payment_method.changed", "payment_method.removed"]
    assert receiver.events()[1]["data"]["payment_method"]["exp_year"] == 2030


async def test_what_fails_comes_again_under_the_same_id_and_is_given_up_after_ten(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    receiver.status = 500
    await sold.billing.orgs.create("Acme", plan="free")
    delivery = delivery_of(sold)
    for seconds in (0, 4, 1, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 200_000):
        sold.clock.advance(seconds)
        await delivery.send_due()
    assert (len(receiver.came), len({headers["webhook-id"] for headers, _ in receiver.came})) == (10, 1)
    assert len({body for _, body in receiver.came}) == 1
    assert await state(sold) == [("failed", 10, 500)]
    row = await sold.pool.fetchrow("SELECT error FROM billing.hook_deliveries")
    assert row["error"] == "answered 500: no thing here"


async def test_an_endpoint_that_never_answers_is_disabled_after_five_days_and_replay_brings_what_it_missed(
    sold: Desk, receiver: Receiver
) -> None:
    made = await listening(sold, receiver)
    hooks, delivery = hooks_of(sold), delivery_of(sold)
    receiver.status = 503
    await sold.billing.orgs.create("Acme", plan="free")
    await delivery.send_due()
    sold.clock.advance(5 * 86_400)
    report = await delivery.send_due()
    assert list(report.disabled) == [made.endpoint.id]
    await sold.billing.orgs.create("Bolt", plan="free")  # nobody listens now
    with pytest.raises(HookDisabled):
        await hooks.replay_since(None, made.endpoint.id, 0)
    receiver.status, receiver.came = 200, []
    await hooks.update(None, made.endpoint.id, HookChange(enabled=True))
    assert await hooks.replay_since(None, made.endpoint.id, 0) == 1  # Acme's waits anyway
    sold.clock.advance(600)
    await delivery.send_due()
    assert sorted(e["data"]["org"]["slug"] for e in receiver.events()) == ["acme", "bolt"]
    assert await hooks.replay_since(None, made.endpoint.id, 0) == 0


async def test_gone_disables_at_once_and_retry_after_is_heeded(sold: Desk, receiver: Receiver) -> None:
    made = await listening(sold, receiver)
    delivery = delivery_of(sold)
    receiver.status, receiver.headers = 429, {"Retry-After": "120"}
    await sold.billing.orgs.create("Acme", plan="free")
    for seconds in (0, 60, 60):
        sold.clock.advance(seconds)
        await delivery.send_due()
    assert len(receiver.came) == 2
    receiver.status, receiver.headers = 410, {}
    sold.clock.advance(86_400)
    assert list((await delivery.send_due()).disabled) == [made.endpoint.id]


async def test_a_redirect_is_not_followed(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    await sold.billing.orgs.create("Acme", plan="free")
    await delivery_of(sold).send_due()
    assert (len(receiver.came), await state(sold)) == (1, [("waiting", 1, 307)])


async def test_an_address_inside_is_not_asked_unless_that_is_allowed(sold: Desk, receiver: Receiver) -> None:
    with pytest.raises(BadInput, match="https"):
        await sold.billing.hooks.create(None, receiver.url, ["*"], by="ann")
    with pytest.raises(Forbidden):
        await sold.billing.hooks.create(None, "https://127.0.0.1/in", ["*"], by="ann")
    named = receiver.url.replace("127.0.0.1", "localhost")  # a name is looked at when it is resolved
    await hooks_of(sold).create(None, named, ["*"], by="ann")
    await listening(sold, receiver)
    await sold.billing.orgs.create("Acme", plan="free")
    await delivery_of(sold, Reach.PUBLIC).send_due()
    errors = [row["error"] for row in await sold.pool.fetch("SELECT error FROM billing.hook_deliveries")]
    assert (receiver.came, len(errors), all("not on the public internet" in error for error in errors)) == ([], 2, True)


async def test_nobody_at_the_other_end_is_a_failed_attempt(sold: Desk, receiver: Receiver) -> None:
    await hooks_of(sold).create(None, "http://127.0.0.1:1/in", ["*"], by="ann")
    await listening(sold, receiver)
    await sold.billing.orgs.create("Acme", plan="free")
    report = await delivery_of(sold).send_due()
    assert (dict(report.states), receiver.types()) == ({"delivered": 1, "retried": 1}, ["subscription.created"])


async def test_a_receiver_that_does_not_answer_in_time_is_left_alone_until_the_next_run(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    receiver.slow = True
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    channel = HttpHookChannel(Reach.OPERATOR, sold.clock, answer_within_seconds=0.05)
    report = await HookDelivery(sold.books, channel, sold.clock).send_due()
    assert (dict(report.states), sorted(await state(sold))) == ({"retried": 1}, [("waiting", 0, None), ("waiting", 1, None)])
    assert "no answer within 0.05 seconds" in [row["error"] for row in await sold.pool.fetch("SELECT error FROM billing.hook_deliveries")]


async def test_names_that_cannot_be_are_not_there(sold: Desk, receiver: Receiver) -> None:
    made = await listening(sold, receiver)
    hooks = hooks_of(sold)
    for odd in ("", "\0", "hook_\0", "x" * 100, "hook_ä", "\ud800"):
        with pytest.raises(NoSuchHook):
            await hooks.show(None, odd)
        with pytest.raises(NoSuchEvent):
            await hooks.replay(None, made.endpoint.id, odd)
    for since_ms in (-(10**14), 10**15):
        assert await hooks.replay_since(None, made.endpoint.id, since_ms) == 0


async def test_two_at_work_deliver_each_event_once(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    for n in range(6):
        await sold.billing.orgs.create(f"Org {n}", plan="free")
    await asyncio.gather(*(delivery_of(sold).send_due() for _ in range(3)))
    assert (len(receiver.came), len({headers["webhook-id"] for headers, _ in receiver.came})) == (6, 6)


async def test_a_replaced_secret_signs_until_its_time_is_over(sold: Desk, receiver: Receiver) -> None:
    made = await listening(sold, receiver)
    hooks = hooks_of(sold)
    fresh = await hooks.rotate(None, made.endpoint.id, overlap_seconds=60)
    for seconds in (0, 60):
        sold.clock.advance(seconds)
        await hooks.test(None, made.endpoint.id)
        await delivery_of(sold).send_due()
    both, one = [headers["webhook-signature"].split() for headers, _ in receiver.came]
    assert (len(both), len(one), fresh.secret != made.secret) == (2, 1, True)
    headers, body = receiver.came[1]
    secret = base64.b64decode(fresh.secret.removeprefix("whsec_"))
    assert one == [signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)]


async def test_a_test_goes_to_one_endpoint_whatever_it_wants(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    picky = await listening(sold, receiver, "invoice.paid")
    event = await hooks_of(sold).test(None, picky.endpoint.id)
    await delivery_of(sold).send_due()
    (came,) = receiver.came
    assert (came[0]["webhook-id"], receiver.types()) == (event.message, ["hook.test"])


async def test_one_event_is_replayed_and_only_by_whom_it_is_about(sold: Desk, receiver: Receiver) -> None:
    acme, bolt = [(await sold.billing.orgs.create(name, plan="free")).org for name in ("Acme", "Bolt")]
    made = await listening(sold, receiver, org=acme.id)
    hooks = hooks_of(sold)
    (of_acme,) = await hooks.events(acme.id)
    (of_bolt,) = await hooks.events(bolt.id)
    assert await hooks.replay(acme.id, made.endpoint.id, of_acme.message) == 1
    with pytest.raises(NoSuchEvent):
        await hooks.replay(acme.id, made.endpoint.id, of_bolt.message)
    for stranger in (bolt.id, None):
        with pytest.raises(NoSuchHook):
            await hooks.show(stranger, made.endpoint.id)
    await delivery_of(sold).send_due()
    (row,) = await hooks.deliveries(acme.id, made.endpoint.id)
    assert (row.event.message, row.state, len(receiver.came)) == (of_acme.message, "delivered", 1)


async def test_there_are_at_most_so_many_and_a_deleted_one_is_forgotten(sold: Desk, receiver: Receiver) -> None:
    hooks = hooks_of(sold)
    made = [await hooks.create(None, receiver.url, ["*"], by="ann") for _ in range(20)]
    with pytest.raises(TooManyHooks):
        await hooks.create(None, receiver.url, ["*"], by="ann")
    await hooks.delete(None, made[0].endpoint.id)
    await hooks.create(None, receiver.url, ["*"], by="ann")
    assert await sold.pool.fetchval("SELECT count(*) FROM billing.hook_secrets") == 20


async def test_secrets_are_in_no_log_and_out_of_reach_of_requests(sold: Desk, receiver: Receiver) -> None:
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    made = await listening(sold, receiver, org=org.id)
    await hooks_of(sold).rotate(org.id, made.endpoint.id)
    entries = [dict(row) for row in await sold.pool.fetch("SELECT * FROM billing.audit_log WHERE action LIKE 'hook%'")]
    assert {entry["action"] for entry in entries} == {"hook.created", "hook_secret.created", "hook_secret.changed"}
    assert base64.b64decode(made.secret.removeprefix("whsec_")).hex() not in str(entries)
    async with sold.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT billing.bind($1::uuid)", org.id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM billing.hook_secrets")


async def test_old_events_are_forgotten_with_their_deliveries(sold: Desk, receiver: Receiver) -> None:
    await listening(sold, receiver)
    await sold.billing.orgs.create("Acme", plan="free")
    await sold.pool.execute("UPDATE billing.hook_events SET happened_at = to_timestamp($1 / 1000.0)", sold.clock.now_ms())
    sold.clock.advance(30 * 86_400)
    assert await delivery_of(sold).forget() == 0
    sold.clock.advance(1)
    assert (await delivery_of(sold).forget(), await state(sold)) == (1, [])


async def use(desk: Desk, org_id: str, units: int) -> None:
    """As a flush leaves it."""
    await desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative, updated_at)"
        " VALUES ($1::uuid, 'api', '2026-01-31T12:00:00Z', '2026-02-28T12:00:00Z', 1, $2, '2026-01-31T12:00:00Z')"
        " ON CONFLICT (org_id, service, period_start) DO UPDATE SET cumulative = excluded.cumulative", org_id, units,
    )  # fmt: skip


async def test_each_share_of_a_quota_is_told_once_in_its_window(sold: Desk, receiver: Receiver) -> None:
    org = (await sold.billing.orgs.create("Acme", plan="free")).org
    watch = Thresholds(sold.books, sold.clock)
    await use(sold, org.id, 9_100)
    assert await watch.look(sold.billing.usage) == 0  # nobody wants to know
    await listening(sold, receiver, "quota.threshold_reached", org=org.id)
    for units, noted in ((7_999, 0), (9_100, 2), (9_200, 0), (10_000, 1), (12_000, 0)):
        await use(sold, org.id, units)
        assert await watch.look(sold.billing.usage) == noted, units
    assert await Thresholds(sold.books, sold.clock).look(sold.billing.usage) == 0  # another process
    await delivery_of(sold).send_due()
    quotas = [event["data"]["quota"] for event in receiver.events()]
    assert [(q["threshold"], q["used"]) for q in quotas] == [(80, "9100"), (90, "9100"), (100, "10000")]
    assert {key: quotas[0][key] for key in ("service", "window", "mode", "percentage_used", "limit", "resets_at")} == {
        "service": "api", "window": "period", "mode": "hard", "percentage_used": "91.00", "limit": "10000",
        "resets_at": "2026-02-28T12:00:00Z",
    }  # fmt: skip
