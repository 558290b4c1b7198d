"""Invoices of the sandbox by hand and in all their states; coupons, balances and taxes on them."""

from typing import Any

import pytest

from tests.integration.stripe.shop import Shop


@pytest.fixture
async def shop(running) -> Shop:
    return await Shop(running).open()


async def item(shop: Shop, amount: int, **more: Any) -> dict[str, Any]:
    given = {"customer": shop.customer, "amount": amount, "currency": "usd", "description": "Work", **more}
    return await shop.ask("POST", "/v1/invoiceitems", params=given)


async def draft(shop: Shop, **more: Any) -> dict[str, Any]:
    given = {"customer": shop.customer, "pending_invoice_items_behavior": "include", **more}
    return await shop.ask("POST", "/v1/invoices", params=given)


async def act(shop: Shop, invoice: dict[str, Any], what: str, **params: Any) -> dict[str, Any]:
    return await shop.ask("POST", f"/v1/invoices/{invoice['id']}/{what}", params=params)


async def test_what_waits_goes_on_the_next_invoice_and_its_number_comes_with_finalization(shop) -> None:
    await item(shop, 1000)
    await item(shop, 250)
    made = await draft(shop)
    assert (made["status"], made["total"], made["number"]) == ("draft", 1250, None)
    paid = await act(shop, made, "pay")
    assert (paid["status"], paid["amount_paid"], paid["number"][-5:]) == ("paid", 1250, "-0001")
    assert (await draft(shop))["total"] == 0


async def test_an_item_changes_and_goes_as_long_as_its_invoice_is_a_draft(shop) -> None:
    made = await draft(shop)
    first = await item(shop, 1000, invoice=made["id"])
    await shop.ask("POST", f"/v1/invoiceitems/{first['id']}", amount=700)
    second = await item(shop, 50, invoice=made["id"])
    await shop.ask("DELETE", f"/v1/invoiceitems/{second['id']}")
    assert (await act(shop, made, "finalize", auto_advance="false"))["total"] == 700
    status, body = await shop.running.call("POST", f"/v1/invoiceitems/{first['id']}", {"amount": "1"})
    assert (status, body["error"]["code"]) == (400, "invoice_not_editable")


