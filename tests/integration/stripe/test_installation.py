"""A database belongs to one side of Stripe. Real Postgres."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from billing.stripe import installation
from billing.stripe.installation import OtherSideOfStripe
from metering.model.clock import FrozenClock
from metering.store.postgres import open_pool

WHERE = "postgresql://db.example/x"


@pytest.fixture
async def fresh(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database, application="test")
    yield pool
    await pool.close()


async def stamped(pool: asyncpg.Pool) -> list[str]:
    return [row["stripe_mode"] for row in await pool.fetch("SELECT stripe_mode FROM billing.installation")]


async def test_the_first_to_speak_stamps_it_and_the_same_side_is_welcome_ever_after(fresh: asyncpg.Pool, clock: FrozenClock) -> None:
    await installation.check(fresh, "test", where=WHERE)
    assert await stamped(fresh) == []
    for _ in range(2):
        await installation.stamp(fresh, "test", clock, where=WHERE)
    await installation.check(fresh, "test", where=WHERE)
    assert await stamped(fresh) == ["test"]


@pytest.mark.parametrize(
    ("held", "other", "remedy"),
    [
        ("sandbox", "test", "STRIPE_API_KEY is a key of test mode: .* or unset STRIPE_API_KEY"),
        ("sandbox", "live", "STRIPE_API_KEY is a key of live mode: .* or unset STRIPE_API_KEY"),
        ("test", "sandbox", "these settings lead to the sandbox: .* or set STRIPE_API_KEY to a key of test mode"),
        ("live", "test", "STRIPE_API_KEY is a key of test mode: .* or set STRIPE_API_KEY to a key of live mode"),
    ],
)
async def test_another_side_is_told_what_where_and_what_to_do(
    fresh: asyncpg.Pool, clock: FrozenClock, held: str, other: str, remedy: str
) -> None:
    await installation.stamp(fresh, held, clock, where=WHERE)
    for attempt in (installation.check(fresh, other, where=WHERE), installation.stamp(fresh, other, clock, where=WHERE)):
        with pytest.raises(OtherSideOfStripe, match=f"The database at {WHERE} holds ids of .*{remedy}"):
            await attempt
    assert await stamped(fresh) == [held]


async def test_of_two_that_come_at_once_one_is_refused(fresh: asyncpg.Pool, clock: FrozenClock) -> None:
    both = (installation.stamp(fresh, mode, clock, where=WHERE) for mode in ("test", "live"))
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "OtherSideOfStripe"]


async def test_an_empty_database_belongs_to_nobody_yet(empty_database: str) -> None:
    pool = await open_pool(empty_database, application="test")
    await installation.check(pool, "live", where=WHERE)
    await pool.close()


async def test_the_account_is_stamped_and_a_key_of_another_is_refused(fresh: asyncpg.Pool, clock: FrozenClock, running, stripe) -> None:
    await installation.stamp(fresh, "sandbox", clock, where=WHERE)  # before accounts were asked for
    for _ in range(2):
        await installation.stamp_account(fresh, stripe, "sandbox", clock, where=WHERE)
    assert await fresh.fetchval("SELECT account FROM billing.installation") == await stripe.account()
    await running.ask("POST", "/_sandbox/settings", json={"account": "acct_other"})
    with pytest.raises(OtherSideOfStripe, match="STRIPE_API_KEY belongs to acct_other"):
        await installation.stamp_account(fresh, stripe, "sandbox", clock, where=WHERE)


async def test_while_stripe_does_not_answer_the_mode_alone_stands(fresh: asyncpg.Pool, clock: FrozenClock, running, stripe) -> None:
    await installation.stamp(fresh, "sandbox", clock, where=WHERE)
    await running.fault("server_error", method="GET", path="/v1/account")
    await installation.stamp_account(fresh, stripe, "sandbox", clock, where=WHERE)
    assert await fresh.fetchval("SELECT account FROM billing.installation") is None
