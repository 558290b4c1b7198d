"""The pages that stand in for Stripe's: a person, or a test by the same form, completes or leaves them."""

from typing import Any

import pytest

from tests.integration.stripe.shop import DAY, Shop

URLS = {"success_url": "https://shop.test/ok?s={CHECKOUT_SESSION_ID}", "cancel_url": "https://shop.test/no"}


@pytest.fixture
async def shop(running) -> Shop:
    return await Shop(running).open(card=None)


async def post(shop: Shop, url: str, **form: str) -> tuple[int, str | None, str]:
    """Send a page's form; status, where it leads, text."""
    answer: tuple[int, str | None, str] = await shop.running.ask("POST", url.removeprefix(shop.running.url), data=form, text=True)
    return answer


async def checkout(shop: Shop, mode: str, **more: Any) -> dict[str, Any]:
    return await shop.ask("POST", "/v1/checkout/sessions", params={"mode": mode, "customer": shop.customer, **URLS, **more})


async def looked_at(shop: Shop, session: dict[str, Any]) -> dict[str, Any]:
    return await shop.ask("GET", f"/v1/checkout/sessions/{session['id']}")


async def test_a_subscription_is_bought_and_paid(shop) -> None:
    bought = {"line_items[0][price]": await shop.price(), "line_items[0][quantity]": 2, "line_items[1][price]": await shop.metered()}
    session = await checkout(shop, "subscription", **bought, **{"subscription_data[metadata][org]": "acme"})
    status, _, page = await shop.running.ask("GET", session["url"].removeprefix(shop.running.url), text=True)
    assert (status, "not Stripe" in page, "20.00 USD" in page, session["amount_total"]) == (200, True, True, 2000)
    await shop.events()
    assert await post(shop, session["url"], card="pm_card_visa") == (303, f"https://shop.test/ok?s={session['id']}", "")
    done = await looked_at(shop, session)
    made = await shop.ask("GET", f"/v1/subscriptions/{done['subscription']}")
    assert (done["status"], done["payment_status"], made["status"], made["metadata"]) == ("complete", "paid", "active", {"org": "acme"})
    assert (await shop.totals(), made["default_payment_method"][:3]) == ([("paid", 2000)], "pm_")
    assert (await shop.events())[-1] == "checkout.session.completed"


async def test_a_declined_card_leaves_checkout_open_and_nothing_bought(shop) -> None:
    session = await checkout(shop, "subscription", **{"line_items[0][price]": await shop.price(), "line_items[0][quantity]": 1})
    for card in ("pm_card_chargeDeclined", "pm_card_chargeCustomerFail"):
        status, _, page = await post(shop, session["url"], card=card)
        assert (status, "Your card was declined." in page) == (402, True)
    assert ((await looked_at(shop, session))["status"], await shop.invoices()) == ("open", [])
    assert (await post(shop, session["url"], card="pm_card_mastercard"))[0] == 303


async def test_a_trial_is_bought_with_nothing_due_now(shop) -> None:
    bought = {"line_items[0][price]": await shop.price(), "line_items[0][quantity]": 1, "subscription_data[trial_period_days]": 14}
    session = await checkout(shop, "subscription", **bought)
    await post(shop, session["url"], card="pm_card_visa")
    done = await looked_at(shop, session)
    assert (done["amount_total"], done["payment_status"]) == (0, "no_payment_required")
    await shop.to(15)
    assert await shop.totals() == [("paid", 0), ("paid", 1000)]


async def test_a_card_is_saved_in_setup_mode(shop) -> None:
    session = await checkout(shop, "setup")
    await post(shop, session["url"], card="pm_card_authenticationRequired")
    setup = await shop.ask("GET", f"/v1/setup_intents/{session['setup_intent']}")
    cards = (await shop.ask("GET", f"/v1/customers/{shop.customer}/payment_methods"))["data"]
    assert (setup["status"], [card["id"] for card in cards]) == ("succeeded", [setup["payment_method"]])


async def test_something_is_paid_once_by_a_customer_who_is_new(shop) -> None:
    price = (await shop.ask("POST", "/v1/prices", product=shop.product, currency="usd", unit_amount=700))["id"]
    asked = {"mode": "payment", "line_items[0][price]": price, "line_items[0][quantity]": 2, "customer_creation": "always", **URLS}
    session = await shop.ask("POST", "/v1/checkout/sessions", params=asked)
    await post(shop, session["url"], card="pm_card_visa", email="new@acme.test")
    done = await looked_at(shop, session)
    intent = await shop.ask("GET", f"/v1/payment_intents/{done['payment_intent']}")
    who = await shop.ask("GET", f"/v1/customers/{done['customer']}")
    assert (intent["amount_received"], who["email"]) == (1400, "new@acme.test")


