"""python -m tests.benchmarks.gate: instructions a request of the hot path, held against numbers in the tree (gate.json).

callgrind counts them over in-memory transports (hotpath.py): a count that no noise of the machine touches; what the kernel does is
not in it. Fails where one grew by more than 3 %. `--accept` writes the new numbers down. Another Python or another parser counts
otherwise, so the numbers stand beside the versions they are of, and are only held against those.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from config.files import read_set
from tests.benchmarks.bench import CannotRun, Org, organizations
from tests.benchmarks.configured import open_buckets, publish, write_configuration
from tests.benchmarks.hotpath import CALLS_A_ROUND
from tests.benchmarks.native import built
from weighbridge.compiling import place
from weighbridge.embedded import start_valkey

ACCEPTED = Path(__file__).parent / "gate.json"
ALLOWED = 1.03
_ROUNDS = 120
_MANY = 512
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Case:
    """One way to call: how many organizations, whether each head and path is another, whether anything is metered."""

    title: str
    orgs: int = 1
    differing: bool = False
    metered: bool = True
    compiled: bool = False


_PLAIN = {
    "metered": Case("metered, one organization"),
    "organizations": Case(f"metered, {CALLS_A_ROUND} organizations", orgs=CALLS_A_ROUND),
    "many": Case(f"metered, {_MANY:,} organizations in turn", orgs=_MANY),
    "differing": Case("metered, each head and path another", differing=True),
    "unmetered": Case("forwarded, nothing metered", metered=False),
}
CASES = {**_PLAIN, **{f"{name}-compiled": replace(case, title=f"{case.title}; compiled", compiled=True) for name, case in _PLAIN.items()}}


def built_with() -> dict[str, str]:
    """What else the counts depend on."""
    optimized = "with" if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "") else "without"
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, {optimized} optimization by profile"
    return {"python": python, **{name: version(name) for name in ("uvloop", "httptools", "hiredis", "orjson")}}


def prepare(folder: Path, name: str, orgs: Sequence[Org], redis_url: str) -> None:
    """The case's configuration, and the store as a worker wants to find it."""
    write_configuration(folder / name, orgs[0], metered=CASES[name].metered)
    (folder / f"{name}.json").write_text(read_set(folder / name).to_json())
    asyncio.run(open_buckets(redis_url))
    asyncio.run(publish(folder / name, orgs, redis_url))


def command(folder: Path, name: str, *, rounds: int, redis_url: str) -> list[str]:
    """How to run one case."""
    environ = {"REDIS_URL": redis_url, "UPSTREAM": _NOWHERE, "WEIGHBRIDGE_STORE_DEADLINE_MS": "60000"}
    keys = [org.key for org in organizations(CASES[name].orgs)]
    (folder / f"{name}.keys").write_text("\n".join(keys))
    case = CASES[name]
    told = {
        "keys": f"{name}.keys", "differing": case.differing, "compiled": case.compiled, "config": f"{name}.json", "environ": environ,
    }  # fmt: skip
    return [sys.executable, "-m", "tests.benchmarks.hotpath", str(folder), json.dumps(told), str(rounds)]


def count(folder: Path, argv: Sequence[str], library: Path) -> Path:
    """Run a case under callgrind; returns its file. Raises CannotRun with what the run said."""
    out = folder / "callgrind.out"
    settled = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "COUNTING": str(library)}
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    done = subprocess.run([*valgrind, *argv], capture_output=True, text=True, check=False, env=settled, timeout=600)
    if done.returncode:
        raise CannotRun(f"the run under valgrind failed: {done.stderr.strip()[-800:]}")
    return out


def instructions(callgrind_file: Path) -> int:
    """All that were counted: the line `totals:` (or `summary:`) of callgrind's format."""
    lines = callgrind_file.read_text().splitlines()
    return max(int(line.split()[1]) for line in lines if line.startswith(("totals:", "summary:")))