async def test_a_deleted_draft_gives_its_items_back(shop) -> None:
    await item(shop, 300)
    made = await draft(shop)
    await shop.ask("DELETE", f"/v1/invoices/{made['id']}")
    assert (await draft(shop))["total"] == 300


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        (["finalize"], "open"),
        (["finalize", "void"], "void"),
        (["finalize", "mark_uncollectible"], "uncollectible"),
        (["finalize", "mark_uncollectible", "void"], "void"),
        (["finalize", "mark_uncollectible", "pay"], "paid"),
        (["send"], "open"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
async def test_an_invoice_goes_through_its_states(steps, state, shop) -> None:
    await item(shop, 900)
    made = await draft(shop)
    for step in steps:
        made = await act(shop, made, step, **({"auto_advance": "false"} if step == "finalize" else {}))
    assert (made["status"], made["amount_remaining"]) == (state, 0 if state == "paid" else 900)


@pytest.mark.parametrize(
    ("steps", "refused"),
    [(["pay"], "pay"), (["pay"], "void"), (["pay"], "finalize"), (["finalize", "void"], "pay"), ([], "mark_uncollectible")],
    ids=str,
)
async def test_what_an_invoice_cannot_do_any_more_is_refused(steps, refused, shop) -> None:
    await item(shop, 900)
    made = await draft(shop)
    for step in steps:
        await act(shop, made, step)
    assert (await shop.running.call("POST", f"/v1/invoices/{made['id']}/{refused}"))[0] == 400


async def test_a_declined_payment_is_402_and_the_try_is_kept(shop) -> None:
    await item(shop, 900)
    made = await draft(shop)
    await shop.fails("insufficient_funds", times=1)
    status, body = await shop.running.call("POST", f"/v1/invoices/{made['id']}/pay")
    assert (status, body["error"]["decline_code"]) == (402, "insufficient_funds")
    kept = await shop.ask("GET", f"/v1/invoices/{made['id']}")
    assert (kept["status"], kept["attempt_count"], kept["next_payment_attempt"]) == ("open", 1, None)
    assert (await act(shop, made, "pay"))["status"] == "paid"


async def test_an_automatic_draft_is_finalized_and_paid_by_itself(shop) -> None:
    await item(shop, 900)
    await draft(shop, auto_advance="true")
    await shop.to(0.04)
    assert await shop.totals() == [("draft", 900)]
    await shop.to(0.05)
    assert await shop.totals() == [("paid", 900)]


async def test_a_refused_invoice_created_holds_the_draft_back_for_three_days_at_most(shop) -> None:
    await shop.ask("POST", "/v1/webhook_endpoints", params={"url": "http://127.0.0.1:9/", "enabled_events[]": "invoice.created"})
    await item(shop, 900)
    await draft(shop, auto_advance="true")
    await shop.running.ask("POST", "/_sandbox/tick")
    await shop.to(2)
    assert await shop.totals() == [("draft", 900)]
    await shop.to(3.1)
    assert await shop.totals() == [("paid", 900)]


# coupons


async def coupon(shop: Shop, **terms: Any) -> str:
    return str((await shop.ask("POST", "/v1/coupons", params=terms))["id"])


@pytest.mark.parametrize(
    ("terms", "totals"),
    [
        ({"percent_off": 25, "duration": "once"}, [750, 1000, 1000, 1000]),
        ({"percent_off": 25, "duration": "repeating", "duration_in_months": 2}, [750, 750, 1000, 1000]),
        ({"amount_off": 300, "currency": "usd", "duration": "forever"}, [700] * 4),
        ({"amount_off": 3000, "currency": "usd", "duration": "once"}, [0, 1000, 1000, 1000]),
    ],
    ids=lambda value: value.get("duration") if isinstance(value, dict) else None,
)
async def test_a_coupon_lasts_as_long_as_it_says(terms, totals, shop) -> None:
    await shop.subscribe(await shop.price(), **{"discounts[0][coupon]": await coupon(shop, **terms)})
    await shop.to(100)
    assert [total for _, total in await shop.totals()] == totals


async def test_a_promotion_code_is_redeemed_no_more_often_than_it_allows(shop) -> None:
    name = await coupon(shop, percent_off=10, duration="forever")
    asked = {"promotion[type]": "coupon", "promotion[coupon]": name, "code": "SAVE", "max_redemptions": 1}
    code = (await shop.ask("POST", "/v1/promotion_codes", params=asked))["id"]
    await shop.subscribe(await shop.price(), **{"discounts[0][promotion_code]": code})
    again = {"customer": shop.customer, "items[0][price]": await shop.price(), "discounts[0][promotion_code]": code}
    assert (await shop.running.call("POST", "/v1/subscriptions", again))[0] == 400
    assert (await shop.ask("GET", f"/v1/coupons/{name}"))["times_redeemed"] == 1


async def test_a_proration_is_of_what_was_paid_with_the_coupon(shop) -> None:
    name = await coupon(shop, percent_off=50, duration="forever")
    made = await shop.subscribe(await shop.price(1000), **{"discounts[0][coupon]": name})
    await shop.to(14)
    change = {"items[0][id]": made["items"]["data"][0]["id"], "items[0][price]": await shop.price(2000)}
    await shop.change(made, **change, proration_behavior="always_invoice")
    assert [total for _, total in await shop.totals()] == [500, 250]


# balance and taxes


async def test_credit_is_used_up_by_invoices_and_comes_back_with_a_void_one(shop) -> None:
    path = f"/v1/customers/{shop.customer}"
    await shop.ask("POST", f"{path}/balance_transactions", params={"amount": -1500, "currency": "usd"})
    await shop.subscribe(await shop.price())
    await shop.to(29)
    assert [(i["amount_due"], i["starting_balance"], i["ending_balance"]) for i in await shop.invoices()] == [
        (0, -1500, -500),
        (500, -500, 0),
    ]
    await shop.ask("POST", path, balance=-200)
    await item(shop, 900)
    opened = await act(shop, await draft(shop), "finalize", auto_advance="false")
    await act(shop, opened, "void")
    assert (opened["amount_due"], (await shop.ask("GET", path))["balance"]) == (700, -200)
    kinds = [each["type"] for each in (await shop.ask("GET", f"{path}/balance_transactions"))["data"]]
    assert kinds[::-1] == ["adjustment", *["applied_to_invoice"] * 2, "adjustment", "applied_to_invoice", "unapplied_from_invoice"]


@pytest.mark.parametrize(("inclusive", "total", "without"), [("false", 5506, 5075), ("true", 5075, 4677)])
async def test_tax_is_on_top_or_inside(inclusive, total, without, shop) -> None:
    given = {"display_name": "Sales tax", "percentage": "8.5", "inclusive": inclusive}
    rate = (await shop.ask("POST", "/v1/tax_rates", params=given))["id"]
    await shop.subscribe(await shop.price(5075), **{"default_tax_rates[]": rate})
    (invoice,) = await shop.invoices()
    assert (invoice["total"], invoice["total_excluding_tax"], invoice["amount_paid"]) == (total, without, total)
    assert sum(tax["amount"] for tax in invoice["total_taxes"]) == total - without


async def test_automatic_tax_goes_by_the_customers_place_and_wants_to_know_it(shop, running) -> None:
    await running.ask("POST", "/_sandbox/settings", json={"tax": {"DE": "19", "US-CA": "8.5"}})
    params = {"customer": shop.customer, "items[0][price]": await shop.price(5075), "automatic_tax[enabled]": "true"}
    status, body = await running.call("POST", "/v1/subscriptions", params)
    assert (status, body["error"]["code"]) == (400, "customer_tax_location_invalid")
    path = f"/v1/customers/{shop.customer}"
    await shop.ask("POST", path, params={"address[country]": "US", "address[state]": "CA"})
    made = await shop.ask("POST", "/v1/subscriptions", params=params)
    (invoice,) = await shop.invoices()
    assert (invoice["total"], invoice["automatic_tax"]["status"], made["automatic_tax"]["enabled"]) == (5506, "complete", True)
    await shop.ask("POST", path, address="")
    await shop.events()
    await shop.to(29)
    assert "invoice.finalization_failed" in await shop.events("invoice")
    failed = (await shop.invoices())[-1]
    assert (failed["status"], failed["last_finalization_error"]["code"]) == ("draft", "customer_tax_location_invalid")
    await shop.ask("POST", path, params={"address[country]": "DE"})
    assert (await act(shop, failed, "finalize"))["total"] == 6039


async def test_tiers_packages_and_zero_usage_are_billed_as_stripe_does(shop) -> None:
    meter = {"event_name": "calls", "display_name": "Calls", "default_aggregation[formula]": "sum"}
    number = (await shop.ask("POST", "/v1/billing/meters", params=meter))["id"]
    base = {"product": shop.product, "currency": "usd", "recurring[interval]": "month", "recurring[usage_type]": "metered"}
    base |= {"recurring[meter]": number}
    tiers = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers[0][up_to]": 100, "tiers[0][flat_amount]": 500}
    tiers |= {"tiers[1][up_to]": "inf", "tiers[1][unit_amount]": 3}
    package = {"unit_amount": 500, "transform_quantity[divide_by]": 100, "transform_quantity[round]": "up"}
    prices = [(await shop.ask("POST", "/v1/prices", params=base | terms))["id"] for terms in (tiers, package)]
    await shop.subscribe(*prices)
    await shop.to(20)
    await shop.use_calls(201, 3)
    await shop.to(60)
    lines = [[line["amount"] for line in invoice["lines"]["data"]] for invoice in await shop.invoices()]
    assert lines[1:] == [[500, 303, 1500], [500, 0]]


async def test_a_long_invoice_is_read_page_by_page(shop) -> None:
    for number in range(12):
        await item(shop, 100 + number)
    made = await draft(shop)
    rest = await shop.ask("GET", f"/v1/invoices/{made['id']}/lines", limit=100)
    assert (len(made["lines"]["data"]), made["lines"]["has_more"], len(rest["data"])) == (10, True, 12)


async def test_a_preview_changes_nothing(shop) -> None:
    made = await shop.subscribe(await shop.price(), await shop.metered())
    await shop.to(10)
    await shop.use_calls(50_000, 4)
    await item(shop, 250)
    before = (await shop.invoices(), await shop.now(made), await shop.events())
    preview = await shop.ask("POST", "/v1/invoices/create_preview", subscription=made["id"])
    assert (preview["total"], preview["billing_reason"], preview["id"][:9]) == (2750, "upcoming", "upcoming_")
    assert (await shop.invoices(), await shop.now(made), await shop.events()) == (*before[:2], [])
    new = {"customer": shop.customer, "subscription_details[items][0][price]": await shop.price(700)}
    assert (await shop.ask("POST", "/v1/invoices/create_preview", params=new))["total"] == 950
    await shop.ask("DELETE", f"/v1/subscriptions/{made['id']}")
    status, body = await shop.running.call("POST", "/v1/invoices/create_preview", {"subscription": made["id"]})
    assert (status, body["error"]["code"]) == (404, "invoice_upcoming_none")
