"""Stripe's own description of the operations that Weighbridge uses, cut from its OpenAPI file by cut.py.

openapi.json.gz is Stripe's work; its licence stands beside it in LICENSE.
"""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `accepts` is the schema of all its parameters, query and body as one object."""

    id: str
    method: str
    path: str
    accepts: Schema
    answer: Schema


@dataclass(frozen=True, slots=True)
class Spec:
    version: str
    operations: tuple[Operation, ...]
    schemas: Mapping[str, Any]

    def match(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation behind a request, and the values of its path's parameters."""
        for operation in self.operations:
            if operation.method == method and (found := _pattern(operation.path).fullmatch(path)):
                return operation, found.groupdict()
        return None

    def blank(self, name: str) -> dict[str, Any]:
        """Every property of a schema that may be null, as null."""
        return {field: None for field, schema in self.schemas[name]["properties"].items() if schema.get("nullable")}

    def by_id(self, operation_id: str) -> Operation:
        return next(o for o in self.operations if o.id == operation_id)


@cache
def load() -> Spec:
    document = json.loads(gzip.decompress((files(__package__) / "openapi.json.gz").read_bytes()))
    operations = tuple(
        Operation(operation["operationId"], method.upper(), path, _accepts(operation), operation["answer"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return Spec(document["info"]["version"], operations, document["components"]["schemas"])


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def _accepts(operation: Mapping[str, Any]) -> Schema:
    body = operation["body"] or {"properties": {}}
    properties = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]} | body["properties"]
    required = [parameter["name"] for parameter in operation["parameters"] if parameter.get("required")]
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required + body.get("required", [])}
