"""JSON Schemas of the YAML files, for editors: made from the files' models, so that they say what `check` says."""

import json
from pathlib import Path
from typing import Any

from config.gateway_file import GatewayFile
from config.meters import MetersFile
from config.orgs import OrgsFile
from config.plans_file import PlansFile
from config.shape import Shape

FOLDER = Path(__file__).parent

_FILES: dict[str, type[Shape]] = {"gateway.json": GatewayFile, "meters.json": MetersFile, "plans.json": PlansFile, "orgs.json": OrgsFile}


def schemas() -> dict[str, str]:
    """File name → JSON text."""
    return {name: json.dumps(_schema(shape), indent=2, ensure_ascii=False) + "\n" for name, shape in _FILES.items()}


def _schema(shape: type[Shape]) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(shape.model_json_schema())}


def _plain(value: Any) -> Any:
    """Without pydantic's titles, defaults and nulls: a word that is left out is left out, not null."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "anyOf" in value and {"type": "null"} in value["anyOf"]:
        rest = [each for each in value["anyOf"] if each != {"type": "null"}]
        value = {key: each for key, each in value.items() if key != "anyOf"} | (rest[0] if len(rest) == 1 else {"anyOf": rest})
    return {
        key: {name: _plain(each) for name, each in inner.items()} if key in ("properties", "$defs") else _plain(inner)
        for key, inner in value.items()
        if key != "default" and not (key == "title" and isinstance(inner, str))
    }
