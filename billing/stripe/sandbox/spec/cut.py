"""Cut Stripe's OpenAPI description down to what Weighbridge uses.

    python -m billing.stripe.sandbox.spec.cut /path/to/spec3.json.gz

writes openapi.json.gz beside this file. Descriptions go, and so do the expanded forms of references: the sandbox
answers ids. Run it again with a newer description when the pinned SDK moves; the tests say what no longer fits.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

OPERATIONS = {
    "/v1/account": ("get",),
    "/v1/billing/meters": ("get", "post"),
    "/v1/billing/meters/{id}": ("get", "post"),
    "/v1/billing/meters/{id}/deactivate": ("post",),
    "/v1/billing/meters/{id}/reactivate": ("post",),
    "/v1/billing/meters/{id}/event_summaries": ("get",),
    "/v1/billing/meter_events": ("post",),
    "/v1/billing/meter_event_adjustments": ("post",),
    "/v1/billing_portal/configurations": ("get", "post"),
    "/v1/billing_portal/configurations/{configuration}": ("get", "post"),
    "/v1/billing_portal/sessions": ("post",),
    "/v1/charges": ("get",),
    "/v1/charges/{charge}": ("get",),
    "/v1/checkout/sessions": ("get", "post"),
    "/v1/checkout/sessions/{session}": ("get", "post"),
    "/v1/checkout/sessions/{session}/expire": ("post",),
    "/v1/checkout/sessions/{session}/line_items": ("get",),
    "/v1/coupons": ("get", "post"),
    "/v1/coupons/{coupon}": ("get", "post", "delete"),
    "/v1/credit_notes": ("get", "post"),
    "/v1/credit_notes/preview": ("get",),
    "/v1/credit_notes/{credit_note}/lines": ("get",),
    "/v1/credit_notes/{id}": ("get", "post"),
    "/v1/credit_notes/{id}/void": ("post",),
    "/v1/customers": ("get", "post"),
    "/v1/customers/{customer}": ("get", "post", "delete"),
    "/v1/customers/{customer}/balance_transactions": ("get", "post"),
    "/v1/customers/{customer}/balance_transactions/{transaction}": ("get", "post"),
    "/v1/customers/{customer}/payment_methods": ("get",),
    "/v1/customers/{customer}/payment_methods/{payment_method}": ("get",),
    "/v1/customers/{customer}/tax_ids": ("get", "post"),
    "/v1/customers/{customer}/tax_ids/{id}": ("get", "delete"),
    "/v1/events": ("get",),
    "/v1/events/{id}": ("get",),
    "/v1/invoice_payments": ("get",),
    "/v1/invoice_payments/{invoice_payment}": ("get",),
    "/v1/invoiceitems": ("get", "post"),
    "/v1/invoiceitems/{invoiceitem}": ("get", "post", "delete"),
    "/v1/invoices": ("get", "post"),
    "/v1/invoices/create_preview": ("post",),
    "/v1/invoices/{invoice}": ("get", "post", "delete"),
    "/v1/invoices/{invoice}/finalize": ("post",),
    "/v1/invoices/{invoice}/lines": ("get",),
    "/v1/invoices/{invoice}/mark_uncollectible": ("post",),
    "/v1/invoices/{invoice}/pay": ("post",),
    "/v1/invoices/{invoice}/send": ("post",),
    "/v1/invoices/{invoice}/void": ("post",),
    "/v1/payment_intents": ("get", "post"),
    "/v1/payment_intents/{intent}": ("get", "post"),
    "/v1/payment_intents/{intent}/cancel": ("post",),
    "/v1/payment_intents/{intent}/confirm": ("post",),
    "/v1/payment_methods": ("get", "post"),
    "/v1/payment_methods/{payment_method}": ("get", "post"),
    "/v1/payment_methods/{payment_method}/attach": ("post",),
    "/v1/payment_methods/{payment_method}/detach": ("post",),
    "/v1/products": ("get", "post"),
    "/v1/products/{id}": ("get", "post", "delete"),
    "/v1/prices": ("get", "post"),
    "/v1/prices/{price}": ("get", "post"),
    "/v1/promotion_codes": ("get", "post"),
    "/v1/promotion_codes/{promotion_code}": ("get", "post"),
    "/v1/refunds": ("get", "post"),
    "/v1/refunds/{refund}": ("get", "post"),
    "/v1/setup_intents": ("get", "post"),
    "/v1/setup_intents/{intent}": ("get", "post"),
    "/v1/setup_intents/{intent}/cancel": ("post",),
    "/v1/setup_intents/{intent}/confirm": ("post",),
    "/v1/subscriptions": ("get", "post"),
    "/v1/subscriptions/{subscription_exposed_id}": ("get", "post", "delete"),
    "/v1/subscriptions/{subscription}/resume": ("post",),
    "/v1/subscription_items": ("get", "post"),
    "/v1/subscription_items/{item}": ("get", "post", "delete"),
    "/v1/tax_rates": ("get", "post"),
    "/v1/tax_rates/{tax_rate}": ("get", "post"),
    "/v1/test_helpers/test_clocks": ("get", "post"),
    "/v1/test_helpers/test_clocks/{test_clock}": ("get", "delete"),
    "/v1/test_helpers/test_clocks/{test_clock}/advance": ("post",),
    "/v1/webhook_endpoints": ("get", "post"),
    "/v1/webhook_endpoints/{webhook_endpoint}": ("get", "post", "delete"),
}
_PROSE = ("description", "title", "summary", "x-stripeBypassValidation", "x-expandableFields", "x-resourceId", "x-stripeMostCommon")
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


def cut(full: dict[str, Any]) -> dict[str, Any]:
    """The paths of OPERATIONS and every schema their answers reach."""
    paths = {path: {method: _operation(full["paths"][path][method]) for method in methods} for path, methods in OPERATIONS.items()}
    schemas: dict[str, Any] = {}
    waiting = _references(paths) | {"error"}
    while waiting:
        name = waiting.pop()
        schemas[name] = _bare(full["components"]["schemas"][name])
        waiting |= _references(schemas[name]) - schemas.keys()
    return {"openapi": full["openapi"], "info": {"version": full["info"]["version"]}, "paths": paths, "components": {"schemas": schemas}}


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation["operationId"],
        "parameters": _bare([p for p in operation.get("parameters", []) if p["in"] == "query"]),
        "body": _bare(operation["requestBody"]["content"][_FORM]["schema"]) if "requestBody" in operation else None,
        "answer": _bare(operation["responses"]["200"]["content"][_JSON]["schema"]),
    }


def _bare(value: Any) -> Any:
    """Without prose, and with references that could be expanded as plain ids."""
    if isinstance(value, list):
        return [_bare(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "x-expansionResources" in value:
        plain = {"type": "string"}
        return plain | {"nullable": True} if value.get("nullable") else plain
    kept = {}
    for key, part in value.items():
        if key == "properties":
            kept[key] = {name: _bare(schema) for name, schema in part.items()}
        elif key not in _PROSE:
            kept[key] = _bare(part)
    return kept


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(_references(part) for part in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(_references(part) for part in value.values()))
    if isinstance(reference := value.get("$ref"), str):
        found.add(reference.rpartition("/")[2])
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m billing.stripe.sandbox.spec.cut /path/to/spec3.json.gz\n")
        return 2
    with gzip.open(arguments[0]) as source:
        small = cut(json.load(source))
    text = json.dumps(small, separators=(",", ":"), sort_keys=True).encode()
    target = Path(__file__).with_name("openapi.json.gz")
    target.write_bytes(gzip.compress(text, mtime=0))  # no time stamp: the same description gives the same file
    sys.stdout.write(f"{target}: {len(small['paths'])} paths, {len(small['components']['schemas'])} schemas\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
