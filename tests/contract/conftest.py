"""Control's routes over a fresh database, for who asks them what they did not expect."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from billing.api.server import application
from billing.operations.dispatch import Dispatch
from billing.operations.operation import Facts
from billing.services.logs import OutboxLog
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.stripe.client import StripeApi
from billing.stripe.outbox_care import OutboxCare
from billing.stripe.payments import StripePayments
from billing.stripe.sandbox.server import Sandbox, serve
from billing.wiring import open_billing
from tests.integration.billing.conftest import METERS, Desk, desk, sold
from tests.integration.billing.test_tokens import parts_of

__all__ = ["api", "desk", "sold"]  # fixtures of theirs that are ours too


@pytest.fixture
async def api(sold: Desk, tmp_path: Path) -> AsyncIterator[web.Application]:
    """Control's routes, with a Stripe to ask."""
    url, stop = await serve(Sandbox(tmp_path / "stripe.db", sold.clock), "127.0.0.1", 0)
    stripe = StripeApi(api_key="sk_test_contract", api_base=url)
    payments = StripePayments(PostgresBooks(sold.pool), stripe, sold.clock)

    def billing(org: str | None, actor: str | None) -> Billing:
        return open_billing(
            sold.pool, sold.redis, sold.clock, meters=METERS, org=org, actor=actor, payments=payments,
            carer=OutboxCare(sold.pool, OutboxLog(PostgresBooks(sold.pool)), stripe, sold.clock, settle_seconds=0),
        )  # fmt: skip

    yield application(replace(parts_of(sold), dispatch=Dispatch(billing, Facts, sold.clock)))
    await stripe.close()
    await stop()
