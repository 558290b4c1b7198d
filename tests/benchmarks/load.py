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
    """One run of wrk. `failed`: answers above 399, timeouts, broken connections."""

    requests: int
    seconds: float
    failed: int
    p50_us: int
    p99_us: int
    cpu_us_a_call: float = 0.0  # of the proxy's processes; what others take of its core leaves it alone

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


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
    failed = sum(said[name] for name in ("connect", "read", "write", "timeout", "status"))
    return Seen(said["requests"], said["duration_us"] / 1e6, failed, said["p50_us"], said["p99_us"])
