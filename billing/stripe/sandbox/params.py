"""Form parameters as Stripe reads them: `items[0][price]=…`, checked and typed by the operation's schema.

Pure. Everything arrives as text; the schema says what becomes a number, a truth value, a list.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from billing.stripe.sandbox.errors import Refusal, missing_parameter, unknown_parameter
from billing.stripe.sandbox.spec import Schema

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TRUTH = {"true": True, "false": False}


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Pairs as a tree of dicts; `a[]` counts up. Raises Refusal for a key that cannot be read."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        if match is None:
            raise Refusal(f"Invalid parameter name: {key}", param=key)
        path = [match[1], *_PART.findall(match[2])]
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part or str(len(branch)), {})
            if not isinstance(branch, dict):
                raise Refusal(f"Invalid {match[1]}: it is given as a value and as an object", param=match[1])
        branch[path[-1] or str(len(branch))] = value
    return tree


def read(pairs: Iterable[tuple[str, str]], schema: Schema) -> dict[str, Any]:
    """The typed parameters of one request. Raises Refusal as Stripe would."""
    typed = _object(nested(pairs), schema, "")
    assert isinstance(typed, dict)
    return typed


def _typed(value: Any, schema: Schema, param: str) -> Any:
    if "anyOf" in schema:
        return _any_of(value, schema["anyOf"], param)
    return _READERS[schema["type"]](value, schema, param)


def _any_of(value: Any, alternatives: list[Schema], param: str) -> Any:
    refusals = []
    for alternative in alternatives:
        try:
            return _typed(value, alternative, param)
        except Refusal as refusal:
            refusals.append(refusal)
    # The alternatives that are only a word ("", "now") say less about what was wrong.
    raise next((r for r, a in zip(refusals, alternatives, strict=True) if "enum" not in a), refusals[0])


def _object(value: Any, schema: Schema, param: str) -> Any:
    if not isinstance(value, dict):
        raise Refusal("Invalid object", param=param)
    properties: Mapping[str, Schema] = schema.get("properties", {})
    more = schema.get("additionalProperties", False)
    result = {}
    for name, part in value.items():
        inner = f"{param}[{name}]" if param else name
        if name in properties:
            result[name] = _typed(part, properties[name], inner)
        elif isinstance(more, Mapping):
            result[name] = _typed(part, more, inner)
        else:
            raise unknown_parameter(inner)
    for name in schema.get("required", ()):
        if name not in result:
            raise missing_parameter(f"{param}[{name}]" if param else name)
    return result


def _array(value: Any, schema: Schema, param: str) -> list[Any]:
    if not isinstance(value, dict) or not all(key.isascii() and key.isdecimal() for key in value):
        raise Refusal("Invalid array", param=param)
    return [_typed(value[key], schema["items"], f"{param}[{key}]") for key in sorted(value, key=int)]


def _string(value: Any, schema: Schema, param: str) -> str:
    if not isinstance(value, str):
        raise Refusal("Invalid string: an object was given", param=param)
    if "enum" in schema and value not in schema["enum"]:
        raise Refusal(f"Invalid {param}: must be one of {', '.join(schema['enum'])}", param=param)
    if len(value) > schema.get("maxLength", len(value)):
        raise Refusal(f"Invalid string: {value[:10]}...{value[-3:]}; must be at most {schema['maxLength']} characters", param=param)
    if schema.get("format") == "decimal" and not _DECIMAL.fullmatch(value):
        raise Refusal(f"Invalid decimal: {value}", param=param)
    return value


def _integer(value: Any, _schema: Schema, param: str) -> int:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise Refusal(f"Invalid integer: {value}", param=param, code="parameter_invalid_integer")
    return int(value)


def _number(value: Any, _schema: Schema, param: str) -> str:
    """Kept as text: a number here may be money."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise Refusal(f"Invalid decimal: {value}", param=param)
    return value


def _boolean(value: Any, _schema: Schema, param: str) -> bool:
    if not isinstance(value, str) or value not in _TRUTH:
        raise Refusal(f"Invalid boolean: {value}", param=param)
    return _TRUTH[value]


_READERS = {"object": _object, "array": _array, "string": _string, "integer": _integer, "number": _number, "boolean": _boolean}
