"""Products. The id may be chosen by the caller."""

from billing.stripe.sandbox.errors import Refusal, no_such
from billing.stripe.sandbox.resources.base import Body, Call, created_within, fetch, given_text, handles, metadata, page
from billing.stripe.sandbox.resources.events import change, emit, keep
from billing.stripe.sandbox.store import new_id

_TEXTS = ("description", "unit_label", "statement_descriptor", "url")
_TAKES = {*_TEXTS, "name", "active", "metadata"}


def _named(call: Call, old: str | None = None) -> str:
    name = call.params.get("name", old)
    if not name:
        raise Refusal("You passed an empty string for 'name'.", param="name", code="parameter_invalid_empty")
    return str(name)


@handles("PostProducts")
def create(call: Call) -> Body:
    call.only(_TAKES | {"id"})
    wanted = call.params.get("id")
    if wanted and call.store.get("product", wanted):
        raise Refusal(f"Product already exists with ID {wanted}.", param="id", code="resource_already_exists")
    product = {
        "id": wanted or new_id("prod"),
        "object": "product",
        "active": call.params.get("active", True),
        "created": call.now,
        "default_price": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": metadata(call.params.get("metadata")),
        "name": _named(call),
        "package_dimensions": None,
        "shippable": None,
        "tax_code": None,
        "type": "service",
        "updated": call.now,
        **{name: given_text(call, name) for name in _TEXTS},
    }
    return keep(call, product, "product.created")


def live_product(call: Call, product_id: str, *, param: str, status: int = 400) -> Body:
    product = fetch(call, "product", product_id, noun="product", param=param, status=status)
    if product.get("deleted"):
        raise no_such("product", product_id, param=param, status=status)
    return product


@handles("GetProductsId")
def retrieve(call: Call) -> Body:
    call.only(())
    return live_product(call, call.path["id"], param="id", status=404)


@handles("PostProductsId")
def update(call: Call) -> Body:
    call.only(_TAKES)
    product = live_product(call, call.path["id"], param="id", status=404)
    new = product | {name: given_text(call, name, product[name]) for name in _TEXTS}
    new |= {
        "name": _named(call, product["name"]),
        "active": call.params.get("active", product["active"]),
        "metadata": metadata(call.params.get("metadata"), product["metadata"]),
        "updated": call.now,
    }
    return change(call, product, new, "product.updated")


@handles("DeleteProductsId")
def delete(call: Call) -> Body:
    product = live_product(call, call.path["id"], param="id", status=404)
    if any(price["product"] == product["id"] for price in call.store.newest_first("price")):
        raise Refusal("This product cannot be deleted because it has one or more user-created prices.")
    gone = {"id": product["id"], "object": "product", "deleted": True}
    call.store.replace("product", gone)
    emit(call, "product.deleted", product)
    return gone


@handles("GetProducts")
def index(call: Call) -> Body:
    active, created, ids = call.params.get("active"), call.params.get("created"), call.params.get("ids")
    found = [p for p in call.store.newest_first("product") if not p.get("deleted") and created_within(p, created)]
    found = [p for p in found if active in (None, p["active"]) and (ids is None or p["id"] in ids)]
    return page(call, found, filters=("active", "created", "ids"))
