"""`weighbridge report`: revenue, usage over time, churn, cohorts. The words are read; nothing feeds the reports yet, and each says so."""

import argparse
from pathlib import Path
from typing import Any

from metering.model.errors import WeighbridgeError

from .context import Context
from .verbs import nouns_verbs, verb

_PERIODS = ("month", "last-month", "quarter", "year", "current")
_BESIDE = {
    "revenue": "weighbridge invoice list has what was invoiced and paid",
    "usage": "weighbridge usage has the current period, weighbridge export usage all that was counted",
    "ltv": "weighbridge customer show has what one customer paid",
    "cohorts": "weighbridge org list has when each organization began",
    "churn": "weighbridge org list has which subscriptions ended",
    "at-risk": "weighbridge quota --alerts has who comes near its quotas",
}


class NothingFedYet(WeighbridgeError):
    """No figures are gathered for this yet."""

    code, http_status = "nothing_fed_yet", 501


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "report", "revenue, usage, ltv, cohorts, churn, at-risk: nothing feeds them yet")
    for name, text, example in (
        ("revenue", "what came in, by plan and by kind", "weighbridge report revenue --period=year --format=csv --output=revenue_2026.csv"),
        ("usage", "usage over time, or by plan", "weighbridge report usage --segment=plan"),
        ("ltv", "what a customer brings, by plan", "weighbridge report ltv"),
        ("cohorts", "who stays, by the month in which they began", "weighbridge report cohorts --months=12"),
        ("churn", "who leaves, and why", "weighbridge report churn --period=quarter"),
        ("at-risk", "who may leave", "weighbridge report at-risk"),
    ):
        _options(name, verb(verbs, name, text, refuse, org=False, example=example, formats=("chart",)))


def _options(name: str, parser: argparse.ArgumentParser) -> None:
    if name in ("revenue", "usage", "churn"):
        parser.add_argument("--period", choices=_PERIODS, default="month")
    if name == "usage":
        parser.add_argument("--segment", choices=("plan",))
    if name == "cohorts":
        parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--output", type=Path, metavar="FILE")


def refuse(options: argparse.Namespace, context: Context) -> int:
    """Raises NothingFedYet."""
    raise NothingFedYet(f"nothing feeds `report {options.verb}` yet; {_BESIDE[options.verb]}")
