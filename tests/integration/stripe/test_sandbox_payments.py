"""The sandbox's cards: which are taken, which say no and how, and what stays of a try."""

from typing import Any

import pytest

INTENTS, METHODS = "/v1/payment_intents", "/v1/payment_methods"


async def customer(running: Any, token: str = "pm_card_visa") -> tuple[str, str]:
    """A customer with this card as default; both ids."""
    _, made = await running.call("POST", "/v1/customers", {"name": "Acme"})
    status, method = await running.call("POST", f"{METHODS}/{token}/attach", {"customer": made["id"]})
    assert status == 200, method
    chosen = {"invoice_settings[default_payment_method]": method["id"]}
    assert (await running.call("POST", f"/v1/customers/{made['id']}", chosen))[0] == 200
    return made["id"], method["id"]


async def pay(running: Any, who: str, card: str, amount: int = 500, **more: str) -> tuple[int, dict[str, Any]]:
    params = {"amount": str(amount), "currency": "usd", "customer": who, "payment_method": card, "confirm": "true", "off_session": "true"}
    answer: tuple[int, dict[str, Any]] = await running.call("POST", INTENTS, params, **more)
    return answer


async def event_types(running: Any) -> list[str]:
    return [event["type"] for event in (await running.call("GET", "/v1/events", {"limit": "100"}))[1]["data"]][::-1]


async def test_a_good_card_pays_and_the_charge_can_be_given_back_in_parts(running) -> None:
    who, card = await customer(running)
    status, intent = await pay(running, who, card)
    assert (status, intent["status"], intent["amount_received"]) == (200, "succeeded", 500)
    assert (await running.call("POST", "/v1/refunds", {"payment_intent": intent["id"], "amount": "200"}))[1]["amount"] == 200
    assert (await running.call("POST", "/v1/refunds", {"charge": intent["latest_charge"], "amount": "301"}))[0] == 400
    await running.call("POST", "/v1/refunds", {"charge": intent["latest_charge"]})
    _, charge = await running.call("GET", f"/v1/charges/{intent['latest_charge']}", {"expand[]": "refunds"})
    assert (charge["amount_refunded"], charge["refunded"], len(charge["refunds"]["data"])) == (500, True, 2)


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
async def test_a_card_that_declines_is_refused_when_attached_and_when_paid_with(token, code, decline_code, running) -> None:
    _, made = await running.call("POST", "/v1/customers", {"name": "Acme"})
    for status, body in (
        await running.call("POST", f"{METHODS}/{token}/attach", {"customer": made["id"]}),
        await pay(running, made["id"], token),
    ):
        assert (status, body["error"]["type"], body["error"]["code"]) == (402, "card_error", code)
        assert body["error"]["decline_code"] == decline_code


async def test_a_declined_try_is_kept_and_another_card_pays_the_same_intent(running) -> None:
    who, card = await customer(running, "pm_card_chargeCustomerFail")
    _, body = await pay(running, who, card)
    intent = body["error"]["payment_intent"]["id"]
    _, kept = await running.call("GET", f"{INTENTS}/{intent}")
    assert (kept["status"], kept["last_payment_error"]["decline_code"]) == ("requires_payment_method", "generic_decline")
    status, paid = await running.call("POST", f"{INTENTS}/{intent}/confirm", {"payment_method": "pm_card_visa"})
    assert (status, paid["status"]) == (200, "succeeded")
    _, charges = await running.call("GET", "/v1/charges", {"payment_intent": intent})
    assert [charge["status"] for charge in charges["data"]] == ["succeeded", "failed"]


async def test_the_same_key_charges_once_and_declines_once(running) -> None:
    who, card = await customer(running)
    assert await pay(running, who, card, Idempotency_Key="a") == await pay(running, who, card, Idempotency_Key="a")
    _, bad = await customer(running, "pm_card_chargeCustomerFail")
    owner = (await running.call("GET", f"{METHODS}/{bad}"))[1]["customer"]
    assert await pay(running, owner, bad, Idempotency_Key="b") == await pay(running, owner, bad, Idempotency_Key="b")
    assert len((await running.call("GET", "/v1/charges"))[1]["data"]) == 2


