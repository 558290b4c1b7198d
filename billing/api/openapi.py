"""The control API's description, OpenAPI 3.1: made from the operations and the very models that validate them."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from billing.model.token import Scope
from billing.operations.operation import About, Download, Operation
from billing.operations.problem import MEDIA_TYPE, Problem
from metering.model.errors import WeighbridgeError

_REF = "#/components/schemas/{model}"
_NAMES = re.compile(r"{(\w+)}")
_EVERYWHERE = (400, 401, 403, 404, 406, 429, 500, 503)  # what any operation may answer: refused words, credentials, scopes, names, faults
_OF_CHANGES = (408, 409, 412, 413, 415, 422)
_TOKEN, _KEY = "token", "api_key"
_TAG = {"type": "string", "pattern": '^"[A-Za-z0-9_-]{1,64}"$', "description": "the ETag of an answer: 304 where it still stands"}
_IDEMPOTENCY_KEY = {
    "type": "string", "pattern": "^[A-Za-z0-9_-]{1,255}$",
    "description": "the same again, with the same body, is the same change: made once, answered as the first time; kept for a day",
}  # fmt: skip

Schema = dict[str, Any]


def document(operations: Sequence[Operation[Any, Any]], *, prefix: str, version: str) -> dict[str, Any]:
    """The whole description. `prefix` is what every path begins with."""
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "serialization")]
    for one in operations:
        modes.append((one.ask, "validation"))
        if one.answer is not Download:
            modes.append((one.answer, "serialization"))
    found, definitions = models_json_schema(list(dict.fromkeys(modes)), ref_template=_REF)
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(prefix + one.path, {})[one.method.lower()] = _described(one, found, definitions["$defs"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Weighbridge", "version": version, "description": "Usage, quotas, subscriptions and invoices.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{_TOKEN: []}, {_KEY: []}],
        "tags": [{"name": noun} for noun in sorted({_noun(one) for one in operations})],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": definitions["$defs"], "securitySchemes": _schemes()},
    }  # fmt: skip


def _schemes() -> Schema:
    return {
        _TOKEN: {"type": "http", "scheme": "bearer", "description": "A token (weighbridge token create), or an organization's API key."},
        _KEY: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An organization's API key: it reads its own."},
    }


def _described(one: Operation[Any, Any], found: Any, definitions: Schema) -> Schema:
    asked = definitions[found[one.ask, "validation"]["$ref"].rpartition("/")[2]]
    title, _, rest = one.summary.partition("\n")
    described: Schema = {
        "operationId": one.name,
        "tags": [_noun(one)],
        "summary": title.strip(),
        "description": " ".join(rest.split()) + f"\n\nTakes the scope `{one.need.value}`{_whom(one)}.",
        "parameters": _parameters(one, asked),
        "responses": _responses(one, found),
    }
    if one.need is not Scope.READ:
        described["security"] = [{_TOKEN: []}]
    if one.upload:
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}
    elif one.method not in ("GET", "DELETE"):
        described["requestBody"] = _body(one, asked)
    return described


def _noun(one: Operation[Any, Any]) -> str:
    return one.name.partition(".")[0]


def _whom(one: Operation[Any, Any]) -> str:
    return {About.ALL: ", in a token for every organization", About.ANYBODY: ", of anybody"}.get(one.about, "")


def _parameters(one: Operation[Any, Any], asked: Schema) -> list[Schema]:
    in_path, properties = _NAMES.findall(one.path), asked.get("properties", {})
    found = [{"name": name, "in": "path", "required": True, "schema": properties[name]} for name in in_path]
    if one.method in ("GET", "DELETE") or one.upload:
        required = set(asked.get("required", ()))
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in properties.items()
            if name not in in_path
        ]
    if one.about is not About.ANYBODY:
        without = "the token's own" if one.about is About.ORG else "the token's own, or the whole installation"
        whose = {"type": "string", "minLength": 1, "maxLength": 100, "description": f"id or slug; without it {without}"}
        found.append({"name": "org", "in": "query", "required": False, "schema": whose})
    return found + _fields(one)


def _fields(one: Operation[Any, Any]) -> list[Schema]:
    """Header fields that are ours to explain."""
    if one.answer is Download or one.upload:
        return []
    name, schema = ("If-None-Match", _TAG) if one.reads else ("Idempotency-Key", _IDEMPOTENCY_KEY)
    return [{"name": name, "in": "header", "required": False, "schema": schema}]


def _body(one: Operation[Any, Any], asked: Schema) -> Schema:
    """What is in the path is not said again."""
    in_path = set(_NAMES.findall(one.path))
    properties = {name: schema for name, schema in asked.get("properties", {}).items() if name not in in_path}
    required = [name for name in asked.get("required", ()) if name not in in_path]
    schema = {**asked, "properties": properties, "required": required}
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _responses(one: Operation[Any, Any], found: Any) -> Schema:
    if one.answer is Download:
        content: Schema = {"*/*": {"schema": {"description": "the file"}}}  # of any type: JSON, CSV, PDF
    else:
        content = {"application/json": {"schema": found[one.answer, "serialization"]}}
    responses = {str(one.status): {"description": HTTPStatus(one.status).phrase, "content": content}}
    if one.reads and one.answer is not Download:
        responses["304"] = {"description": "As it was when it had the ETag of If-None-Match"}
    refused = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    for status in sorted({*_EVERYWHERE, *(() if one.reads else _OF_CHANGES), *_statuses(one.errors)}):
        codes = sorted({error.code for error in one.errors if status in _statuses((error,))})
        said = HTTPStatus(status).phrase + (f": {', '.join(codes)}" if codes else "")
        responses[str(status)] = {"description": said, "content": refused}
    return responses


def _statuses(errors: Sequence[type[WeighbridgeError]]) -> set[int]:
    """Of these errors, and of those that are made more precise from them."""
    return {status for error in errors for status in (error.http_status, *_statuses(error.__subclasses__()))}
