"""The account that the sandbox stands for. Which one is a setting, so that moving between accounts can be tried."""

from billing.stripe.sandbox.own_settings import setting
from billing.stripe.sandbox.resources.base import Body, Call, handles


@handles("GetAccount")
def retrieve(call: Call) -> Body:
    call.only(())
    return {
        "id": setting(call.store, "account"),
        "object": "account",
        "business_profile": None,
        "business_type": None,
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "metadata": {},
        "payouts_enabled": False,
        "settings": None,
        "type": "standard",
    }
