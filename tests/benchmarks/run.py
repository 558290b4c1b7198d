"""python -m tests.benchmarks.run: the gateway beside other proxies, held against its goals; tables on stdout, in the docs, and as JSON.

A row that this machine cannot run is named with its reason and skipped. Only a run of everything is written into the docs.
"""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import experiments, figures, gate, load, memory, report
from tests.benchmarks.bench import CannotRun, Stage, echo_service, organizations, pinned, service
from tests.benchmarks.experiments import Bench, say
from tests.benchmarks.native import built
from tests.benchmarks.proxies import PROXIES, REFERENCE

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_EXPERIMENTS = ("calls", "differing", "half", "large", "two-workers", "echo", "idle", "many", "gate")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="load for each proxy in each round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orgs", default="1,100,10000", help="numbers of organizations that call (default: %(default)s)")
    parser.add_argument("--only", default="", help="names of proxies, by comma: " + ", ".join(proxy.name for proxy in PROXIES))  # type: ignore[attr-defined]
    parser.add_argument("--what", default=",".join(_EXPERIMENTS), help="experiments, by comma (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (default: %(default)s)")
    parser.add_argument("--many", type=int, default=1_000_000, help="organizations that call once (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), help="where the figures go (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page whose figures a run of everything replaces")
    parser.add_argument("--noisy", action="store_true", help="replace them even if other work ran beside")
    options = parser.parse_args()
    if not (0 < options.seconds <= 60 and 0 < options.rounds <= 50):
        parser.error("the load is bounded: at most 60 seconds a run and 50 rounds")
    options.numbers = sorted({int(number) for number in options.orgs.split(",")})
    options.chosen = set(filter(None, options.only.split(",")))
    options.wanted = set(options.what.split(","))
    options.whole = not options.chosen and options.wanted == set(_EXPERIMENTS) and options.numbers == [1, 100, 10_000]
    return options


def opened(options: argparse.Namespace, stack: ExitStack) -> Bench:
    """The stage and the load. Raises CannotRun with what is missing."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-bench-")))
    folder.chmod(0o755)
    load.load_generator()
    generator, echo = built("load", folder), built("echo", folder)
    service_url = stack.enter_context(service(folder / "service"))
    echo_url = stack.enter_context(echo_service(folder / "echo-service", echo))
    stage = Stage(folder, organizations(max(100, options.numbers[-1])), service_url, echo_url)
    stack.callback(stage.stop)
    return Bench(stage, folder, load.Generator(generator), echo, options.seconds, options.rounds)


def against_others(bench: Bench, options: argparse.Namespace, stack: ExitStack) -> dict[str, report.Count]:
    """All experiments with proxies side by side; then what the stores hold against what the load saw pass."""
    bench.started([make for make in PROXIES if not options.chosen or make.name in options.chosen], stack)  # type: ignore[attr-defined]
    counting = [proxy for proxy in bench.running(*bench.proxies) if proxy.counts]
    before = {proxy.name: proxy.counted() or 0 for proxy in counting}
    few = [number for number in options.numbers if number < 10_000]
    steps = [("calls", partial(experiments.calls, bench, number)) for number in options.numbers]
    steps += [("differing", partial(experiments.differing, bench))]
    steps += [("half", partial(experiments.half_load, bench, number)) for number in few]
    steps += [("large", partial(experiments.large, bench, stack)), ("two-workers", partial(experiments.two_workers, bench, stack))]
    for name, step in steps:
        if name in options.wanted:
            step()
    counts = {}
    for proxy in counting:
        counted = (proxy.counted() or 0) - before[proxy.name]
        counts[proxy.name] = report.Count(counted, report.answered(bench.blocks, proxy.name), report.runs(bench.blocks, proxy.name))
    if "echo" in options.wanted:
        experiments.echo(bench, stack)
    return counts


def gated(wanted: set[str]) -> list[gate.Verdict]:
    try:
        return gate.judged(gate.measure(list(gate.CASES))) if "gate" in wanted else []
    except CannotRun as exc:
        say(f"  instructions are not counted: {exc}")
        return []


@dataclass(frozen=True)
class Measured:
    """All that one run found."""

    options: argparse.Namespace
    facts: dict[str, Any]
    bench: Bench
    counts: dict[str, report.Count]
    memory: list[memory.Held]
    gate: list[gate.Verdict]

    @property
    def sound(self) -> bool:
        return all(count.holds for count in self.counts.values()) and not any(verdict.grew for verdict in self.gate)

    def tables(self) -> str:
        options, blocks = self.options, self.bench.blocks
        texts = [f"{report.described(self.facts, options.seconds, options.rounds)} {report.disturbed(blocks)}"]
        texts += [figures.table(self.bench.figures)]
        texts += [memory.table(self.memory)] if self.memory else []
        texts += [gate.table(self.gate)] if self.gate else []
        texts += [report.table(blocks, REFERENCE), "\n".join(f"- {count.sentence(name)}" for name, count in self.counts.items())]
        return "\n\n".join(filter(None, texts))

    def as_json(self) -> dict[str, Any]:
        found = report.as_json(self.bench.blocks, REFERENCE, self.counts, self.facts, self.options.seconds)
        found["figures"] = [{**asdict(figure), "verdict": figure.verdict} for figure in self.bench.figures]
        found["memory"], found["instructions"] = [asdict(held) for held in self.memory], [asdict(verdict) for verdict in self.gate]
        return found


def measured(options: argparse.Namespace) -> Measured:
    """Raises CannotRun where there is no load or no service to be had."""
    facts, wanted, held = report.machine(), options.wanted, list[memory.Held]()
    with ExitStack() as stack:
        bench = opened(options, stack)
        if not pinned():
            say("  this machine has not the two cores to keep proxy and load apart; figures are not comparable with pinned ones")
        with ExitStack() as beside:
            counts = against_others(bench, options, beside)
        if "idle" in wanted:
            held += memory.idle(bench, options.idle)
        if "many" in wanted:
            held += memory.many(bench, options.many)
    return Measured(options, facts, bench, counts, held, gated(wanted))


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped, and its folder goes
    try:
        found = measured(options)
    except CannotRun as exc:
        say(f"nothing is measured: {exc}")
        return 1
    tables = found.tables()
    sys.stdout.write(tables + "\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found.as_json(), indent=1) + "\n")
    say(f"  figures: {options.json}")
    if options.whole and not report.quiet(found.bench.blocks) and not options.noisy:
        say("  not written into the page: the machine was not quiet (--noisy writes all the same)")
    elif options.whole:
        options.page.write_text(report.put_into_page(options.page.read_text(), tables))
        say(f"  and in {options.page}")
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main())
