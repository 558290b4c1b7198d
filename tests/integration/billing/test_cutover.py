"""From sandbox to test to live, between sandboxes that are stamped as other accounts and modes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aggregator.overage import cut_overage
from billing.model.webhook import event_of
from billing.services.ports_stripe import Side
from billing.stripe.client import SANDBOX_KEY, Resource, StripeApi
from billing.stripe.cutover import CutoverRefused, Moved, cutover
from billing.stripe.deliver import deliver_due
from billing.stripe.sandbox.server import Sandbox, serve
from metering.model.clock import to_datetime

from .conftest import METERS, Desk

TEST, LIVE = Side(mode="test", account="acct_2"), Side(mode="live", account="acct_2")
MINUTE_MS = 60_000


@asynccontextmanager
async def a_stripe(desk: Desk, state: Path) -> AsyncIterator[StripeApi]:
    sandbox = Sandbox(state, desk.clock)
    url, stop = await serve(sandbox, "127.0.0.1", 0)
    api = StripeApi(api_key=SANDBOX_KEY, api_base=url, timeout_seconds=20)
    api.url = url  # type: ignore[attr-defined]
    yield api
    await api.close()
    await stop()


async def stamp(desk: Desk, mode: str, account: str | None) -> None:
    await desk.pool.execute("INSERT INTO billing.installation (stripe_mode, stamped_at, account) VALUES ($1, now(), $2)", mode, account)


async def use(desk: Desk, org_id: str, units: int) -> None:
    """Requests of the period under way, as the flush writes them."""
    start = to_datetime(desk.clock.now_ms() // 1000 * 1000)
    await desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative)"
        " VALUES ($1, 'api', $2, $2::timestamptz + interval '28 days', 1, $3)", org_id, start, units,
    )  # fmt: skip


async def deliver(desk: Desk, stripe: StripeApi) -> None:
    report = await deliver_due(desk.pool, stripe, desk.clock, jitter=lambda: 0.0)
    assert (report.pending, report.dead) == (0, 0), report.errors


async def told(stripe: Any) -> int:
    async with aiohttp.ClientSession() as session, session.get(stripe.url + "/_sandbox/events") as answer:
        return sum(event["value"] for event in (await answer.json())["data"])


async def there(stripe: StripeApi, resource: Resource) -> int:
    return len([item async for item in stripe.find(resource, {})])


async def move(desk: Desk, after: Side, *, dry_run: bool = False) -> Moved:
    return await cutover(desk.books, after, desk.clock, METERS, dry_run=dry_run)


async def everything(desk: Desk) -> list[Any]:
    tables = ("outbox", "stripe_objects", "usage_period", "payment_methods", "installation", "webhook_events", "outbox_before", "cutovers")
    return [await desk.pool.fetch(f"TABLE billing.{table}") for table in tables]


@pytest.fixture
async def told_to_sandbox(sold: Desk, tmp_path: Path) -> AsyncIterator[tuple[Desk, StripeApi, str]]:
    """An organization with a subscription and overage, told to a sandbox that the database is stamped with."""
    async with a_stripe(sold, tmp_path / "one") as first:
        await stamp(sold, "sandbox", None)
        org_id = (await sold.billing.orgs.create("Acme", plan="pro", email="a@acme.test")).org.id
        await use(sold, org_id, 200_700)
        await deliver(sold, first)
        await cut_overage(sold.pool, sold.clock, METERS)
        await deliver(sold, first)
        yield sold, first, org_id


async def test_customers_subscriptions_and_the_running_period_stand_at_the_next_side(told_to_sandbox: Any, tmp_path: Path) -> None:
    desk, first, org_id = told_to_sandbox
    sold_before = await told(first)
    moved = await move(desk, TEST)
    assert (moved.customers, moved.subscriptions, moved.forgotten.periods) == (1, 1, 1)
    async with a_stripe(desk, tmp_path / "two") as second:
        await deliver(desk, second)
        await cut_overage(desk.pool, desk.clock, METERS)
        await deliver(desk, second)
        assert [await there(second, r) for r in (Resource.CUSTOMER, Resource.SUBSCRIPTION)] == [1, 1]
        assert (await told(second), await told(first), sold_before) == (700, 700, 700)
    assert tuple(await desk.pool.fetchrow("SELECT stripe_mode, account FROM billing.installation")) == ("test", "acct_2")
    reported = await desk.pool.fetchval("SELECT reported FROM billing.usage_period WHERE org_id = $1", org_id)
    handed = await desk.pool.fetchval("SELECT sum((payload ->> 'value')::int) FROM billing.outbox WHERE kind = 'meter_event'")
    assert reported == handed == 700


async def test_a_subscription_that_was_canceled_ends_at_the_next_side_too(told_to_sandbox: Any, tmp_path: Path) -> None:
    desk, first, _ = told_to_sandbox
    await desk.billing.subscriptions.cancel("acme")
    await deliver(desk, first)
    await move(desk, TEST)
    async with a_stripe(desk, tmp_path / "two") as second:
        await deliver(desk, second)
        found = [item async for item in second.find(Resource.SUBSCRIPTION, {})]
    ends = await desk.pool.fetchval("SELECT cancel_at FROM billing.subscriptions")
    assert [to_datetime(item["cancel_at"] * 1000) for item in found] == [ends.replace(microsecond=0)]


async def test_what_was_told_to_the_side_before_is_kept(told_to_sandbox: Any) -> None:
    desk, _, _ = told_to_sandbox
    before = {row["identifier"] for row in await desk.pool.fetch("SELECT identifier FROM billing.outbox")}
    await move(desk, TEST)
    kept = {row["identifier"] for row in await desk.pool.fetch("SELECT identifier FROM billing.outbox_before")}
    assert (kept, any(identifier.startswith("ov1:") for identifier in kept)) == (before, True)


async def test_a_dry_run_says_the_same_and_changes_nothing(told_to_sandbox: Any) -> None:
    desk, _, _ = told_to_sandbox
    before = await everything(desk)
    dry = await move(desk, TEST, dry_run=True)
    assert (await everything(desk), await move(desk, TEST)) == (before, dry)


async def test_from_test_to_live_and_never_back(told_to_sandbox: Any, tmp_path: Path) -> None:
    desk, _, _ = told_to_sandbox
    await move(desk, TEST)
    async with a_stripe(desk, tmp_path / "two") as second:
        await deliver(desk, second)
    await move(desk, LIVE)
    async with a_stripe(desk, tmp_path / "three") as third:
        await deliver(desk, third)
        assert await there(third, Resource.SUBSCRIPTION) == 1
    for side in (TEST, Side(mode="sandbox", account=None), LIVE, replace(LIVE, account="acct_9")):
        with pytest.raises(CutoverRefused):
            await move(desk, side)


SETTLED = [
    ("a row that waits", "UPDATE billing.outbox SET state = 'pending' WHERE kind = 'ensure_plan'", "wait to be told"),
    (
        "a row that may stand there",
        "UPDATE billing.outbox SET state = 'unknown' WHERE kind = 'meter_event'",
        "may stand at the side before",
    ),
    (
        "a charge that is not settled",
        "INSERT INTO billing.payment_attempts (invoice_id, attempt, org_id, amount_minor, currency, begun_at)"
        " SELECT 'in_1', 1, id, 1, 'usd', now() FROM billing.organizations",
        "charges are not settled",
    ),
]


@pytest.mark.parametrize(("sql", "why"), [case[1:] for case in SETTLED], ids=[case[0] for case in SETTLED])
async def test_what_is_not_settled_stands_in_the_way(told_to_sandbox: Any, sql: str, why: str) -> None:
    desk, _, _ = told_to_sandbox
    await desk.pool.execute(sql)
    before = await everything(desk)
    with pytest.raises(CutoverRefused, match=why):
        await move(desk, TEST)
    assert await everything(desk) == before


async def test_where_nothing_was_told_there_is_nothing_to_move(sold: Desk) -> None:
    with pytest.raises(CutoverRefused, match="nothing to move"):
        await move(sold, TEST)


async def test_events_of_the_side_before_are_closed(told_to_sandbox: Any) -> None:
    desk, _, _ = told_to_sandbox
    await desk.billing.inbox.take_in([event_of({"id": "evt_1", "type": "customer.updated", "data": {"object": {"id": "cus_old"}}})])
    await move(desk, TEST)
    assert (await desk.billing.inbox.show("evt_1")).status.value == "ignored"
