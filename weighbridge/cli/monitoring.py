"""`weighbridge monitoring`: dashboards for Grafana. The words are read; there is no dashboard to import yet, and the command says so."""

import argparse
from typing import Any

from .context import Context
from .report import NothingFedYet
from .verbs import nouns_verbs, verb


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "monitoring", "dashboards: nothing feeds them yet")
    dashboard = verb(
        verbs, "dashboard", "bring a dashboard into Grafana", refuse, org=False, example="weighbridge monitoring dashboard import billing"
    )
    dashboard.add_argument("what", choices=("import",))
    dashboard.add_argument("name", choices=("billing",))


def refuse(options: argparse.Namespace, context: Context) -> int:
    """Raises NothingFedYet."""
    raise NothingFedYet(
        f"nothing feeds the dashboard {options.name} yet; the figures of gateway, aggregator and control are at /metrics, for Prometheus"
    )
