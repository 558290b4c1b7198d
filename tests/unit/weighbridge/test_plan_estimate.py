"""`weighbridge plan estimate`: every example of docs/pricing.md as it stands there, its JSON, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from billing.model.native import native_at_stripe
from billing.model.pricing import Price
from config.load import load_good
from config.prices_file import MODEL_WORDS
from metering.model.meter import Meter
from tests.unit.config.samples import files, plan_with
from weighbridge.cli.main import run

PRICING = (Path(__file__).parents[3] / "docs" / "pricing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^#+ ([^\n]*)\n(?:(?!^#).)*?```yaml\n(.*?)```\n```json\n(.*?)```\n```text\n(.*?)```", PRICING, re.DOTALL | re.MULTILINE
)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def estimate(plan: str, usage: str | dict[str, Any], *options: str, **environ: str) -> int:
    Path("plan.yaml").write_text(plan)
    Path("usage.json").write_text(usage if isinstance(usage, str) else json.dumps(usage))
    return run(["plan", "estimate", "--file", "plan.yaml", "--usage", "usage.json", *options], environ)


def test_every_example_is_found() -> None:
    assert len(EXAMPLES) == PRICING.count("```text")
    assert len(EXAMPLES) >= 15


@pytest.mark.parametrize(("title", "plan", "usage", "shown"), EXAMPLES, ids=[title for title, *_ in EXAMPLES])
def test_an_example_of_the_documentation_comes_to_what_it_says(
    title: str, plan: str, usage: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimate(plan, usage) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("model", sorted(MODEL_WORDS))
def test_every_model_is_documented_with_an_example(model: str) -> None:
    assert any(f"model: {model}" in plan or model == "each" for _, plan, _, _ in EXAMPLES)


PLAIN = {
    "each": "each: '1'", "graduated": "tiers: [{each: '1'}]", "volume": "tiers: [{each: '1'}]", "package": "size: 5, each: '1'",
    "percentage": "percentage: 1", "graduated_percentage": "tiers: [{percentage: 1}]", "dynamic": "multiplier: 2", "flat": "flat: '1'",
}  # fmt: skip


@pytest.mark.parametrize("model", sorted(MODEL_WORDS))
def test_the_table_says_of_every_model_whether_stripe_charges_it(model: str) -> None:
    row = re.search(rf"^\| `{model}` \| (\w+)", PRICING, re.MULTILINE)
    plans = load_good(files(plans=plan_with(f"prices: {{api: {{model: {model}, {PLAIN[model]}}}}}"))).plans.plans
    price: Price = plans["pro"].prices["api"]
    assert row is not None
    assert (row[1] == "native") is native_at_stripe(price, Meter(name="api", unit="request")).native


HYBRID = """
plans:
  pro:
    price: {usd: "49.00"}
    quotas: [{meter: api, limit: 200_000, mode: overage}, {meter: storage, limit: 50 GB, mode: overage}]
    prices: {api: {each: "0.0003"}, storage: {each: "0.10"}}
  other: {price: {eur: "5"}, prices: {pages: {each: {eur: "1"}}}}
