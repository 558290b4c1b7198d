"""Every answer of the sandbox fits the schema that Stripe publishes for it, and every operation has an answer."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.resources import HANDLERS


def as_json_schema(value: Any) -> Any:
    """OpenAPI 3.0's `nullable` as JSON Schema has it."""
    if isinstance(value, list):
        return [as_json_schema(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    schema = {key: as_json_schema(part) for key, part in value.items() if key != "nullable"}
    return {"anyOf": [schema, {"type": "null"}]} if value.get("nullable") is True else schema


@cache
def components() -> dict[str, Any]:
    return {"schemas": as_json_schema(spec.load().schemas)}


@cache
def validator(operation_id: str) -> Draft202012Validator:
    return Draft202012Validator({**as_json_schema(spec.load().by_id(operation_id).answer), "components": components()})


@cache
def validator_of(kind: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{kind}", "components": components()})


class Checked:
    """Calls an operation by its name, and holds the answer against its schema."""

    def __init__(self, running: Any) -> None:
        self.running, self.called = running, set[str]()

    async def __call__(self, operation_id: str, params: Mapping[str, str] | None = None, **path: str) -> dict[str, Any]:
        operation = spec.load().by_id(operation_id)
        status, body = await self.running.call(operation.method, operation.path.format(**path), params)
        assert status == 200, body
        faults = [f"{fault.json_path}: {fault.message}" for fault in validator(operation_id).iter_errors(body)]
        assert not faults, faults
        self.called.add(operation_id)
        return dict(body)


@pytest.mark.long
async def test_every_operation_answers_as_stripe_describes(running, clock) -> None:
    ask = Checked(running)
    now = clock.now_ms() // 1000
    customer = await ask("PostCustomers", {"name": "Acme", "email": "a@acme.test", "metadata[a]": "1"})
    await ask("GetCustomersCustomer", customer=customer["id"])
    await ask("PostCustomersCustomer", {"description": "x", "metadata[a]": ""}, customer=customer["id"])
    await ask("GetCustomers", {"created[gte]": "1"})
    meter = await ask("PostBillingMeters", {"event_name": "calls", "display_name": "Calls", "default_aggregation[formula]": "sum"})
    await ask("GetBillingMetersId", id=meter["id"])
    await ask("PostBillingMetersId", {"display_name": "Calls!"}, id=meter["id"])
    await ask("PostBillingMetersIdDeactivate", id=meter["id"])
    await ask("PostBillingMetersIdReactivate", id=meter["id"])
    await ask("GetBillingMeters", {"status": "active"})
    event = {"event_name": "calls", "identifier": "i", "payload[stripe_customer_id]": customer["id"], "payload[value]": "3"}
    await ask("PostBillingMeterEvents", event | {"timestamp": str(now)})
    bounds = {"customer": customer["id"], "start_time": str(now // 60 * 60), "end_time": str(now // 60 * 60 + 60)}
    await ask("GetBillingMetersIdEventSummaries", bounds, id=meter["id"])
    await ask("PostBillingMeterEventAdjustments", {"event_name": "calls", "type": "cancel", "cancel[identifier]": "i"})
    product = await ask("PostProducts", {"name": "Pro"})
    await ask("GetProductsId", id=product["id"])
    await ask("PostProductsId", {"description": "All of it"}, id=product["id"])
    await ask("GetProducts")
    base = await ask("PostPrices", {"product": product["id"], "currency": "usd", "unit_amount": "4900", "recurring[interval]": "month"})
    metered = {"recurring[interval]": "month", "recurring[usage_type]": "metered", "recurring[meter]": meter["id"]}
    overage = await ask("PostPrices", {"product": product["id"], "currency": "usd", "unit_amount_decimal": "0.03", **metered})
    tiers = {"tiers[0][up_to]": "5", "tiers[0][flat_amount]": "700", "tiers[1][up_to]": "inf", "tiers[1][unit_amount]": "1"}
    tiered = {"product": product["id"], "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "volume", "expand[]": "tiers", **tiers}
    await ask("PostPrices", tiered)
    await ask("GetPricesPrice", price=base["id"])
    await ask("PostPricesPrice", {"nickname": "base"}, price=base["id"])
    await ask("GetPrices", {"active": "true"})
    parts = {"customer": customer["id"], "items[0][price]": base["id"], "items[1][price]": overage["id"]}
    parts |= {"collection_method": "send_invoice", "days_until_due": "30", "billing_cycle_anchor_config[day_of_month]": "31"}
    subscription = await ask("PostSubscriptions", parts)
    name = {"subscription_exposed_id": subscription["id"]}
    await ask("GetSubscriptionsSubscriptionExposedId", **name)
    await ask("PostSubscriptionsSubscriptionExposedId", {"metadata[x]": "y"}, **name)
    await ask("GetSubscriptions", {"customer": customer["id"]})
    await ask("GetSubscriptionItems", {"subscription": subscription["id"]})
    dear = await ask("PostPrices", {"product": product["id"], "currency": "usd", "unit_amount": "9900", "recurring[interval]": "month"})
    item = await ask("PostSubscriptionItems", {"subscription": subscription["id"], "price": dear["id"], "quantity": "2"})
    await ask("PostSubscriptionItemsItem", {"quantity": "3"}, item=item["id"])
    await ask("GetSubscriptionItemsItem", item=item["id"])
    await ask("DeleteSubscriptionItemsItem", item=item["id"])
    await ask("DeleteSubscriptionsSubscriptionExposedId", {"invoice_now": "true"}, **name)
    await payments(ask, customer["id"])
    await coupons_and_taxes(ask, customer["id"])
    await invoices(ask, base["id"], overage["id"])
    await hosted_pages(ask, customer["id"], base["id"])
    await what_happened(ask)
    other = await ask("PostProducts", {"name": "Gone"})
    await ask("DeleteProductsId", id=other["id"])
    await ask("DeleteCustomersCustomer", customer=customer["id"])
    await ask("GetCustomersCustomer", customer=customer["id"])
    assert ask.called == set(HANDLERS) == {operation.id for operation in spec.load().operations}


async def payments(ask: Checked, customer: str) -> None:
    token = {"type": "card", "card[token]": "tok_visa", "billing_details[email]": "a@acme.test"}
    method = await ask("PostPaymentMethods", token)
    await ask("PostPaymentMethodsPaymentMethodAttach", {"customer": customer}, payment_method=method["id"])
    await ask("PostPaymentMethodsPaymentMethod", {"billing_details[name]": "A"}, payment_method=method["id"])
    await ask("GetPaymentMethodsPaymentMethod", payment_method=method["id"])
    await ask("GetPaymentMethods", {"customer": customer})
    await ask("GetCustomersCustomerPaymentMethods", customer=customer)
    await ask("GetCustomersCustomerPaymentMethodsPaymentMethod", customer=customer, payment_method=method["id"])
    await ask("PostCustomersCustomer", {"invoice_settings[default_payment_method]": method["id"]}, customer=customer)
    amount = {"amount": "500", "currency": "usd", "customer": customer}
    intent = await ask("PostPaymentIntents", amount | {"automatic_payment_methods[enabled]": "true"})
    await ask("PostPaymentIntentsIntent", {"description": "x"}, intent=intent["id"])
    asked = {"payment_method": method["id"], "off_session": "true"}
    paid = await ask("PostPaymentIntentsIntentConfirm", asked, intent=intent["id"])
    await ask("GetPaymentIntentsIntent", intent=intent["id"])
    await ask("GetPaymentIntents", {"customer": customer})
    waits = await ask("PostPaymentIntents", amount | {"payment_method": "pm_card_authenticationRequired", "confirm": "true"})
    await ask("PostPaymentIntentsIntentCancel", {"cancellation_reason": "abandoned"}, intent=waits["id"])
    await ask("GetChargesCharge", charge=paid["latest_charge"])
    await ask("GetCharges")
    refund = await ask("PostRefunds", {"payment_intent": paid["id"], "amount": "1", "reason": "duplicate"})
    await ask("PostRefundsRefund", {"metadata[a]": "1"}, refund=refund["id"])
    await ask("GetRefundsRefund", refund=refund["id"])
    await ask("GetRefunds")
    await ask("PostPaymentMethodsPaymentMethodDetach", payment_method=method["id"])
    setup = await ask("PostSetupIntents", {"customer": customer})
    await ask("PostSetupIntentsIntent", {"description": "x"}, intent=setup["id"])
    await ask("PostSetupIntentsIntentConfirm", {"payment_method": "pm_card_amex"}, intent=setup["id"])
    await ask("GetSetupIntentsIntent", intent=setup["id"])
    await ask("GetSetupIntents", {"customer": customer})
    other = await ask("PostSetupIntents", {"customer": customer})
    await ask("PostSetupIntentsIntentCancel", intent=other["id"])


async def coupons_and_taxes(ask: Checked, customer: str) -> None:
    await ask("PostCoupons", {"id": "TEN", "percent_off": "10", "duration": "repeating", "duration_in_months": "3"})
    await ask("PostCouponsCoupon", {"name": "Ten"}, coupon="TEN")
    await ask("GetCouponsCoupon", {"expand[]": "applies_to"}, coupon="TEN")
    await ask("GetCoupons")
    code = await ask("PostPromotionCodes", {"promotion[type]": "coupon", "promotion[coupon]": "TEN", "code": "SAVE"})
    await ask("PostPromotionCodesPromotionCode", {"metadata[a]": "1"}, promotion_code=code["id"])
    await ask("GetPromotionCodesPromotionCode", promotion_code=code["id"])
    await ask("GetPromotionCodes", {"code": "SAVE"})
    await ask("PostCoupons", {"id": "FIVE", "amount_off": "500", "currency": "usd"})
    await ask("DeleteCouponsCoupon", coupon="FIVE")
    rate = await ask("PostTaxRates", {"display_name": "VAT", "percentage": "19", "inclusive": "false", "country": "DE"})
    await ask("PostTaxRatesTaxRate", {"description": "x"}, tax_rate=rate["id"])
    await ask("GetTaxRatesTaxRate", tax_rate=rate["id"])
    await ask("GetTaxRates", {"active": "true"})
    taxed = await ask("PostCustomersCustomerTaxIds", {"type": "eu_vat", "value": "DE123456789"}, customer=customer)
    await ask("GetCustomersCustomerTaxIdsId", customer=customer, id=taxed["id"])
    await ask("GetCustomersCustomerTaxIds", customer=customer)
    await ask("DeleteCustomersCustomerTaxIdsId", customer=customer, id=taxed["id"])
    moved = await ask("PostCustomersCustomerBalanceTransactions", {"amount": "-500", "currency": "usd"}, customer=customer)
    name = {"customer": customer, "transaction": moved["id"]}
    await ask("PostCustomersCustomerBalanceTransactionsTransaction", {"description": "gift"}, **name)
    await ask("GetCustomersCustomerBalanceTransactionsTransaction", **name)
    await ask("GetCustomersCustomerBalanceTransactions", customer=customer)


async def invoices(ask: Checked, base: str, overage: str) -> None:
    """Two customers on a test clock: one who pays, with everything on the invoice, and one whose trial ends without a card."""
    rate = await ask("PostTaxRates", {"display_name": "VAT", "percentage": "7.7", "inclusive": "true"})
    clock = await ask("PostTestHelpersTestClocks", {"frozen_time": "1793000000", "name": "year"})
    on = {"test_clock": clock["id"], "name": "Payer", "payment_method": "pm_card_visa", "balance": "-100", "address[country]": "DE"}
    who = (await ask("PostCustomers", on))["id"]
    await ask("PostCustomersCustomerTaxIds", {"type": "eu_vat", "value": "DE123456789"}, customer=who)
    card = (await ask("GetPaymentMethods", {"customer": who}))["data"][0]["id"]
    parts = {"customer": who, "items[0][price]": base, "items[1][price]": overage, "default_payment_method": card}
    parts |= {"discounts[0][coupon]": "TEN", "default_tax_rates[]": rate["id"]}
    made = await ask("PostSubscriptions", parts)
    await ask("GetInvoicesInvoice", {"expand[0]": "confirmation_secret", "expand[1]": "payments"}, invoice=made["latest_invoice"])
    await ask("PostInvoicesCreatePreview", {"subscription": made["id"]})
    item = {"customer": who, "amount": "500", "currency": "usd", "description": "Set-up"}
    pending = await ask("PostInvoiceitems", item)
    await ask("PostInvoiceitemsInvoiceitem", {"amount": "600"}, invoiceitem=pending["id"])
    await ask("GetInvoiceitemsInvoiceitem", invoiceitem=pending["id"])
    await ask("GetInvoiceitems", {"pending": "true"})
    counted = {"customer": who, "currency": "usd", "unit_amount_decimal": "0.5", "quantity": "3"}
    gone = await ask("PostInvoiceitems", counted)
    await ask("DeleteInvoiceitemsInvoiceitem", invoiceitem=gone["id"])
    more = {"items[0][id]": made["items"]["data"][0]["id"], "items[0][quantity]": "2"}
    await ask("PostSubscriptionsSubscriptionExposedId", more, subscription_exposed_id=made["id"])
    trial = {"customer": (await ask("PostCustomers", {"test_clock": clock["id"]}))["id"], "items[0][price]": base}
    trial |= {"trial_period_days": "14", "trial_settings[end_behavior][missing_payment_method]": "pause"}
    paused = await ask("PostSubscriptions", trial)
    await ask("PostTestHelpersTestClocksTestClockAdvance", {"frozen_time": str(1793000000 + 40 * 86_400)}, test_clock=clock["id"])
    assert (await ask("GetTestHelpersTestClocksTestClock", test_clock=clock["id"]))["status"] == "ready"
    await ask("PostCustomersCustomer", {"description": "back"}, customer=trial["customer"])
    card = (await ask("PostPaymentMethodsPaymentMethodAttach", {"customer": trial["customer"]}, payment_method="pm_card_visa"))["id"]
    chosen = {"invoice_settings[default_payment_method]": card}
    await ask("PostCustomersCustomer", chosen, customer=trial["customer"])
    resumed = await ask("PostSubscriptionsSubscriptionResume", subscription=paused["id"])
    assert resumed["status"] == "active"
    await by_hand(ask, who)
    await ask("GetTestHelpersTestClocks")
    await ask("DeleteTestHelpersTestClocksTestClock", test_clock=clock["id"])


async def by_hand(ask: Checked, who: str) -> None:
    """Manual invoices, one to each end."""
    found = (await ask("GetInvoices", {"customer": who}))["data"]
    await ask("GetInvoicesInvoiceLines", {"limit": "1"}, invoice=found[0]["id"])
    payment = (await ask("GetInvoicePayments", {"invoice": found[0]["id"]}))["data"][0]
    await ask("GetInvoicePaymentsInvoicePayment", invoice_payment=payment["id"])
    item = {"customer": who, "amount": "500", "currency": "usd"}
    sent = {"customer": who, "collection_method": "send_invoice", "days_until_due": "10"}
    for end, params in (
        ("PostInvoicesInvoicePay", {"payment_method": "pm_card_visa"}),
        ("PostInvoicesInvoiceVoid", {}),
        ("PostInvoicesInvoiceMarkUncollectible", {}),
        ("PostInvoicesInvoiceSend", {}),
    ):
        invoice = (await ask("PostInvoices", sent))["id"]
        await ask("PostInvoiceitems", item | {"invoice": invoice})
        await ask("PostInvoicesInvoice", {"footer": "Thanks"}, invoice=invoice)
        await ask("PostInvoicesInvoiceFinalize", invoice=invoice)
        await ask(end, params, invoice=invoice)
    await credit(ask, who)
    draft = await ask("PostInvoices", {"customer": who, "pending_invoice_items_behavior": "include"})
    await ask("DeleteInvoicesInvoice", invoice=draft["id"])


async def credit(ask: Checked, who: str) -> None:
    """Notes on a paid invoice, and on an open one."""
    found = (await ask("GetInvoices", {"customer": who, "status": "paid"}))["data"]
    paid = next(each for each in found if each["amount_paid"] > 100)
    line = next(each for each in paid["lines"]["data"] if each["amount"] > 100)
    asked = {
        "invoice": paid["id"],
        "lines[0][type]": "invoice_line_item",
        "lines[0][invoice_line_item]": line["id"],
        "lines[0][amount]": "100",
    }
    rest = (await ask("GetCreditNotesPreview", asked | {"out_of_band_amount": await refused_total(ask, asked)}))["total"]
    note = await ask("PostCreditNotes", asked | {"credit_amount": str(rest), "reason": "duplicate"})
    await ask("PostCreditNotesId", {"memo": "sorry"}, id=note["id"])
    await ask("GetCreditNotesId", id=note["id"])
    await ask("GetCreditNotesCreditNoteLines", credit_note=note["id"])
    await ask("GetCreditNotes", {"invoice": paid["id"]})
    invoice = (await ask("PostInvoices", {"customer": who, "collection_method": "send_invoice", "days_until_due": "1"}))["id"]
    await ask("PostInvoiceitems", {"customer": who, "amount": "5000", "currency": "usd", "invoice": invoice})
    await ask("PostInvoicesInvoiceFinalize", invoice=invoice)
    custom = {
        "lines[0][type]": "custom_line_item",
        "lines[0][description]": "Off",
        "lines[0][unit_amount]": "10",
        "lines[0][quantity]": "2",
    }
    note = await ask("PostCreditNotes", {"invoice": invoice, **custom})
    await ask("PostCreditNotesIdVoid", id=note["id"])


async def refused_total(ask: Checked, asked: dict[str, str]) -> str:
    """What a note comes to stands in the refusal of one that gives nothing back."""
    _, body = await ask.running.call("GET", "/v1/credit_notes/preview", asked)
    return str(body["error"]["message"]).rpartition(" ")[2].rstrip(".")


async def hosted_pages(ask: Checked, customer: str, base: str) -> None:
    await ask("GetAccount")
    urls = {"success_url": "https://shop.test/ok", "cancel_url": "https://shop.test/no", "customer": customer}
    bought = {"line_items[0][price]": base, "line_items[0][quantity]": "1", "discounts[0][coupon]": "TEN"}
    session = await ask("PostCheckoutSessions", urls | bought | {"mode": "subscription", "expand[]": "line_items"})
    name = {"session": session["id"]}
    assert (await ask.running.ask("POST", f"/_sandbox/checkout/{session['id']}", data={"card": "pm_card_visa"}, text=True))[0] == 303
    assert (await ask("GetCheckoutSessionsSession", **name))["status"] == "complete"
    await ask("PostCheckoutSessionsSession", {"metadata[a]": "1"}, **name)
    await ask("GetCheckoutSessionsSessionLineItems", **name)
    other = await ask("PostCheckoutSessions", urls | {"mode": "setup"})
    await ask("PostCheckoutSessionsSessionExpire", session=other["id"])
    await ask("GetCheckoutSessions", {"status": "expired"})
    features = {"features[subscription_cancel][enabled]": "true", "features[payment_method_update][enabled]": "true"}
    configuration = await ask("PostBillingPortalConfigurations", features)
    name = {"configuration": configuration["id"]}
    await ask("PostBillingPortalConfigurationsConfiguration", {"business_profile[headline]": "Hello"}, **name)
    await ask("GetBillingPortalConfigurationsConfiguration", **name)
    await ask("GetBillingPortalConfigurations")
    flow = {"flow_data[type]": "payment_method_update", "return_url": "https://shop.test/account"}
    await ask("PostBillingPortalSessions", {"customer": customer, "configuration": configuration["id"], **flow})


async def what_happened(ask: Checked) -> None:
    endpoint = await ask("PostWebhookEndpoints", {"url": "http://127.0.0.1:9/hook", "enabled_events[]": "*"})
    name = {"webhook_endpoint": endpoint["id"]}
    await ask("PostWebhookEndpointsWebhookEndpoint", {"disabled": "true"}, **name)
    await ask("GetWebhookEndpointsWebhookEndpoint", **name)
    await ask("GetWebhookEndpoints")
    await ask("DeleteWebhookEndpointsWebhookEndpoint", **name)
    page = await ask("GetEvents", {"limit": "100"})
    await ask("GetEventsId", id=page["data"][0]["id"])
    known = spec.load().by_id("PostWebhookEndpoints").accepts["properties"]["enabled_events"]["items"]["enum"]
    while page["data"]:
        assert {event["type"] for event in page["data"]} <= set(known)
        for event in page["data"]:
            fits_its_schema(event["data"]["object"])
        page = await ask("GetEvents", {"limit": "100", "starting_after": page["data"][-1]["id"]})


def fits_its_schema(body: Mapping[str, Any]) -> None:
    """What an event tells of is the object as Stripe describes it."""
    faults = [f"{body['object']}: {fault.json_path}: {fault.message}" for fault in validator_of(body["object"]).iter_errors(body)]
    assert not faults, faults


@pytest.mark.parametrize("path", ["/v1/customers/cus_x", "/v1/nothing", "/v1/prices?limit=0"])
async def test_every_refusal_is_stripes_error_object(path, running) -> None:
    status, body = await running.call("GET", path)
    assert status >= 400
    assert not list(validator_of("error").iter_errors(body))
