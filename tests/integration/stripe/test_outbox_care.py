"""Rows that stopped are sent again where nothing can be counted twice, and nowhere else."""

from typing import Any

import pytest

from billing.model.delivery import State
from billing.services.logs import OutboxLog
from billing.services.ports_outbox import MayDouble, NoSuchRow
from billing.store.books import PostgresBooks
from billing.stripe.deliver import deliver_due
from billing.stripe.outbox_care import OutboxCare
from metering.model.errors import Conflict, DependencyUnavailable

EVENTS = "/v1/billing/meter_events"
DAY = 86_400


async def deliver(outbox: Any, stripe: Any, clock: Any) -> None:
    await deliver_due(outbox.pool, stripe, clock, jitter=lambda: 0.0)


async def sold(outbox: Any, stripe: Any, clock: Any) -> str:
    org_id: str = await outbox.organization()
    await outbox.sell(org_id)
    await deliver(outbox, stripe, clock)
    return org_id


async def lost(outbox: Any, stripe: Any, clock: Any, running: Any, org_id: str, kind: str, value: int = 7, number: int = 1) -> str:
    """A meter event whose answer was lost, a day ago."""
    identifier: str = await outbox.overage(org_id, value, number)
    await running.fault(kind, path=EVENTS)
    await deliver(outbox, stripe, clock)
    return identifier


async def a_day_later(outbox: Any, stripe: Any, clock: Any) -> None:
    clock.advance(DAY)
    await deliver(outbox, stripe, clock)


async def counted(running: Any) -> int:
    return sum(event["value"] for event in await running.events())


@pytest.fixture
def log(pool) -> OutboxLog:
    return OutboxLog(PostgresBooks(pool))


@pytest.fixture
def care(pool, log, stripe, clock) -> OutboxCare:
    return OutboxCare(pool, log, stripe, clock, settle_seconds=0)


async def test_an_unknown_row_that_stripe_has_is_delivered(care, log, outbox, stripe, clock, running) -> None:
    identifier = await lost(outbox, stripe, clock, running, await sold(outbox, stripe, clock), "timeout_after")
    await a_day_later(outbox, stripe, clock)
    assert (await log.one(identifier)).state is State.UNKNOWN
    assert ((await care.retry(identifier)).state, await counted(running)) == (State.DELIVERED, 7)


async def test_an_unknown_row_that_stripe_has_not_goes_again_and_counts_once(care, log, outbox, stripe, clock, running) -> None:
    identifier = await lost(outbox, stripe, clock, running, await sold(outbox, stripe, clock), "timeout_before")
    await a_day_later(outbox, stripe, clock)
    assert (await care.retry(identifier)).state is State.PENDING
    await deliver(outbox, stripe, clock)
    assert ((await log.one(identifier)).state, await counted(running)) == (State.DELIVERED, 7)


async def test_what_was_told_in_the_same_minute_is_not_taken_for_it(care, log, outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    at = clock.now_ms() // 1000
    told = await outbox.overage(org_id, 7, 1, at=at)
    await deliver(outbox, stripe, clock)
    missing = await lost(outbox, stripe, clock, running, org_id, "timeout_before", 7, 2)
    await a_day_later(outbox, stripe, clock)
    assert (await log.one(told)).state is State.DELIVERED
    assert (await care.retry(missing)).state is State.PENDING


async def test_where_stripes_sum_fits_neither_a_person_must_look(care, log, outbox, stripe, clock, running) -> None:
    org_id = await sold(outbox, stripe, clock)
    identifier = await lost(outbox, stripe, clock, running, org_id, "timeout_before", 7)
    customer = await outbox.stripe_id("customer", org_id)
    event = {"event_name": "weighbridge_api", "identifier": "by hand", "payload[stripe_customer_id]": customer, "payload[value]": "3"}
    await running.call("POST", EVENTS, event | {"timestamp": str(clock.now_ms() // 1000)})
    await a_day_later(outbox, stripe, clock)
    with pytest.raises(MayDouble, match="neither all of it nor none"):
        await care.retry(identifier)
    assert (await log.one(identifier)).state is State.UNKNOWN


async def test_an_unknown_row_is_not_sent_again_without_asking(pool, log, outbox, stripe, clock, running) -> None:
    identifier = await lost(outbox, stripe, clock, running, await sold(outbox, stripe, clock), "timeout_after")
    await a_day_later(outbox, stripe, clock)
    with pytest.raises(DependencyUnavailable):
        await OutboxCare(pool, log, None, clock).retry(identifier)


async def dead(outbox: Any, stripe: Any, clock: Any) -> str:
    """Refused: Stripe takes no event of so long ago."""
    org_id = await sold(outbox, stripe, clock)
    identifier: str = await outbox.overage(org_id, 5, at=clock.now_ms() // 1000 - 40 * DAY)
    await deliver(outbox, stripe, clock)
    return identifier


async def test_a_dead_row_goes_again_by_hand(care, log, outbox, stripe, clock) -> None:
    identifier = await dead(outbox, stripe, clock)
    assert (await log.one(identifier)).state is State.DEAD
    again = await care.retry(identifier)
    assert (again.state, again.first_attempt_ms) == (State.PENDING, None)
    await deliver(outbox, stripe, clock)
    assert (await log.one(identifier)).state is State.DEAD  # its cause is still there


async def test_a_dead_event_that_was_tried_often_is_sent_only_while_stripe_remembers_it(care, outbox, stripe, clock) -> None:
    identifier = await dead(outbox, stripe, clock)
    await outbox.pool.execute("UPDATE billing.outbox SET attempts = 3 WHERE identifier = $1", identifier)
    clock.advance(DAY)
    with pytest.raises(MayDouble, match="forgotten its identifier"):
        await care.retry(identifier)


async def test_what_has_not_stopped_is_left_alone(care, outbox, stripe, clock) -> None:
    org_id = await sold(outbox, stripe, clock)
    waiting = await outbox.overage(org_id, 5)
    for identifier in (waiting, f"cust:{org_id}:1"):
        with pytest.raises(Conflict, match="only one that is dead or unknown"):
            await care.retry(identifier)
    with pytest.raises(NoSuchRow):
        await care.retry("nothing")


async def test_rows_are_listed_by_state_newest_first(log, outbox, stripe, clock) -> None:
    org_id = await sold(outbox, stripe, clock)
    rows = [await outbox.overage(org_id, 5, number) for number in (1, 2)]
    assert [row.identifier for row in await log.all([State.PENDING], 9)] == rows[::-1]
    assert len(await log.all([State.DELIVERED], 2)) == 2
