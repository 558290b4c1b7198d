"""What an operator can set or see is documented: a setting or a metric without a line in docs/operations.md fails here."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from aggregator.metrics import AggregatorMetrics
from config.settings import SETTINGS, default_of
from gateway.metrics import GatewayMetrics
from metering.model.clock import FrozenClock

OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def metric_names() -> list[str]:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    AggregatorMetrics(FrozenClock(0), registry)
    return sorted(family.name + ("_total" if family.type == "counter" else "") for family in registry.collect())


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| (.*?) \| .+ \|$", OPERATIONS, re.MULTILINE)
    assert row is not None
    default = default_of(name)
    shown = {True: "true", False: "false", None: ""}.get(default) if isinstance(default, bool | None) else None
    expected = ",".join(default) if isinstance(default, tuple) else str(default) if shown is None else shown
    assert row[1].strip() == expected


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_documented(name: str) -> None:
    assert f"`{name}`" in OPERATIONS


def test_no_setting_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", OPERATIONS, re.MULTILINE))
    assert documented == set(SETTINGS)
