"""Which side of Stripe a database belongs to: the sandbox, or an account's test or live mode.

The ids of customers and prices in it mean something on that side alone, and what it has reported is known there alone. So
the first process that speaks to Stripe stamps it, and one that would speak to another side does not start.
`Settings.stripe_mode` says what a process would speak to.
"""

import logging

import asyncpg

from billing.stripe.client import StripeApi, StripeCallFailed
from metering.model.clock import Clock, to_datetime
from metering.store.postgres import DatabaseUnsuitable, Queries

SQL = Queries.load("billing.store", "installation.sql")
log = logging.getLogger("weighbridge.stripe")

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


async def check(pool: asyncpg.Pool, mode: str, *, where: str, account: str | None = None) -> None:
    """Raises OtherSideOfStripe where the database, which is at `where`, was stamped otherwise. Changes nothing. `account` is the key's
    own, where somebody asked."""
    try:
        stamped = await pool.fetchrow(SQL["stamped"])
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):  # an empty database, or an older one
        return
    if stamped is None:
        return
    if stamped["stripe_mode"] != mode:
        raise OtherSideOfStripe(
            f"The database at {where} holds ids of {_HOLDS[stamped['stripe_mode']]}, and {_SPEAKS[mode]}: neither side knows the other's "
            "customers. Use another database (DATABASE_URL, or --data-dir where Weighbridge brings its own), move this one "
            f"(weighbridge stripe cutover), or {_GO_BACK[stamped['stripe_mode']]}."
        )
    if account is not None and stamped["account"] not in (None, account):
        raise OtherSideOfStripe(
            f"The database at {where} holds ids of the Stripe account {stamped['account']}, and STRIPE_API_KEY belongs to {account}: "
            f"neither knows the other's customers. Use a key of {stamped['account']}, or another database."
        )


async def stamp(pool: asyncpg.Pool, mode: str, clock: Clock, *, where: str, account: str | None = None) -> None:
    """Before the first word to Stripe. Raises OtherSideOfStripe."""
    await pool.execute(SQL["stamp"], mode, to_datetime(clock.now_ms()), account)
    await check(pool, mode, where=where, account=account)


async def stamp_account(pool: asyncpg.Pool, stripe: StripeApi, mode: str, clock: Clock, *, where: str) -> None:
    """The account too, once Stripe says whose key it is; while it does not answer, the mode alone stands. Raises OtherSideOfStripe."""
    try:
        account = await stripe.account()
    except StripeCallFailed as failure:
        log.warning("Stripe does not say whose key this is: %s", failure)
        return
    await stamp(pool, mode, clock, where=where, account=account)
