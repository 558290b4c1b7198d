"""The load: wrk on loopback, one thread, 32 connections, for a few seconds; what it saw."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import OTHER_CORES, CannotRun, pinned

CONNECTIONS = 32
SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True)
class Seen:
    """One run of wrk. `requests`: all that were answered; `refused`: with a status above 399; `broken`: connections and timeouts."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int
    cpu_us_a_call: float = 0.0  # of the proxy's processes; what others take of its core leaves it alone

    @property
    def passed(self) -> int:
        return self.requests - self.refused

    @property
    def failed(self) -> int:
        return self.refused + self.broken

    @property
    def per_second(self) -> float:
        """Calls that passed: a refusal is cheap, and not what is asked for."""
        return self.passed / self.seconds


def load_generator() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise CannotRun("there is no wrk, which makes the load: apt-get install wrk")
    return found


def run(url: str, keys_file: Path, seconds: float) -> Seen:
    """Load `url` with the keys of the file, one after the other. Raises CannotRun where wrk fails."""
    if not url.startswith("http://127.0.0.1:"):
        raise CannotRun(f"load goes to loopback only, not to {url}")
    how = ["--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(1, round(seconds))}s", "--timeout", "5s", "--latency"]
    argv = [load_generator(), *how, "--script", str(SCRIPT), url, "--", str(keys_file)]

    def prepare() -> None:
        if pinned():
            os.sched_setaffinity(0, OTHER_CORES)

    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=prepare, timeout=seconds + 60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise CannotRun(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    said = json.loads(lines[-1])
    broken = sum(said[name] for name in ("connect", "read", "write", "timeout"))
    return Seen(said["requests"], said["duration_us"] / 1e6, said["status"], broken, said["p50_us"], said["p99_us"])
