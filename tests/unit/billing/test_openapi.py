"""The API's description is made of the operations: each has its words, its models, and the statuses that it may answer."""

import re
from typing import Any

import pytest

from billing.api.openapi import document
from billing.api.rest import PREFIX
from billing.operations.operation import Download, Operation
from billing.operations.registry import OPERATIONS

DOCUMENT = document(OPERATIONS, prefix=PREFIX, version="1.2.3")


def described(operation: Operation[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][PREFIX + operation.path][operation.method.lower()]
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_described_whole(operation: Operation[Any, Any]) -> None:
    found = described(operation)
    assert found["operationId"] == operation.name
    assert found["summary"]
    assert {p["name"] for p in found["parameters"] if p["in"] == "path"} == set(re.findall(r"{(\w+)}", operation.path))
    assert {"400", "401", "403", "404", "503", str(operation.status)} <= set(found["responses"])
    assert {str(error.http_status) for error in operation.errors} <= set(found["responses"])
    answer = found["responses"][str(operation.status)]["content"]
    assert ("*/*" in answer) == (operation.answer is Download)


def test_names_are_told_once_and_no_two_operations_share_a_route() -> None:
    assert len({o.name for o in OPERATIONS}) == len(OPERATIONS)
    assert len({(o.method, o.path) for o in OPERATIONS}) == len(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(each) for each in value.values()))
        return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()

    schemas = DOCUMENT["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in references(DOCUMENT)} <= set(schemas)
    assert schemas["Problem"]["required"] == ["type", "title", "status", "detail", "code"]


def test_what_is_in_the_path_is_not_asked_for_in_the_body() -> None:
    for operation in OPERATIONS:
        body = described(operation).get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert not set(re.findall(r"{(\w+)}", operation.path)) & set(body.get("properties", {}))