async def test_leaving_and_letting_it_expire(shop) -> None:
    session = await checkout(shop, "setup")
    assert (await post(shop, session["url"], action="cancel"))[:2] == (303, "https://shop.test/no")
    await shop.to(1)
    assert ((await looked_at(shop, session))["status"], (await post(shop, session["url"]))[0]) == ("expired", 410)


async def test_a_page_leads_nowhere_but_to_the_web_and_shows_texts_as_texts(shop, running) -> None:
    params = {"mode": "setup", "customer": shop.customer, "success_url": "javascript:alert(1)"}
    assert (await running.call("POST", "/v1/checkout/sessions", params))[1]["error"]["param"] == "success_url"
    price = await shop.price(nickname="<script>")
    session = await checkout(shop, "subscription", **{"line_items[0][price]": price, "line_items[0][quantity]": 1})
    assert "<script>" not in (await running.ask("GET", session["url"].removeprefix(running.url), text=True))[2]


async def test_in_the_portal_a_customer_adds_a_card_cancels_and_keeps(shop) -> None:
    await shop.use("pm_card_visa")
    made = await shop.subscribe(await shop.price())
    portal = await shop.ask("POST", "/v1/billing_portal/sessions", customer=shop.customer, return_url="https://shop.test/account")
    status, _, page = await shop.running.ask("GET", portal["url"].removeprefix(shop.running.url), text=True)
    assert (status, "10.00 USD" in page, made["id"] in page) == (200, True, True)
    await post(shop, portal["url"], action="add_card", card="pm_card_mastercard")
    who = await shop.ask("GET", f"/v1/customers/{shop.customer}", params={"expand[]": "invoice_settings.default_payment_method"})
    assert who["invoice_settings"]["default_payment_method"]["card"]["brand"] == "mastercard"
    await post(shop, portal["url"], action="cancel", subscription=made["id"], feedback="too_expensive")
    ordered = await shop.now(made)
    assert (ordered["cancel_at_period_end"], ordered["cancellation_details"]["feedback"]) == (True, "too_expensive")
    await post(shop, portal["url"], action="keep", subscription=made["id"])
    assert (await shop.now(made))["cancel_at"] is None
    assert (await post(shop, portal["url"], action="add_card", card="pm_card_chargeDeclined"))[0] == 402
    assert (await post(shop, portal["url"], action="explode"))[0] == 400


async def test_the_portal_does_what_its_configuration_allows(shop) -> None:
    await shop.use("pm_card_visa")
    made = await shop.subscribe(await shop.price())
    only = {"features[payment_method_update][enabled]": "true"}
    configuration = (await shop.ask("POST", "/v1/billing_portal/configurations", params=only))["id"]
    portal = await shop.ask("POST", "/v1/billing_portal/sessions", customer=shop.customer, configuration=configuration)
    assert (await post(shop, portal["url"], action="cancel", subscription=made["id"]))[0] == 402
    assert (await shop.now(made))["cancel_at_period_end"] is False


async def test_an_open_invoice_is_paid_on_its_own_page(shop) -> None:
    await shop.use("pm_card_visa")
    made = await shop.subscribe(await shop.price())
    await shop.fails("generic_decline")
    await shop.to(29)
    url = (await shop.invoices())[-1]["hosted_invoice_url"]
    assert (await post(shop, url, card="pm_card_chargeDeclined"))[0] == 402
    assert (await post(shop, url, card="pm_card_authenticationRequired"))[0] == 200
    assert ((await shop.totals())[-1], (await shop.now(made))["status"]) == (("paid", 1000), "active")


@pytest.mark.parametrize(("outcome", "status"), [("ok", "succeeded"), ("fail", "requires_payment_method")])
async def test_a_bank_asks_the_cards_owner(outcome, status, shop) -> None:
    params = {"amount": 500, "currency": "usd", "payment_method": "pm_card_authenticationRequired", "confirm": "true"}
    intent = await shop.ask("POST", "/v1/payment_intents", params=params)
    page = intent["next_action"]["use_stripe_sdk"]["stripe_js"]
    assert (await post(shop, page, outcome=outcome))[0] == 200
    assert (await shop.ask("GET", f"/v1/payment_intents/{intent['id']}"))["status"] == status


async def test_the_account_is_a_setting(shop, running) -> None:
    assert (await shop.ask("GET", "/v1/account"))["id"] == "acct_sandbox"
    await running.ask("POST", "/_sandbox/settings", json={"account": "acct_other"})
    assert (await shop.ask("GET", "/v1/account"))["id"] == "acct_other"


async def test_a_session_lasts_a_day(shop, running) -> None:
    session = await checkout(shop, "setup")
    assert session["expires_at"] - session["created"] == DAY
