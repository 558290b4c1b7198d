"""python -m tests.benchmarks.run: the gateway beside other proxies, in paired rounds; table on stdout, JSON in a file.

In each round every proxy is loaded once, one after the other, so that whatever the machine is doing meets all of them.
A row that this machine cannot run is named with its reason and skipped.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import load, report
from tests.benchmarks.bench import CannotRun, Stage, organizations, pinned, service
from tests.benchmarks.proxies import PROXIES, REFERENCE, Proxy

_WARM_UP_SECONDS = 1.0


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="load for each proxy in each round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orgs", default="1,100,10000", help="numbers of organizations that call (default: 1,100,10000)")
    parser.add_argument("--only", default="", help="names of proxies, by comma: " + ", ".join(proxy.name for proxy in PROXIES))  # type: ignore[attr-defined]
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), help="where the figures go (default: %(default)s)")
    options = parser.parse_args()
    if not (0 < options.seconds <= 60 and 0 < options.rounds <= 50):
        parser.error("the load is bounded: at most 60 seconds a run and 50 rounds")
    return options


def started(proxies: list[Proxy], stage: Stage, stack: ExitStack) -> dict[str, str]:
    """Start them all; name → why not, for those that cannot run here."""
    absent = {}
    for proxy in proxies:
        stack.callback(proxy.stop)
        try:
            proxy.start(stage)
            say(f"  {proxy.name:<16} ready  {proxy.url}")
        except CannotRun as exc:
            proxy.stop()
            absent[proxy.name] = str(exc)
            say(f"  {proxy.name:<16} not run: {exc}")
    return absent


def key_files(folder: Path, stage: Stage, numbers: list[int]) -> dict[int, Path]:
    files = {}
    for number in numbers:
        files[number] = folder / f"keys-{number}.txt"
        files[number].write_text("".join(f"{org.key}\n" for org in stage.orgs[:number]))
    return files


def loaded(proxy: Proxy, keys_file: Path, seconds: float) -> load.Seen:
    used = proxy.cpu_seconds()
    seen = load.run(proxy.url, keys_file, seconds)
    return replace(seen, cpu_us_a_call=(proxy.cpu_seconds() - used) * 1e6 / max(1, seen.requests))


def measure(proxies: list[Proxy], absent: dict[str, str], files: dict[int, Path], options: argparse.Namespace) -> list[report.Row]:
    rows: list[report.Row] = []
    for number, keys_file in files.items():
        block = {p.name: report.Row(p.name, p.title, number, absent=absent.get(p.name, "")) for p in proxies}
        running = [proxy for proxy in proxies if proxy.name not in absent]
        for proxy in running:
            block[proxy.name].warm_up = load.run(proxy.url, keys_file, _WARM_UP_SECONDS)
        for turn in range(options.rounds):
            for proxy in running:
                block[proxy.name].rounds.append(loaded(proxy, keys_file, options.seconds))
            told = "  ".join(f"{proxy.name} {block[proxy.name].rounds[-1].per_second:,.0f}/s" for proxy in running)
            say(f"  {number:>6} orgs, round {turn + 1}: {told}")
        rows += block.values()
    return rows


def main() -> int:
    options = arguments()
    numbers = sorted({int(number) for number in options.orgs.split(",")})
    chosen = set(filter(None, options.only.split(",")))
    proxies = [make() for make in PROXIES]
    proxies = [proxy for proxy in proxies if not chosen or proxy.name in chosen]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-bench-")))
        folder.chmod(0o755)
        try:
            load.load_generator()
            stage = Stage(folder, organizations(numbers[-1]), stack.enter_context(service(folder / "service")))
        except CannotRun as exc:
            say(f"nothing is measured: {exc}")
            return 1
        stack.callback(stage.stop)
        say(
            ""
            if pinned()
            else "  this machine has not the two cores to keep proxy and load apart; figures are not comparable with pinned ones"
        )
        absent = started(proxies, stage, stack)
        before = {proxy.name: proxy.counted() or 0 for proxy in proxies if proxy.counts and proxy.name not in absent}
        facts = report.machine()
        rows = measure(proxies, absent, key_files(folder, stage, numbers), options)
        after = {proxy.name: proxy.counted() or 0 for proxy in proxies if proxy.name in before}
    counts = {name: report.Count(after[name] - before[name], report.answered(rows, name), report.runs(rows, name)) for name in before}
    sys.stdout.write(report.table(rows, REFERENCE) + "\n\n" + "\n".join(count.sentence(name) for name, count in counts.items()) + "\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report.as_json(rows, REFERENCE, counts, facts, options.seconds), indent=1) + "\n")
    say(f"  figures: {options.json}")
    return 0 if all(count.holds for count in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
