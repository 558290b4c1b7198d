"""Credit notes of the sandbox: what an open invoice owes less, and where a paid one's money goes."""

from typing import Any

import pytest

from tests.integration.stripe.shop import Shop


@pytest.fixture
async def shop(running) -> Shop:
    return await Shop(running).open()


async def invoice(shop: Shop, *amounts: int, pay: bool = True, **more: Any) -> dict[str, Any]:
    made = await shop.ask("POST", "/v1/invoices", params={"customer": shop.customer, "auto_advance": "false", **more})
    for amount in amounts:
        await shop.ask("POST", "/v1/invoiceitems", customer=shop.customer, invoice=made["id"], amount=amount, currency="usd")
    return await shop.ask("POST", f"/v1/invoices/{made['id']}/{'pay' if pay else 'finalize'}")


async def note(shop: Shop, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return await shop.ask("POST", "/v1/credit_notes", params={"invoice": of["id"], **more})


async def again(shop: Shop, of: dict[str, Any]) -> dict[str, Any]:
    return await shop.ask("GET", f"/v1/invoices/{of['id']}")


async def test_what_was_paid_goes_back_to_the_card_the_balance_and_other_ways(shop) -> None:
    paid = await invoice(shop, 1000)
    made = await note(shop, paid, amount=900, refund_amount=500, credit_amount=300, out_of_band_amount=100)
    refund = await shop.ask("GET", f"/v1/refunds/{made['refunds'][0]['refund']}")
    balance = (await shop.ask("GET", f"/v1/customers/{shop.customer}"))["balance"]
    assert (made["type"], refund["amount"], balance, made["number"]) == ("post_payment", 500, -300, f"{paid['number']}-CN-01")
    assert (await again(shop, paid))["post_payment_credit_notes_amount"] == 900


@pytest.mark.parametrize(
    "given", [{"amount": 1001, "refund_amount": 1001}, {"amount": 500, "refund_amount": 400}, {"amount": 500}, {}], ids=str
)
async def test_a_note_of_more_than_was_paid_or_that_does_not_say_where_it_goes_is_refused(given, shop) -> None:
    paid = await invoice(shop, 1000)
    params = {"invoice": paid["id"]} | {name: str(value) for name, value in given.items()}
    assert (await shop.running.call("POST", "/v1/credit_notes", params))[0] == 400
    assert (await again(shop, paid))["post_payment_credit_notes_amount"] == 0


async def test_a_line_gives_back_its_share_of_discount_and_tax(shop) -> None:
    rate = await shop.ask("POST", "/v1/tax_rates", display_name="VAT", percentage=20, inclusive="false")
    coupon = await shop.ask("POST", "/v1/coupons", percent_off=10)
    more = {"default_tax_rates[]": rate["id"], "discounts[0][coupon]": coupon["id"]}
    paid = await invoice(shop, 1000, 500, **more)
    assert paid["total"] == 1620
    lines = {"lines[0][type]": "invoice_line_item", "lines[0][invoice_line_item]": paid["lines"]["data"][0]["id"]}
    half = await note(shop, paid, **lines, **{"lines[0][amount]": 500}, refund_amount=540)
    assert (half["subtotal"], half["discount_amount"], half["total"]) == (500, 50, 540)
    lines["lines[0][invoice_line_item]"] = paid["lines"]["data"][1]["id"]
    assert (await note(shop, paid, **lines, refund_amount=540))["total"] == 540


async def test_an_open_invoice_owes_less_until_the_note_is_void(shop) -> None:
    opened = await invoice(shop, 1000, pay=False)
    made = await note(shop, opened, amount=400)
    owing = await again(shop, opened)
    assert (made["type"], owing["amount_remaining"], owing["pre_payment_credit_notes_amount"]) == ("pre_payment", 600, 400)
    await shop.ask("POST", f"/v1/credit_notes/{made['id']}/void")
    assert (await again(shop, opened))["amount_remaining"] == 1000
    await note(shop, opened, amount=250)
    assert (await shop.ask("POST", f"/v1/invoices/{opened['id']}/pay"))["amount_paid"] == 750


async def test_an_open_invoice_credited_in_full_is_paid(shop) -> None:
    opened = await invoice(shop, 1000, pay=False)
    await note(shop, opened, amount=1000)
    over = await again(shop, opened)
    assert (over["status"], over["amount_paid"], over["amount_remaining"]) == ("paid", 0, 0)


async def test_an_item_is_added_changed_and_taken_away_with_prorations(shop) -> None:
    made = await shop.subscribe(await shop.price(1000))
    await shop.to(14)
    added = await shop.ask("POST", "/v1/subscription_items", subscription=made["id"], price=await shop.price(2000))
    await shop.ask("POST", f"/v1/subscription_items/{added['id']}", quantity=2)
    await shop.ask("DELETE", f"/v1/subscription_items/{added['id']}", proration_behavior="none")
    waiting = (await shop.ask("GET", "/v1/invoiceitems", customer=shop.customer, pending="true"))["data"]
    assert [item["amount"] for item in waiting][::-1] == [1000, -1000, 2000]