"""


def test_json_has_exact_texts_and_the_tax_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    usage = {"api": 205_000, "storage": "52.5 GB"}
    assert estimate(HYBRID, usage, "--plan", "pro", "--format", "json", BILLING_TAX_RATE="0.085") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(x["meter"], x["kind"], x["quantity"], x["amount"]) for x in found["lines"]] == [
        (None, "base", "1", "49.00"), ("api", "overage", "5000", "1.50"), ("storage", "overage", "2.5", "0.25"),
    ]  # fmt: skip
    assert (found["currency"], found["subtotal"], found["tax"], found["total"]) == ("usd", "50.75", "4.31", "55.06")  # the guide


def test_an_option_stands_above_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate(HYBRID, {}, "--plan", "pro", "--tax-rate", "0.1", "--format", "json", BILLING_TAX_RATE="0.085") == 0
    assert json.loads(capsys.readouterr().out)["total"] == "53.90"


def test_a_plan_in_one_other_currency_is_priced_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate(HYBRID, {"pages": 3}, "--plan", "other", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["currency"], found["total"]) == ("eur", "8.00")


def test_the_meters_of_the_configuration_are_those_of_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config").mkdir()
    Path("config/meters.yaml").write_text("meters: {payments: {unit: cent, show: dollars}}")
    assert estimate('{price: {usd: "0"}, prices: {payments: {model: percentage, percentage: 2.9, fixed: "0.30"}}}',
                    {"payments": [1_000, "20 dollars"]}, "--format", "json") == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["total"] == "1.47"


def test_a_period_that_is_said_leaves_out_what_lies_outside(capsys: pytest.CaptureFixture[str]) -> None:
    usage = {"pages": [{"at": "2026-01-31T23:59:59Z", "value": 3}, {"at": "2026-02-01", "value": 5}]}
    assert estimate(HYBRID, usage, "--plan", "other", "--start", "2026-01-01", "--end", "2026-01-31", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["total"] == "8.00"


def test_unique_keys_and_repeated_ids(capsys: pytest.CaptureFixture[str]) -> None:
    plan = '{price: {usd: "0"}, prices: {seats: {each: "7"}, pages: {each: "1"}}}'
    again = {"id": "a", "value": 5}
    usage = {"seats": {"aggregate": "unique", "events": [{"key": "anna"}, {"key": "ben"}, {"key": "anna"}]}, "pages": [again, again, 2]}
    assert estimate(plan, usage, "--format", "json") == 0
    assert [x["amount"] for x in json.loads(capsys.readouterr().out)["lines"]] == ["7.00", "14.00"]


def test_a_plan_without_a_base_price_is_one_without_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate('{prices: {pages: {each: "2"}}}', {"pages": 3}, "--format", "json") == 0
    assert [x["amount"] for x in json.loads(capsys.readouterr().out)["lines"]] == ["6.00"]


def test_a_few_bytes_where_gigabytes_may_be_meant_are_worth_a_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate(HYBRID, {"storage": 60}, "--plan", "pro", "--format", "json") == 0
    printed = capsys.readouterr()
    assert 'write "60 GB"' in printed.err
    assert json.loads(printed.out)["total"] == "49.00"


FEE = '{price: {usd: "0"}, prices: {payments: {model: percentage, percentage: 1, fixed: "0.30"}, storage: {each: "1", per: hour}}}'


@pytest.mark.parametrize(
    ("plan", "usage", "options", "said"),
    [
        (HYBRID, {}, (), "say --plan with one of: other, pro"),
        (HYBRID, {}, ("--plan", "prop"), "did you mean `pro`?"),
        (HYBRID, {}, ("--plan", "pro", "--currency", "eur"), "no price in eur, only in usd"),
        (HYBRID, {}, ("--plan", "pro", "--tax-rate", "8.5"), "0.085 is 8.5 %"),
        (HYBRID, {}, ("--plan", "pro", "--start", "2026-01-01"), "say both"),
        (HYBRID, {}, ("--plan", "pro", "--start", "2026-01-02", "--end", "2026-01-01"), "ends after it starts"),
        (HYBRID, {"apii": 5}, ("--plan", "pro"), "did you mean `api`?"),
        (HYBRID, {"api": -5}, ("--plan", "pro"), "api: -5 is no quantity"),
        (HYBRID, {"api": True}, ("--plan", "pro"), "api: True is no quantity"),
        (HYBRID, {"api": "5 GB"}, ("--plan", "pro"), "`GB` is no unit for a meter of unit `request`"),
        (HYBRID, {"api": "unlimited"}, ("--plan", "pro"), "write a number"),
        (HYBRID, {"api": [{"vlaue": 5}]}, ("--plan", "pro"), "api event 1: there is no word `vlaue` in an event; did you mean `value`?"),
        (HYBRID, {"api": [{"at": "soon"}]}, ("--plan", "pro"), "api event 1: soon is no instant"),
        (HYBRID, {"api": [{"at": "2026-01-31"}, {"at": "2026-02-01"}]}, ("--plan", "pro"), "outside of 2026-01"),
        (HYBRID, {"api": [{"id": "a", "value": 1}, {"id": "a", "value": 2}]}, ("--plan", "pro"), "two events that differ"),
        (HYBRID, {"api": {"aggregate": "median", "events": []}}, ("--plan", "pro"), "known: sum, count"),
        (HYBRID, {"api": {"sum": 5}}, ("--plan", "pro"), "a list of events"),
        (HYBRID, {"storage": [5]}, ("--plan", "pro"), "how long a level was held is not said"),
        (HYBRID, '{"api": 1, "api": 2}', ("--plan", "pro"), "`api` stands there twice"),
        (HYBRID, '{"api": NaN}', ("--plan", "pro"), "NaN is no number"),
        (HYBRID, "{", ("--plan", "pro"), "no JSON: line 1"),
        (HYBRID, "[]", ("--plan", "pro"), "usage is written by meter"),
        (FEE, {"payments": 500}, (), "priced event by event; write them as a list"),
        (FEE, {"storage": 5}, (), "how long the period is"),
        ("plans: {pro: {price: {usd: 5}}}", {}, (), "plan.yaml:1: plans.pro.price.usd: money is written in quotes"),
        ('{price: {usd: "0"}, prices: {api: {model: graduated, tiers: [{to: 5, each: "1"}]}}}', {}, (), "prices.api.tiers[0].to: the last"),
        ("", {}, (), "the file is empty"),
    ],
)
def test_what_is_faulty_is_refused_with_a_sentence(
    plan: str, usage: Any, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimate(plan, usage, *options) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "estimate", "--file", "nothing.yaml", "--usage", "usage.json"], {}) == 1
    assert "nothing.yaml cannot be read" in capsys.readouterr().err
