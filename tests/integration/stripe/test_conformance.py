"""Every answer of the sandbox fits the schema that Stripe publishes for it, and every operation has an answer."""

from collections.abc import Mapping
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


def validator(operation: spec.Operation) -> Draft202012Validator:
    described = spec.load()
    schema = {**as_json_schema(operation.answer), "components": {"schemas": as_json_schema(described.schemas)}}
    return Draft202012Validator(schema)


class Checked:
    """Calls an operation by its name, and holds the answer against its schema."""

    def __init__(self, running: Any) -> None:
        self.running, self.called = running, set[str]()

    async def __call__(self, operation_id: str, params: Mapping[str, str] | None = None, **path: str) -> dict[str, Any]:
        operation = spec.load().by_id(operation_id)
        status, body = await self.running.call(operation.method, operation.path.format(**path), params)
        assert status == 200, body
        faults = [f"{fault.json_path}: {fault.message}" for fault in validator(operation).iter_errors(body)]
        assert not faults, faults
        self.called.add(operation_id)
        return dict(body)


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
    await ask("DeleteSubscriptionsSubscriptionExposedId", {"invoice_now": "true"}, **name)
    await payments(ask, customer["id"])
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


async def what_happened(ask: Checked) -> None:
    endpoint = await ask("PostWebhookEndpoints", {"url": "http://127.0.0.1:9/hook", "enabled_events[]": "*"})
    name = {"webhook_endpoint": endpoint["id"]}
    await ask("PostWebhookEndpointsWebhookEndpoint", {"disabled": "true"}, **name)
    await ask("GetWebhookEndpointsWebhookEndpoint", **name)
    await ask("GetWebhookEndpoints")
    await ask("DeleteWebhookEndpointsWebhookEndpoint", **name)
    events = (await ask("GetEvents", {"limit": "100"}))["data"]
    await ask("GetEventsId", id=events[0]["id"])
    for event in events:
        fits_its_schema(event["data"]["object"])


def fits_its_schema(body: Mapping[str, Any]) -> None:
    """What an event tells of is the object as Stripe describes it."""
    schemas = as_json_schema(spec.load().schemas)
    schema = {"$ref": f"#/components/schemas/{body['object']}", "components": {"schemas": schemas}}
    faults = [f"{body['object']}: {fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(body)]
    assert not faults, faults


@pytest.mark.parametrize("path", ["/v1/customers/cus_x", "/v1/nothing", "/v1/prices?limit=0"])
async def test_every_refusal_is_stripes_error_object(path, running) -> None:
    described = spec.load()
    schema = {"$ref": "#/components/schemas/error", "components": {"schemas": as_json_schema(described.schemas)}}
    status, body = await running.call("GET", path)
    assert status >= 400
    assert not list(Draft202012Validator(schema).iter_errors(body))
