"""The JSON Schemas for editors say what the models say."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

import config
from config.schema import FOLDER, schemas

SHIPPED = Path(config.__file__).parent


@pytest.mark.parametrize("name", ["gateway.json", "meters.json", "plans.json", "orgs.json"])
def test_a_shipped_schema_is_the_one_that_the_models_give(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == schemas()[name], "run `python -m config.schema`"


@pytest.mark.parametrize("name", ["gateway", "meters", "plans"])
def test_the_shipped_files_fit_their_schemas_and_name_them(name: str) -> None:
    text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(schemas()[f"{name}.json"])).validate(yaml.safe_load(text))
    assert f"$schema=schema/{name}.json" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gateway", 'upstreams: {a: {targets: ["http://a"]}}\nroutes: [{path: /a, chrage: none}]'),
        ("gateway", 'upstreams: {a: {targets: ["http://a"]}}\nroutes: [{path: /a, auth: maybe}]'),
        ("meters", "meters: {api: {kind: level}}"),
        ("plans", "plans: {pro: {price: {usd: 49.0}}}"),
        ("plans", "plans: {pro: {price: contact sales, quotas: [{meter: api, limit: 1, mode: throttle}]}}"),
        ("orgs", "orgs: {acme: {plan: pro}}"),
    ],
)
def test_a_schema_marks_a_fault_while_it_is_typed(name: str, text: str) -> None:
    assert list(Draft202012Validator(json.loads(schemas()[f"{name}.json"])).iter_errors(yaml.safe_load(text)))
