"""Which side of Stripe a database belongs to: the sandbox, or an account's test or live mode.

The ids of customers and prices in it mean something on that side alone, and what it has reported is known there alone. So
the first process that speaks to Stripe stamps it, and one that would speak to another side does not start.
`Settings.stripe_mode` says what a process would speak to.
"""

import asyncpg

from metering.model.clock import Clock, to_datetime
from metering.store.postgres import DatabaseUnsuitable, Queries

SQL = Queries.load("billing.store", "installation.sql")

_HOLDS = {"sandbox": "the Stripe sandbox", "test": "a Stripe account's test mode", "live": "a Stripe account's live mode"}
_SPEAKS = {
    "sandbox": "these settings lead to the sandbox",
    "test": "STRIPE_API_KEY is a key of test mode",
    "live": "STRIPE_API_KEY is a key of live mode",
}
_GO_BACK = {
    "sandbox": "unset STRIPE_API_KEY",
    "test": "set STRIPE_API_KEY to a key of test mode (sk_test_… or rk_test_…)",
    "live": "set STRIPE_API_KEY to a key of live mode (sk_live_… or rk_live_…)",
}


class OtherSideOfStripe(DatabaseUnsuitable):
    """The database holds ids of another side of Stripe."""

    code = "other_side_of_stripe"


async def check(pool: asyncpg.Pool, mode: str, *, where: str) -> None:
    """Raises OtherSideOfStripe where the database, which is at `where`, was stamped otherwise. Changes nothing."""
    try:
        stamped = await pool.fetchval(SQL["stamped"])
    except asyncpg.UndefinedTableError:  # an empty database, or an older one
        return
    if stamped not in (None, mode):
        raise OtherSideOfStripe(
            f"The database at {where} holds ids of {_HOLDS[stamped]}, and {_SPEAKS[mode]}: neither side knows the other's customers. "
            f"Use another database (DATABASE_URL, or --data-dir where Weighbridge brings its own), or {_GO_BACK[stamped]}."
        )


async def stamp(pool: asyncpg.Pool, mode: str, clock: Clock, *, where: str) -> None:
    """Before the first word to Stripe. Raises OtherSideOfStripe."""
    await pool.execute(SQL["stamp"], mode, to_datetime(clock.now_ms()))
    await check(pool, mode, where=where)