async def test_a_card_that_wants_its_owner_fails_off_session_and_waits_on_session(running) -> None:
    who, card = await customer(running, "pm_card_authenticationRequired")
    status, body = await pay(running, who, card)
    assert (status, body["error"]["code"]) == (402, "authentication_required")
    params = {"amount": "500", "currency": "usd", "customer": who, "payment_method": card, "confirm": "true"}
    status, intent = await running.call("POST", INTENTS, params)
    assert (status, intent["status"], intent["next_action"]["type"]) == (200, "requires_action", "use_stripe_sdk")


async def test_a_card_begins_to_fail_by_the_sandboxs_switch_for_as_often_as_asked(running) -> None:
    who, card = await customer(running)
    await running.ask("POST", "/_sandbox/cards", json={"payment_method": card, "fails": "insufficient_funds", "times": 2})
    assert [(await pay(running, who, card))[0] for _ in range(3)] == [402, 402, 200]
    assert "insufficient_funds" in (await running.ask("POST", "/_sandbox/cards", json={"customer": who, "fails": "bad mood"}))["error"]


async def test_a_setup_intent_saves_a_card_to_its_customer(running) -> None:
    _, made = await running.call("POST", "/v1/customers", {"name": "Acme"})
    params = {"customer": made["id"], "payment_method": "pm_card_mastercard", "confirm": "true"}
    status, setup = await running.call("POST", "/v1/setup_intents", params)
    assert (status, setup["status"]) == (200, "succeeded")
    _, cards = await running.call("GET", f"/v1/customers/{made['id']}/payment_methods")
    assert [(card["id"], card["card"]["brand"]) for card in cards["data"]] == [(setup["payment_method"], "mastercard")]
    status, body = await running.call("POST", "/v1/setup_intents", params | {"payment_method": "pm_card_chargeDeclined"})
    assert (status, body["error"]["setup_intent"]["status"]) == (402, "requires_payment_method")


async def test_a_detached_card_is_nobodys_default_and_never_comes_back(running) -> None:
    who, card = await customer(running)
    assert (await running.call("POST", f"{METHODS}/{card}/detach"))[1]["customer"] is None
    assert (await running.call("GET", f"/v1/customers/{who}"))[1]["invoice_settings"]["default_payment_method"] is None
    assert (await running.call("POST", f"{METHODS}/{card}/attach", {"customer": who}))[0] == 400
    assert (await pay(running, who, card))[0] == 400


async def test_a_default_card_must_be_the_customers_own(running) -> None:
    _, card = await customer(running)
    other, _ = await customer(running)
    chosen = {"invoice_settings[default_payment_method]": card}
    assert (await running.call("POST", f"/v1/customers/{other}", chosen))[1]["error"]["code"] == "resource_missing"


async def test_no_number_but_those_of_stripes_test_cards_is_taken(running) -> None:
    params = {"type": "card", "card[number]": "4929000000006", "card[exp_month]": "1", "card[exp_year]": "2030"}
    status, body = await running.call("POST", METHODS, params)
    assert (status, body["error"]["code"]) == (402, "incorrect_number")
    assert (await running.call("POST", METHODS, params | {"card[number]": "4242424242424242"}))[1]["card"]["exp_year"] == 2030


async def test_each_step_of_a_payment_is_an_event(running) -> None:
    who, card = await customer(running)
    await pay(running, who, card)
    assert await event_types(running) == [
        "customer.created", "payment_method.attached", "customer.updated",
        "payment_intent.created", "charge.succeeded", "payment_intent.succeeded",
    ]  # fmt: skip


@pytest.mark.parametrize(("amount", "code"), [("49", "amount_too_small"), ("100000000", "amount_too_large")])
async def test_an_amount_out_of_bounds_is_refused(amount, code, running) -> None:
    _, body = await running.call("POST", INTENTS, {"amount": amount, "currency": "usd"})
    assert body["error"]["code"] == code


async def test_what_is_expanded_stands_in_the_answer_and_what_cannot_be_is_refused(running) -> None:
    who, card = await customer(running)
    _, intent = await pay(running, who, card)
    asked = {"expand[0]": "latest_charge.customer", "expand[1]": "payment_method"}
    _, shown = await running.call("GET", f"{INTENTS}/{intent['id']}", asked)
    assert (shown["latest_charge"]["customer"]["id"], shown["payment_method"]["id"]) == (who, card)
    assert (await running.call("GET", f"{INTENTS}/{intent['id']}", {"expand[]": "amount"}))[0] == 400
    assert not [name for name in shown if name.startswith("_")]
