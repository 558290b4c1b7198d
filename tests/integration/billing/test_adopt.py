"""An account that was there before is taken over: ids are linked here, nothing is made or changed there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing.stripe.adopt import adopt
from billing.stripe.client import SANDBOX_KEY, StripeApi
from billing.stripe.sandbox.server import Sandbox, serve

from .conftest import Desk


class Account:
    """A sandbox with a customer of its own, who pays what the plan pro costs."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def post(self, path: str, **params: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {SANDBOX_KEY}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.post(self.url + path, data=params) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
        return found

    async def changes(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(self.url + "/_sandbox/requests") as answer:
            return sum(request["method"] != "GET" for request in (await answer.json())["data"])


@pytest.fixture
async def account(sold: Desk, tmp_path: Path) -> AsyncIterator[Account]:
    url, stop = await serve(Sandbox(tmp_path / "account.db", sold.clock), "127.0.0.1", 0)
    yield Account(url)
    await stop()


async def test_customers_subscriptions_and_prices_are_linked_once_and_nothing_is_changed_there(sold: Desk, account: Account) -> None:
    org_id = (await sold.billing.orgs.create("Acme", plan="pro", email="a@acme.test")).org.id
    customer = await account.post("/v1/customers", name="Acme", email="A@acme.test")
    stranger = await account.post("/v1/customers", name="Stranger", email="x@y.test")
    product = await account.post("/v1/products", name="Pro")
    price = await account.post(
        "/v1/prices", product=product["id"], currency="usd", unit_amount="4900", **{"recurring[interval]": "month"}
    )  # fmt: skip
    made = await account.post(
        "/v1/subscriptions", customer=customer["id"], collection_method="send_invoice", days_until_due="30",
        **{"items[0][price]": price["id"]},
    )  # fmt: skip
    before = await account.changes()
    stripe = StripeApi(api_key=SANDBOX_KEY, api_base=account.url, timeout_seconds=20)
    try:
        dry = await adopt(sold.books, stripe, sold.clock, currency="usd", dry_run=True)
        assert await sold.pool.fetchval("SELECT count(*) FROM billing.stripe_objects") == 0
        done = await adopt(sold.books, stripe, sold.clock, currency="usd", dry_run=False)
        again = await adopt(sold.books, stripe, sold.clock, currency="usd", dry_run=False)
    finally:
        await stripe.close()
    kept = await sold.pool.fetch("SELECT kind, key, stripe_id FROM billing.stripe_objects ORDER BY kind")
    assert [tuple(row) for row in kept] == [
        ("customer", org_id, customer["id"]), ("price", "pro/1/usd/month/base", price["id"]), ("subscription", org_id, made["id"]),
    ]  # fmt: skip
    assert (dry, again.links, [each for each, _ in done.left]) == (done, (), [stranger["id"]])
    assert await account.changes() == before
