"""How a stored object looks from outside: without what is the sandbox's own, and with what was asked for by `expand`.

A stored body may carry fields whose names begin with `_`; they never leave the sandbox.
"""

from collections.abc import Callable, Mapping
from typing import Any

from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call

Shower = Callable[[Call, Body], Body]
_SHOWERS: dict[str, Shower] = {}
_PARTS: dict[tuple[str, str], Callable[[Call, Body], Any]] = {}
# A field that holds an id -> the kind it is the id of.
_REFERENCES = {
    "charge": "charge", "coupon": "coupon", "customer": "customer", "customer_balance_transaction": "customer_balance_transaction",
    "default_payment_method": "payment_method", "discounts": "discount", "invoice": "invoice", "latest_charge": "charge",
    "latest_invoice": "invoice", "payment_intent": "payment_intent", "payment_method": "payment_method", "price": "price",
    "pending_setup_intent": "setup_intent", "product": "product", "promotion_code": "promotion_code", "refund": "refund",
    "setup_intent": "setup_intent", "subscription": "subscription", "test_clock": "test_helpers.test_clock",
}  # fmt: skip
_MOST_DEPTH = 4


def shows(kind: str) -> Callable[[Shower], Shower]:
    """Register how an object of this kind is put together for an answer."""

    def register(shower: Shower) -> Shower:
        _SHOWERS[kind] = shower
        return shower

    return register


def part(kind: str, name: str) -> Callable[[Callable[[Call, Body], Any]], Callable[[Call, Body], Any]]:
    """Register a field that stands in an object of this kind only where `expand` asks for it."""

    def register(maker: Callable[[Call, Body], Any]) -> Callable[[Call, Body], Any]:
        _PARTS[kind, name] = maker
        return maker

    return register


def shown(call: Call, body: Body) -> Body:
    """The object as it is answered, its private fields still in it for `expand`."""
    shower = _SHOWERS.get(body.get("object", ""))
    return shower(call, body) if shower and not body.get("deleted") else dict(body)


def public(body: Any) -> Any:
    """Without private fields. Metadata is the caller's, whatever it is called."""
    if isinstance(body, list):
        return [public(each) for each in body]
    if not isinstance(body, Mapping):
        return body
    return {key: value if key == "metadata" else public(value) for key, value in body.items() if not key.startswith("_")}


def answer(call: Call, body: Body) -> Body:
    """What leaves: expanded as asked, then without private fields."""
    body = shown(call, body)
    for path in call.params.get("expand", ()):
        if path.count(".") >= _MOST_DEPTH + 1:
            raise Refusal(f"You cannot expand more than {_MOST_DEPTH} levels of a property: {path}.", param="expand")
        _expand(call, body, path, path)
    cleaned = public(body)
    assert isinstance(cleaned, dict)
    return cleaned


def _expand(call: Call, body: Any, path: str, whole: str) -> None:
    if isinstance(body, list):
        for each in body:
            _expand(call, each, path, whole)
        return
    if body is None or isinstance(body, str):
        return
    name, _, rest = path.partition(".")
    maker = _PARTS.get((body.get("object", ""), name))
    if maker is not None:
        body[name] = maker(call, body)
    elif name not in body:
        raise Refusal(f"This property cannot be expanded ({whole}).", param="expand")
    elif name in _REFERENCES:
        body[name] = _resolved(call, _REFERENCES[name], body[name])
    elif not rest:
        raise Refusal(f"This property cannot be expanded ({whole}).", param="expand")
    if rest:
        _expand(call, body[name], rest, whole)


def _resolved(call: Call, kind: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_resolved(call, kind, each) for each in value]
    found = call.store.get(kind, value) if isinstance(value, str) else None
    return shown(call, found) if found else value
