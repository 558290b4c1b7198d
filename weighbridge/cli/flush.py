"""`weighbridge flush`: return when all that was charged before is in Postgres, its overage cut and delivered."""

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from billing.stripe import installation
from billing.stripe.client import StripeApi
from metering.store.postgres import redacted

from .context import Context, add_folders
from .output import add_format, show
from .verbs import typed


def add(nouns: Any) -> None:
    parser = nouns.add_parser("flush", help="bring every count to Postgres and every overage to Stripe, now")
    add_folders(parser)
    add_format(parser)
    typed(parser, "weighbridge flush")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    from weighbridge.flushing import flush

    settings = context.settings
    async with context.database() as pool, context.redis() as client, stripe_of(context, pool) as stripe:
        report = await flush(pool, client, context.configuration, context.clock, stripe=stripe, bills=settings.billing_enabled)
    lines = [
        f"Shipped by {report.processes} gateway processes",
        f"Flushed {report.rows:,} rows in {report.batches} batches to Postgres",
        f"Overage: {report.overage_rows} rows cut, {report.delivered} delivered to Stripe, {report.pending} waiting",
    ]
    show(report.to_json(), options, lines=lines)
    for sentence in report.left:
        sys.stderr.write(f"weighbridge: {sentence}\n")
    return 1 if report.left else 0


@contextlib.asynccontextmanager
async def stripe_of(context: Context, pool: asyncpg.Pool) -> AsyncIterator[StripeApi | None]:
    """The account or the running sandbox; None where there is neither. Raises OtherSideOfStripe."""
    settings = context.settings
    if settings.stripe_api_key is None or not settings.billing_enabled:
        yield None
        return
    await installation.stamp(pool, settings.stripe_mode, context.clock, where=redacted(context.database_url))
    api = StripeApi(api_key=settings.stripe_api_key, api_base=settings.stripe_api_base)
    try:
        yield api
    finally:
        await api.close()