def runnable(names: list[str]) -> list[str]:
    """Those of these cases that can run here: the compiled ones need what they are about."""
    missing = [] if place().is_dir() else [name for name in names if CASES[name].compiled]
    if missing:
        sys.stderr.write("the compiled hot path is not counted: `make native` compiles it\n")
    return [name for name in names if name not in missing]


def measure(names: list[str], rounds: int = _ROUNDS, keep: Path | None = None) -> dict[str, int]:
    """Instructions a request, by case. `keep`: a folder for callgrind's files. Raises CannotRun."""
    if shutil.which("valgrind") is None:
        raise CannotRun("there is no valgrind: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="wb-gate-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        library = built("counting.so", folder)
        store = start_valkey(folder / "valkey")
        orgs, found = organizations(max(CALLS_A_ROUND, *(CASES[name].orgs for name in names))), {}
        try:
            for name in runnable(names):
                prepare(folder, name, orgs, store.url)
                out = count(folder, command(folder, name, rounds=rounds, redis_url=store.url), library)
                found[name] = instructions(out) // (rounds * CALLS_A_ROUND)
                if keep is not None:
                    shutil.copy(out, keep / f"callgrind.{name}")
        finally:
            store.stop()
    return found


@dataclass(frozen=True)
class Verdict:
    """One case against what was accepted; `accepted` None where there is no number to hold it against."""

    name: str
    counted: int
    accepted: int | None

    @property
    def grew(self) -> bool:
        return self.accepted is not None and self.counted > self.accepted * ALLOWED

    @property
    def sentence(self) -> str:
        if self.accepted is None:
            return "nothing to compare with"
        change = 100 * (self.counted / self.accepted - 1)
        return f"{change:+.1f} %{': TOO MUCH' if self.grew else ''}"


def numbers_of(accepted_file: Path) -> dict[str, int]:
    """What was accepted for these versions; nothing where the file is of others."""
    accepted = json.loads(accepted_file.read_text()) if accepted_file.exists() else {}
    return dict(accepted["instructions"]) if accepted.get("built_with") == built_with() else {}


def accept(counted: dict[str, int], accepted_file: Path = ACCEPTED) -> None:
    """From now on these are the numbers to hold; cases that were not counted keep theirs."""
    numbers = {"built_with": built_with(), "instructions": numbers_of(accepted_file) | counted}
    accepted_file.write_text(json.dumps(numbers, indent=1) + "\n")


def judged(counted: dict[str, int], accepted_file: Path = ACCEPTED) -> list[Verdict]:
    """Against the numbers of the same versions."""
    numbers = numbers_of(accepted_file)
    return [Verdict(name, count, numbers.get(name)) for name, count in counted.items()]


def table(verdicts: list[Verdict]) -> str:
    lines = ["| hot path | instructions a request | accepted | change |", "|---|--:|--:|--:|"]
    for verdict in verdicts:
        accepted = f"{verdict.accepted:,}" if verdict.accepted is not None else "–"
        lines.append(f"| {CASES[verdict.name].title} | {verdict.counted:,} | {accepted} | {verdict.sentence} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gate", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="from now on these numbers are the ones to hold")
    parser.add_argument("--only", default=",".join(CASES), help="cases, by comma: %(default)s")
    parser.add_argument("--keep", type=Path, help="a folder for callgrind's files; read them with callgrind_annotate")
    options = parser.parse_args()
    try:
        counted = measure(options.only.split(","), keep=options.keep)
    except CannotRun as exc:
        sys.stderr.write(f"instructions are not counted: {exc}\n")
        return 1
    verdicts = judged(counted)
    sys.stdout.write(table(verdicts) + "\n")
    if options.accept:
        accept(counted)
        return 0
    if any(verdict.accepted is None for verdict in verdicts):
        sys.stderr.write("gate.json has no numbers for these versions of Python and its libraries; --accept makes these the ones to hold\n")
    if any(verdict.grew for verdict in verdicts):
        sys.stderr.write(f"the hot path takes more than {ALLOWED - 1:.0%} more instructions; if that is worth it: --accept\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
