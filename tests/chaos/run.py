"""The chaos run: `make chaos`, or `python -m tests.chaos.run [--only store,gateway/WorkerKilled] [--rounds N] [--seed N] [--write]`.

One house for all faults of a round, in an order that the seed gives. Ends with 1 if anything does not hold. A run of all faults puts
its table into docs/reliability.md.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from . import report
from .fault import Fault
from .faults import families
from .round import Outcome, injected
from .world import World, world


def chosen(only: str) -> list[tuple[str, Fault]]:
    """(family, fault) of those named: families, or families/ClassName, between commas; all where nothing is named."""
    words = [word for word in only.split(",") if word]
    found = [(family, fault) for family, faults in families().items() for fault in faults]
    return [(f, fault) for f, fault in found if not words or f in words or f"{f}/{type(fault).__name__}" in words]


async def run(faults: list[tuple[str, Fault]], rounds: int, seed: int) -> dict[str, Outcome]:
    """The outcomes by the faults' names."""
    found = {fault.name: Outcome() for _, fault in faults}
    order = [fault for _ in range(rounds) for _, fault in Random(seed).sample(faults, len(faults))]
    with tempfile.TemporaryDirectory(prefix="wb-chaos-") as folder:
        async with world(Path(folder), seed) as running:
            for number, fault in enumerate(order, 1):
                began = time.monotonic()
                once = await _once(running, fault)
                found[fault.name].add(once)
                _say(f"{number}/{len(order)}  {fault.name}: {once}  [{time.monotonic() - began:.0f} s]")
                _say(*(f"     DOES NOT HOLD  {what}" for what in once.broken))
    return found


async def _once(running: World, fault: Fault) -> Outcome:
    try:
        return await injected(running, fault)
    except AssertionError as exc:
        return Outcome(times=1, broken=[str(exc)])


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="A whole house, broken in many ways under load.")
    parser.add_argument("--only", default="", help="families, or families/ClassName, between commas")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--write", action="store_true", help="put the rows into docs/reliability.md, as a run of all faults does")
    options = parser.parse_args()
    faults = chosen(options.only)
    _say(f"seed {options.seed}: {len(faults)} faults, each {options.rounds} times")
    found = asyncio.run(run(faults, options.rounds, options.seed))
    _say("", *report.table(faults, found))
    if options.write or not options.only:
        report.write(chosen(""), found, options.seed)
    broken = sum(len(outcome.broken) for outcome in found.values())
    _say("", f"{broken} things do not hold" if broken else "all holds")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
