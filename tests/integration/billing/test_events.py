"""Usage that is stated: what is kept of it, what it comes to, and which counters hear of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from aggregator.counters import from_ledger
from billing.model.event import BadEvent
from billing.model.token import Scope
from billing.operations import events, usage
from billing.operations.events import BatchAsk, CorrectAsk, EventIn, ListAsk, OneAsk, VoidAsk
from billing.operations.operation import Operation
from billing.operations.pages import cursor
from billing.services.access import Caller
from billing.services.recording import EventVoided, NoSuchEvent
from metering.model import keys
from metering.model.quota import Mode, Quota, Window

from .conftest import NOW, PRO, Desk, dispatch_of

LATER = datetime(2041, 1, 31, 12, tzinfo=UTC)
EVERYBODY = Caller(name="ann", org_id=None, scopes=(Scope.ADMIN,))


async def do(desk: Desk, operation: Operation[Any, Any], ask: Any, org: str = "acme") -> Any:
    return await dispatch_of(desk).perform(operation, ask, caller=EVERYBODY, org=org)


@pytest.fixture
async def acme(sold: Desk) -> Desk:
    sold.clock.advance((LATER - NOW).total_seconds())  # the store forgets what has expired by its own clock
    org = (await sold.billing.orgs.create("Acme", plan="pro")).org
    await sold.redis.set(keys.epoch(keys.bucket_of(org.id)), "1 here")
    return sold


async def org_id(desk: Desk) -> str:
    return str(await desk.pool.fetchval("SELECT id FROM billing.organizations WHERE slug = 'acme'"))


async def counters(desk: Desk) -> dict[str, int]:
    """Counters of the organization, by meter and window."""
    found = {}
    async for key in desk.redis.scan_iter(match=keys.counters_of(await org_id(desk))):
        counter = keys.parse_counter(key.decode())
        assert counter is not None
        found[f"{counter.meter} {counter.window} {datetime.fromtimestamp(counter.start_ms / 1000, UTC):%m-%d}"] = int(
            await desk.redis.get(key)
        )
    return found


async def agree(desk: Desk) -> None:
    """Counters say what recovery would set."""
    org = await org_id(desk)
    bucket = keys.bucket_of(org)
    async with desk.pool.acquire() as connection:
        truth = (await from_ledger(connection, [bucket], desk.clock.now_ms()))[bucket]
    async for key in desk.redis.scan_iter(match=keys.counters_of(org)):
        assert int(await desk.redis.get(key)) == truth[key.decode()][0], key


async def test_a_recorded_use_counts_at_once_and_keeps_its_metadata(acme: Desk) -> None:
    found = await do(acme, events.record, EventIn(service="api", quantity=Decimal(500), metadata={"endpoint": "/x", "user_id": "1"}))
    assert (found.quantity, found.unit, found.duplicate, found.billable) == (500, "request", False, True)
    gigabytes = await do(acme, events.record, EventIn(service="bandwidth", quantity=Decimal("5.5")))
    assert gigabytes.quantity == Decimal("5.5")
    assert await counters(acme) == {"api period 01-31": 500, "bandwidth period 01-31": 5_500_000_000}
    await agree(acme)
    shown = {one.service: one.current_usage for one in (await do(acme, usage.usage, usage.AskUsage())).usage}
    assert (shown["api"], shown["bandwidth"]) == (500, 5.5)
    row = await do(acme, events.show, OneAsk(id=found.id))
    assert (row.source, row.metadata, row.base_quantity) == ("record", {"endpoint": "/x", "user_id": "1"}, 500)
    assert await acme.pool.fetchval("SELECT count(*) FROM billing.counter_moves") == 0


async def test_windows_that_hold_the_timestamp_are_raised_and_those_that_are_over_are_not(acme: Desk) -> None:
    hourly = Quota(meter="api", limit=100, window=Window.HOUR, mode=Mode.HARD)
    daily, monthly = Quota(meter="api", limit=100, window=Window.DAY), Quota(meter="api", limit=100, window=Window.MONTH)
    await acme.billing.plans.apply(
        {"pro": replace(PRO, quotas=(*PRO.quotas, hourly, daily, monthly))},
        {},
    )
    await acme.pool.execute("UPDATE billing.subscriptions SET plan_version = 2, anchor = '2041-01-20T00:00:00Z'")
    await acme.billing.entitlements.publish([await org_id(acme)])
    used = {
        "2041-01-31T11:59:00Z": 1, "2041-01-31T11:20:00+00:00": 2, "2041-01-30T12:00:00Z": 4, "2041-01-19T12:00:00Z": 8,
        "2040-12-31T12:00:00Z": 16, "2041-01-31T12:00:00Z": 32,
    }  # fmt: skip
    for text, units in used.items():
        await do(acme, events.record, EventIn(service="api", base_quantity=units, timestamp=datetime.fromisoformat(text)))
    assert await counters(acme) == {
        "api hour 01-31": 32, "api day 01-31": 35, "api month 01-01": 47, "api period 01-20": 39,
    }  # fmt: skip
    await agree(acme)
    periods = await acme.pool.fetch("SELECT period_start, period_end, cumulative FROM billing.usage_period ORDER BY 1")
    assert [(f"{r['period_start']:%m-%d} {r['period_end']:%m-%d}", r["cumulative"]) for r in periods] == [
        ("12-20 01-20", 24), ("01-20 02-20", 39),
    ]  # fmt: skip


async def test_one_bad_event_fails_alone_and_one_that_came_before_counts_once(acme: Desk) -> None:
    good = {"service": "api", "quantity": 10, "idempotency_key": "a"}
    asked = BatchAsk(
        events=(
            good, good, {"service": "nothing", "quantity": 1}, {"service": "api"}, {"service": "api", "quantity": 1.5},
            {"service": "api", "quantity": "-1"}, {"service": "api", "quantity": 1, "timestamp": "2041-03-01T00:00:00Z"},
            {"service": "api", "quantity": 1, "colour": "red"}, {**good, "quantity": 11}, {"service": "api", "quantity": "2"},
        )
    )  # fmt: skip
    found = await do(acme, events.batch, asked)
    assert (found.accepted, found.duplicates, found.rejected) == (2, 1, 7)
    assert [one.status.value[:3] for one in found.results] == ["acc", "dup", *["rej"] * 7, "acc"]
    assert found.results[1].id == found.results[0].id
    words = [one.reason or "" for one in found.results]
    for place, word in (
        (2, "no service"),
        (3, "either"),
        (4, "whole number"),
        (5, "below zero"),
        (6, "future"),
        (7, "colour"),
        (8, "another"),
    ):
        assert word in words[place], words[place]
    again = await do(acme, events.batch, asked)
    assert (again.accepted, again.duplicates, again.results[0].id) == (1, 2, found.results[0].id)
    assert await counters(acme) == {"api period 01-31": 14}
    await agree(acme)


async def test_what_no_bill_will_show_is_said_with_its_reason(acme: Desk) -> None:
    await acme.billing.orgs.create("Free", plan="free")
    assert (await do(acme, events.record, EventIn(service="api", base_quantity=1))).reason is None
    free = await do(acme, events.record, EventIn(service="api", base_quantity=1), org="free")
    assert (free.billable, free.reason) == (False, "plan free has no price for api")
    old = EventIn(service="api", base_quantity=1, timestamp=datetime(2040, 10, 1, tzinfo=UTC))
    assert "35 days" in (await do(acme, events.record, old)).reason


async def test_a_void_takes_an_event_back_once_and_a_correction_writes_the_difference(acme: Desk) -> None:
    first = await do(acme, events.record, EventIn(service="api", base_quantity=100))
    second = await do(acme, events.record, EventIn(service="api", base_quantity=50))
    assert (await do(acme, events.void, VoidAsk(id=first.id, reason="a test"))).base_quantity == -100
    with pytest.raises(EventVoided):
        await do(acme, events.void, VoidAsk(id=first.id))
    with pytest.raises(EventVoided):
        await do(acme, events.correct, CorrectAsk(id=first.id, base_quantity=3))
    assert (await do(acme, events.correct, CorrectAsk(id=second.id, base_quantity=70))).base_quantity == 20
    corrected = await do(acme, events.correct, CorrectAsk(id=second.id, base_quantity=60))
    assert (corrected.base_quantity, corrected.corrects) == (-10, second.id)
    with pytest.raises(EventVoided):
        await do(acme, events.void, VoidAsk(id=corrected.id))
    with pytest.raises(NoSuchEvent):
        await do(acme, events.void, VoidAsk(id=999_999))
    assert await counters(acme) == {"api period 01-31": 60}
    assert (await do(acme, events.void, VoidAsk(id=second.id))).base_quantity == -60
    assert await counters(acme) == {"api period 01-31": 0}
    await agree(acme)
    page = await do(acme, events.list_events, ListAsk(limit=4))
    rest = await do(acme, events.list_events, ListAsk(limit=4, after=page.next))
    assert [one.source for one in (*page.events, *rest.events)] == ["void", "correction", "correction", "void", "record", "record"]
    assert rest.next is None


async def test_counters_hear_later_of_what_was_recorded_while_the_store_was_away_and_never_twice(acme: Desk) -> None:
    bucket = keys.bucket_of(await org_id(acme))
    await acme.redis.delete(keys.epoch(bucket))
    await do(acme, events.record, EventIn(service="api", base_quantity=5))
    await do(acme, events.record, EventIn(service="api", base_quantity=6))
    assert await counters(acme) == {}
    await acme.redis.set(keys.epoch(bucket), "1 here wait")
    assert await acme.billing.recording.catch_up() == 1
    assert await acme.billing.recording.catch_up() == 0
    assert await counters(acme) == {"api period 01-31": 11}


async def test_a_statement_that_makes_no_sense_leaves_nothing(acme: Desk) -> None:
    with pytest.raises(BadEvent, match="no service"):
        await do(acme, events.record, EventIn(service="gold", base_quantity=1))
    with pytest.raises(BadEvent):
        await do(acme, events.record, EventIn(service="api", base_quantity=1, metadata={"a": "\ud800"}))
    for quantity in ("1e999999999", "0e999999999", "1e-999999999"):
        with pytest.raises(BadEvent, match="digits"):
            await do(acme, events.record, EventIn(service="api", quantity=Decimal(quantity)))
    last, first = datetime.fromisoformat("9999-12-31T23:59:59-12:00"), datetime.fromisoformat("0001-01-01T00:00:00+12:00")
    assert (await do(acme, events.list_events, ListAsk(start=first, end=last, after=cursor((2**62, 1))))).events == ()
    assert await acme.pool.fetchval("SELECT count(*) FROM billing.usage_events") == 0
    assert json.dumps(EventIn.model_json_schema())
