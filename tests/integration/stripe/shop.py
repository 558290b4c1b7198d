"""A little shop at the sandbox: one customer with a card on a test clock, some prices, and the invoices that come of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

DAY = 86_400
START = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())


@dataclass
class Shop:
    """Times are days after START, 31 January 2026."""

    running: Any
    clock: str = ""
    customer: str = ""
    product: str = ""
    seen: set[str] = field(default_factory=set)

    async def ask(self, method: str, path: str, **params: Any) -> dict[str, Any]:
        given = {name: str(value) for name, value in params.pop("params", params).items()}
        status, body = await self.running.call(method, path, given)
        assert status == 200, body
        return dict(body)

    async def open(self, card: str | None = "pm_card_visa") -> "Shop":
        self.clock = (await self.ask("POST", "/v1/test_helpers/test_clocks", frozen_time=START))["id"]
        self.customer = (await self.ask("POST", "/v1/customers", name="Acme", test_clock=self.clock))["id"]
        self.product = (await self.ask("POST", "/v1/products", name="Pro"))["id"]
        if card:
            await self.use(card)
        return self

    async def use(self, card: str) -> str:
        """Save this test card, and make it the default."""
        method = (await self.ask("POST", f"/v1/payment_methods/{card}/attach", customer=self.customer))["id"]
        chosen = {"invoice_settings[default_payment_method]": method}
        await self.ask("POST", f"/v1/customers/{self.customer}", params=chosen)
        return str(method)

    async def price(self, amount: int | str = 1000, interval: str = "month", **more: Any) -> str:
        params = {"product": self.product, "currency": "usd", "unit_amount_decimal": amount, "recurring[interval]": interval, **more}
        return str((await self.ask("POST", "/v1/prices", params=params))["id"])

    async def metered(self, amount: str = "0.03") -> str:
        meter = {"event_name": "calls", "display_name": "Calls", "default_aggregation[formula]": "sum"}
        meter_id = (await self.ask("POST", "/v1/billing/meters", params=meter))["id"]
        return await self.price(amount, **{"recurring[usage_type]": "metered", "recurring[meter]": meter_id})

    async def use_calls(self, value: int, day: float) -> None:
        event = {"event_name": "calls", "payload[stripe_customer_id]": self.customer, "payload[value]": value}
        await self.ask("POST", "/v1/billing/meter_events", params=event | {"timestamp": int(START + day * DAY)})

    async def subscribe(self, *prices: str, **more: Any) -> dict[str, Any]:
        items = {f"items[{at}][price]": price for at, price in enumerate(prices)}
        return await self.ask("POST", "/v1/subscriptions", params={"customer": self.customer} | items | more)

    async def change(self, subscription: dict[str, Any], **params: Any) -> dict[str, Any]:
        return await self.ask("POST", f"/v1/subscriptions/{subscription['id']}", params=params)

    async def now(self, subscription: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("GET", f"/v1/subscriptions/{subscription['id']}")

    async def to(self, day: float) -> None:
        """Advance the clock to this day."""
        path = f"/v1/test_helpers/test_clocks/{self.clock}"
        assert (await self.ask("POST", f"{path}/advance", frozen_time=int(START + day * DAY)))["status"] == "advancing"
        assert (await self.ask("GET", path))["status"] == "ready"

    async def invoices(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [*(await self.ask("GET", "/v1/invoices", customer=self.customer, limit=100))["data"]][::-1]

    async def totals(self) -> list[tuple[str, int]]:
        return [(invoice["status"], invoice["total"]) for invoice in await self.invoices()]

    async def fails(self, code: str | None, times: int | None = None) -> None:
        await self.running.ask("POST", "/_sandbox/cards", json={"customer": self.customer, "fails": code, "times": times})

    async def events(self, prefix: str = "") -> list[str]:
        """Types since the last look, oldest first."""
        found = (await self.ask("GET", "/v1/events", limit=100))["data"][::-1]
        fresh = [event for event in found if event["id"] not in self.seen]
        self.seen |= {event["id"] for event in fresh}
        return [event["type"] for event in fresh if event["type"].startswith(prefix)]
