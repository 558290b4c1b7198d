"""Stripe beside a running system: the sandbox's events arrive, are worked through and shown; payment methods by command."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest

pytestmark = pytest.mark.long


def at_sandbox(system: Any, path: str, **params: str) -> dict[str, Any]:
    """A form-encoded POST, as the SDK makes it."""
    request = urllib.request.Request(
        system.ready["stripe"] + path, data=urllib.parse.urlencode(params).encode(), headers={"Authorization": "Bearer sk_test_sandbox"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        found: dict[str, Any] = json.load(response)
    return found


@pytest.fixture
def customer(system: Any) -> str:
    """The demo organization's, once the outbox was delivered and its event came back."""

    def seen() -> Any:
        return next(
            (e for e in system.cli_json("webhook", "list", "--limit", "200")["events"] if e["type"] == "customer.created" and e["object"]),
            None,
        )

    event = system.until(seen, "an event of the sandbox")
    system.until(lambda: system.cli_json("webhook", "show", event["event_id"])["status"] == "success", "the event to be worked through")
    return str(event["object"])


def test_the_endpoint_is_tested_and_the_event_shown(system: Any) -> None:
    done = system.cli("webhook", "test")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "Testing webhook endpoint...", "✓ Webhook signature verified", "✓ Event processed successfully",
            "Test event: customer.subscription.updated (test mode)",
        ],
    ), done.stderr  # fmt: skip
    tested = next(e for e in system.cli_json("webhook", "list", "--limit", "200")["events"] if e["event_id"].startswith("evt_test_"))
    shown = system.cli("webhook", "show", tested["event_id"]).stdout
    assert f"Event: {tested['event_id']}\nType: customer.subscription.updated\nStatus: " in shown
    again = system.cli("webhook", "retry", tested["event_id"]).stdout
    assert again.startswith(f"Retrying webhook {tested['event_id']}...\n✓ Webhook processed")


def test_a_forged_event_is_refused_by_the_running_control(system: Any) -> None:
    request = urllib.request.Request(system.ready["control"] + "/webhooks/stripe", data=b"{}", headers={"Stripe-Signature": "t=1,v1=00"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert (refused.value.code, refused.value.read().decode().partition(":")[0]) == (400, "Webhook Error")


def test_payment_methods_are_listed_chosen_and_removed(system: Any, customer: str) -> None:
    cards = [
        at_sandbox(system, f"/v1/payment_methods/{token}/attach", customer=customer)["id"]
        for token in ("pm_card_visa", "pm_card_mastercard")
    ]
    org = "demo-pro"
    assert system.cli("payment", "default", cards[0], "--org", org).stdout == "✓ Default payment method updated to Visa ending in 4242\n"
    listed = system.cli_json("payment", "list", "--org", org)["payment_methods"]
    assert [(m["id"], m["brand"], m["last4"], m["default"]) for m in listed] == [
        (cards[0], "Visa", "4242", True), (cards[1], "MC", "4444", False),
    ]  # fmt: skip
    assert system.cli("payment", "remove", cards[1], "--org", org).stdout == "✓ Payment method removed (MC ending in 4444)\n"
    refused = system.cli("payment", "remove", cards[1], "--org", org)
    assert (refused.returncode, "has no payment method" in refused.stderr) == (1, True)


def test_what_stripe_was_not_told_is_listed(system: Any, customer: str) -> None:
    assert customer
    rows = system.cli_json("outbox", "list", "--state", "delivered")["rows"]
    assert {"ensure_customer"} <= {row["kind"] for row in rows}
    assert "Payload:" in system.cli("outbox", "show", str(rows[0]["id"])).stdout
    refused = system.cli("outbox", "retry", str(rows[0]["id"]))
    assert (refused.returncode, "only one that is dead or unknown" in refused.stderr) == (1, True)


def test_pages_at_stripe_are_given_by_their_address(system: Any, customer: str) -> None:
    assert customer
    added = system.cli("payment", "add", "--org", "demo-free").stdout.splitlines()
    assert added[:2] == ["Opening Stripe Checkout...", "Complete payment method setup in your browser"]
    assert added[2].startswith("Checkout URL: http")
    portal = system.cli("customer", "portal", "--org", "demo-pro").stdout.splitlines()
    assert (portal[0], portal[1].startswith("http")) == ("Customer Portal URL (expires in 1 hour):", True)
