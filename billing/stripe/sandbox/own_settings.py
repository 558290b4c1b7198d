"""What can be set about the sandbox itself (POST /_sandbox/settings), and what holds if nobody did."""

from typing import Any

from billing.stripe.sandbox.store import Store

SETTINGS: dict[str, Any] = {
    "retry_days": [3, 5, 7],  # after each failed try of an automatic invoice, days until the next
    "after_retries": "cancel",  # what becomes of the subscription then: cancel, unpaid, or past_due (nothing)
    "account": "acct_sandbox",  # whose side this is (GET /v1/account)
    "upcoming_days": 7,  # how long before a period ends invoice.upcoming tells of its invoice
    "tax": {},  # percent by country, or country and state, where automatic_tax is asked for: {"DE": "19", "US-CA": "8.5"}
    "draft_seconds": 3600,  # how long a renewal's invoice stays a draft
}


def setting(store: Store, name: str) -> Any:
    return store.setting(name, SETTINGS[name])
