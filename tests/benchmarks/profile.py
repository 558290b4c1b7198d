"""python -m tests.benchmarks.profile: where a worker under load spends its time; py-spy looks at it from outside for ten seconds.

Prints the functions by their own time and by the time below them, and what the kernel took. `--flame` keeps a picture.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.bench import CannotRun, Stage, organizations, service, worker_of
from tests.benchmarks.proxies import Gateway

_SAMPLES_A_SECOND = 250
_CLEAN_SECONDS = 4


def py_spy() -> str:
    """Where the development dependency, or the machine, has it."""
    with contextlib.suppress(PackageNotFoundError):
        for file in distribution("py-spy").files or ():
            if file.name == "py-spy":
                return str(file.locate())
    found = shutil.which("py-spy")
    if found is None:
        raise CannotRun("there is no py-spy: pip install py-spy")
    return found


def cpu_ticks(pid: int) -> tuple[int, int]:
    """User and system time so far; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def stacks(raw: str) -> tuple[int, Counter[str], Counter[str]]:
    """Of py-spy's raw format: samples in all, by the function at work, by the functions under way."""
    total, own, below = 0, Counter[str](), Counter[str]()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        named = [_named(frame) for frame in frames.split(";")]
        total += int(count)
        own[named[-1]] += int(count)
        below.update(dict.fromkeys(named, int(count)))
    return total, own, below


def _named(frame: str) -> str:
    """`charge (gateway/charges.py:12)`, without the line and what the folder is called."""
    name, _, place = frame.partition(" (")
    return f"{name} ({'/'.join(place.rpartition(':')[0].split('/')[-2:])})" if place else name


def table(total: int, own: Counter[str], below: Counter[str], most: int) -> str:
    lines = ["| function | own % | with what it calls % |", "|---|--:|--:|"]
    for name, count in own.most_common(most):
        lines.append(f"| {name} | {100 * count / total:.1f} | {100 * below[name] / total:.1f} |")
    lines += ["", "| function | with what it calls % |", "|---|--:|"]
    lines += [f"| {name} | {100 * count / total:.1f} |" for name, count in below.most_common(most)]
    return "\n".join(lines)


def watched(worker: int, url: str, keys: Path, folder: Path, options: argparse.Namespace) -> None:
    """Load while py-spy looks; its samples go to `folder`/raw, or to a picture."""
    kind, out = ("flamegraph", options.flame) if options.flame else ("raw", folder / "raw")
    argv = [py_spy(), "record", "--pid", str(worker), "--duration", str(options.seconds), "--rate", str(_SAMPLES_A_SECOND)]
    argv += ["--format", kind, "--output", str(out), "--nonblocking", *(["--native"] if options.native else [])]
    with (folder / "py-spy.txt").open("wb") as said:
        spy = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            load.run(url, keys, options.seconds + 1)
            failed = spy.wait(60)
        finally:
            spy.kill()
    if failed:
        raise CannotRun(f"py-spy: {(folder / 'py-spy.txt').read_text().strip()[-500:]}")


def profiled(options: argparse.Namespace, stack: ExitStack) -> str:
    """The tables. Raises CannotRun."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-profile-")))
    folder.chmod(0o755)
    py_spy()
    stage = Stage(folder, organizations(options.orgs), stack.enter_context(service(folder / "service")))
    stack.callback(stage.stop)
    gateway = Gateway()
    stack.callback(gateway.stop)
    gateway.start(stage)
    keys = folder / "keys.txt"
    keys.write_text("".join(f"{org.key}\n" for org in stage.orgs))
    load.run(gateway.url, keys, 1)
    worker = worker_of(gateway.pid)
    before = cpu_ticks(worker)
    clean = load.run(gateway.url, keys, _CLEAN_SECONDS)
    spent = [(now - then) * 1e6 / os.sysconf("SC_CLK_TCK") / clean.requests for now, then in zip(cpu_ticks(worker), before, strict=True)]
    watched(worker, gateway.url, keys, folder, options)
    told = f"{clean.per_second:,.0f} requests/s; CPU µs a request: {spent[0]:.1f} user, {spent[1]:.1f} system\n"
    return told if options.flame else f"{told}\n{table(*stacks((folder / 'raw').read_text()), options.top)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--orgs", type=int, default=1)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--native", action="store_true", help="C functions too")
    parser.add_argument("--flame", type=Path, help="write a flame graph there instead of tables")
    options = parser.parse_args()
    with ExitStack() as stack:
        try:
            sys.stdout.write(profiled(options, stack))
        except CannotRun as exc:
            sys.stderr.write(f"nothing is profiled: {exc}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
