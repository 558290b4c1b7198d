"""Cutting Stripe's description: what stays, what goes; and the cut that ships."""

from typing import Any

from billing.stripe.sandbox.spec import load
from billing.stripe.sandbox.spec.cut import OPERATIONS, cut


def described() -> dict[str, Any]:
    """A description with every path of OPERATIONS, all alike."""
    expandable = {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/huge"}], "x-expansionResources": {"oneOf": []}}
    schemas = {
        "thing": {"description": "prose", "properties": {"description": {"type": "string"}, "of": expandable | {"nullable": True}}},
        "error": {"type": "object"},
        "huge": {"type": "object"},
        "unused": {"type": "object"},
    }
    operation = {
        "operationId": "Op",
        "description": "prose",
        "parameters": [{"in": "path", "name": "id", "schema": {}}, {"in": "query", "name": "limit", "schema": {"type": "integer"}}],
        "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"properties": {}, "type": "object"}}}},
        "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/thing"}}}}},
    }
    paths = {path: dict.fromkeys(methods, operation) for path, methods in OPERATIONS.items()}
    return {
        "openapi": "3.0.0",
        "info": {"version": "v"},
        "paths": paths | {"/v1/other": {"get": operation}},
        "components": {"schemas": schemas},
    }


def test_only_paths_in_use_and_schemas_within_reach_are_kept() -> None:
    small = cut(described())
    assert set(small["paths"]) == set(OPERATIONS)
    assert set(small["components"]["schemas"]) == {"thing", "error"}


def test_prose_goes_and_a_property_called_description_stays() -> None:
    assert cut(described())["components"]["schemas"]["thing"] == {
        "properties": {"description": {"type": "string"}, "of": {"type": "string", "nullable": True}}
    }


def test_the_shipped_description_has_every_operation_in_use() -> None:
    assert {(o.path, o.method.lower()) for o in load().operations} == {(path, m) for path, methods in OPERATIONS.items() for m in methods}


def test_a_path_is_matched_to_its_operation() -> None:
    found = load().match("POST", "/v1/billing/meters/mtr_1/deactivate")
    assert found is not None
    assert (found[0].id, found[1]) == ("PostBillingMetersIdDeactivate", {"id": "mtr_1"})
    assert load().match("POST", "/v1/billing/meters/mtr_1/explode") is None
