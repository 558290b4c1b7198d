"""Prices. Amounts never change once set; a metered price stands on a meter."""

from decimal import Decimal
from typing import Any

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call, created_within, currency, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, keep
from billing.stripe.sandbox.resources.products import live_product
from billing.stripe.sandbox.resources.shown import part
from billing.stripe.sandbox.store import new_id

_MOST_DECIMALS = 12
_AMOUNTS = ("unit_amount", "unit_amount_decimal")
_TAKES = {"active", "billing_scheme", "currency", "lookup_key", "metadata", "nickname", "product", "recurring", "tax_behavior"}
_TAKES |= {"tiers", "tiers_mode", "transfer_lookup_key", "transform_quantity", *_AMOUNTS}


@part("price", "tiers")
def _shown_tiers(_call: Call, price: Body) -> list[Body] | None:
    """The tiers stand in a price only where they are asked for."""
    tiers: list[Body] | None = price["_tiers"]
    return tiers


@handles("PostPrices")
def create(call: Call) -> Body:
    call.only(_TAKES)
    if "product" not in call.params:
        raise Refusal(
            "You must specify either `product` or `product_data` when creating a price.", param="product", code="parameter_missing"
        )
    live_product(call, call.params["product"], param="product")
    recurring = _recurring(call)
    price = {
        "id": new_id("price"),
        "object": "price",
        "active": call.params.get("active", True),
        "created": call.now,
        "currency": currency(call.params["currency"]),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": _lookup_key(call),
        "metadata": metadata(call.params.get("metadata")),
        "nickname": given_text(call, "nickname"),
        "product": call.params["product"],
        "recurring": recurring,
        "tax_behavior": call.params.get("tax_behavior", "unspecified"),
        "type": "recurring" if recurring else "one_time",
        **_charged(call),
    }
    return keep(call, price, "price.created")


def _recurring(call: Call) -> Body | None:
    given = call.params.get("recurring")
    if given is None:
        return None
    metered, meter = given.get("usage_type", "licensed") == "metered", given.get("meter")
    if metered and meter is None:
        raise Refusal("Metered prices must be backed by meters: pass recurring[meter].", param="recurring[meter]", code="parameter_missing")
    if meter is not None and not metered:
        raise Refusal("recurring[meter] is only for prices whose usage_type is metered.", param="recurring[meter]")
    if meter is not None and fetch(call, "meter", meter, noun="billing meter", param="recurring[meter]")["status"] != "active":
        raise Refusal(f"The meter {meter} is not active.", param="recurring[meter]")
    if not 1 <= given.get("interval_count", 1) <= 36:
        raise Refusal("Invalid recurring[interval_count]: at least 1, and three years at most", param="recurring[interval_count]")
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": None,
        "usage_type": "metered" if metered else "licensed",
    }


def _charged(call: Call) -> Body:
    """The part that says how much: one unit amount, or tiers."""
    scheme = call.params.get("billing_scheme", "per_unit")
    tiered = scheme == "tiered"
    if tiered != ("tiers" in call.params) or tiered != ("tiers_mode" in call.params):
        raise Refusal("billing_scheme=tiered goes with tiers and tiers_mode, and they with it.", param="billing_scheme")
    transform = call.params.get("transform_quantity")
    if tiered:
        if transform:
            raise Refusal("You cannot specify transform_quantity with tiers.", param="transform_quantity")
        amounts: Body = {"unit_amount": None, "unit_amount_decimal": None, "_tiers": _tiers(call.params["tiers"])}
    else:
        amounts = {**_amount(call.params, "unit_amount", param=""), "_tiers": None}
        if amounts["unit_amount_decimal"] is None:
            raise Refusal("One of unit_amount, unit_amount_decimal or tiers is needed.", param="unit_amount", code="parameter_missing")
    return {"billing_scheme": scheme, "tiers_mode": call.params.get("tiers_mode"), "transform_quantity": transform, **amounts}


def _amount(given: Any, name: str, *, param: str) -> Body:
    """`name` and `name_decimal` of one amount in minor units; both null where none was given."""
    exact_name = f"{name}_decimal"
    where = f"{param}[{exact_name}]" if param else exact_name
    if name in given and exact_name in given:
        raise Refusal(f"You may only specify one of these parameters: {name}, {exact_name}.", param=where)
    if name not in given and exact_name not in given:
        return {name: None, exact_name: None}
    exact = Decimal(given.get(exact_name, given.get(name)))
    if exact < 0:
        raise Refusal("Invalid amount: must not be negative", param=where, code="parameter_invalid_integer")
    if decimals(exact) > _MOST_DECIMALS:
        raise Refusal(f"Invalid decimal: {exact}; must have at most {_MOST_DECIMALS} decimal places", param=where)
    return {name: int(exact) if exact == exact.to_integral_value() else None, exact_name: format(_plain(exact), "f")}


def decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _plain(number: Decimal) -> Decimal:
    return number.normalize() if decimals(number) else number.to_integral_value()


def _tiers(given: list[Body]) -> list[Body]:
    bounds = [tier["up_to"] for tier in given]
    numbers = bounds[:-1]
    if not bounds or bounds[-1] != "inf" or "inf" in numbers or numbers != sorted(set(numbers)):
        raise Refusal("Tiers rise, and the last one's up_to is inf.", param="tiers")
    tiers = []
    for number, tier in enumerate(given):
        param = f"tiers[{number}]"
        amounts = {**_amount(tier, "unit_amount", param=param), **_amount(tier, "flat_amount", param=param)}
        if amounts["unit_amount_decimal"] is None and amounts["flat_amount_decimal"] is None:
            raise Refusal("A tier needs a unit amount, a flat amount, or both.", param=param)
        tiers.append({"up_to": None if tier["up_to"] == "inf" else tier["up_to"], **amounts})
    return tiers


def _lookup_key(call: Call, own: str | None = None) -> str | None:
    """The key asked for, taken from the price that has it if the caller says so."""
    wanted = given_text(call, "lookup_key")
    for other in call.store.newest_first("price") if wanted else ():
        if other["lookup_key"] == wanted and other["id"] != own:
            if not call.params.get("transfer_lookup_key"):
                raise Refusal(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            call.store.replace("price", other | {"lookup_key": None})
    return wanted


@handles("GetPricesPrice")
def retrieve(call: Call) -> Body:
    call.only(())
    return fetch(call, "price", call.path["price"], noun="price", param="id", status=404)


@handles("PostPricesPrice")
def update(call: Call) -> Body:
    call.only({"active", "lookup_key", "metadata", "nickname", "transfer_lookup_key"})
    price = fetch(call, "price", call.path["price"], noun="price", param="id", status=404)
    new = price | {
        "active": call.params.get("active", price["active"]),
        "metadata": metadata(call.params.get("metadata"), price["metadata"]),
        "nickname": given_text(call, "nickname", price["nickname"]),
    }
    if "lookup_key" in call.params:
        new["lookup_key"] = _lookup_key(call, price["id"])
    return change(call, price, new, "price.updated")


@handles("GetPrices")
def index(call: Call) -> Body:
    wanted = {name: call.params[name] for name in ("active", "product", "currency", "type") if name in call.params}
    keys, recurring = call.params.get("lookup_keys"), call.params.get("recurring", {})
    found = [
        price
        for price in call.store.newest_first("price")
        if all(price[name] == value for name, value in wanted.items())
        and (keys is None or price["lookup_key"] in keys)
        and all((price["recurring"] or {}).get(name) == value for name, value in recurring.items())
        and created_within(price, call.params.get("created"))
    ]
    return page(call, found, filters=(*wanted, "lookup_keys", "recurring", "created"))
