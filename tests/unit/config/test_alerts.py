"""The alert rules speak of metrics and labels that exist, each has its page in the runbook, and Prometheus reads them as meant."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from aggregator.metrics import AggregatorMetrics
from gateway.metrics import GatewayMetrics
from metering.model.clock import FrozenClock

ROOT = Path(__file__).parents[3]
RULES = ROOT / "config" / "prometheus" / "weighbridge.rules.yaml"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALERTS: list[dict[str, Any]] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SCRAPED = {"instance"}  # what Prometheus adds


def documented() -> dict[str, set[str]]:
    """Metric → labels, as docs/operations.md lists them; test_documented.py holds that list against the code."""
    rows = re.findall(r"^\| `(weighbridge_[a-z_]+)`(?: by ([a-z_, ]+))? \|", OPERATIONS, re.MULTILINE)
    return {name: set(re.findall(r"[a-z_]+", labels)) for name, labels in rows}


def test_the_list_of_metrics_has_the_labels_that_the_code_has() -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    AggregatorMetrics(FrozenClock(0), registry)
    listed = documented()
    for collector, names in registry._collector_to_names.items():
        for name in set(names) & set(listed):
            assert listed[name] == set(getattr(collector, "_labelnames", ())), name


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_asks_for_metrics_and_labels_that_exist_and_says_what_to_do(alert: dict[str, Any]) -> None:
    known, expression = documented(), alert["expr"]
    asked = set(re.findall(r"weighbridge_[a-z_]+", expression))
    assert asked
    assert asked <= set(known)
    labels = SCRAPED.union(*(known[name] for name in asked))
    used = {label.strip() for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(",")}
    used |= {label for found in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"([a-z_]+)=", found)}
    used |= set(re.findall(r"\$labels\.([a-z_]+)", alert["annotations"]["summary"]))
    assert used <= labels
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
    assert f"\n## {alert['alert']}\n*{alert['labels']['severity']}.*" in RUNBOOK


def test_the_runbook_has_no_page_without_an_alert() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == [alert["alert"] for alert in ALERTS]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_fires_them_when_it_should_and_is_quiet_on_a_quiet_day() -> None:
    tests = Path(__file__).with_name("alerts.test.yaml")
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
