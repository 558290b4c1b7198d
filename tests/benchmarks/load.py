"""The load: wrk for closed loops; load.c where the rate, the number of calls or the size of answers matters; echo.c for WebSockets."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import OTHER_CORES, CannotRun, pinned

CONNECTIONS = 32
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Seen:
    """One run. `requests`: all that were answered; `refused`: with a status above 399; `broken`: connections and timeouts.

    `proxy_core` and `load_core` say what share of the time the two cores were at work, whoever they worked for; `proxy_share`
    what share of its core the proxy had.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int
    cpu_us_a_call: float = 0.0  # of the proxy's processes; what others take of its core leaves it alone
    bytes: int = 0
    proxy_core: float = 0.0
    load_core: float = 0.0
    proxy_share: float = 0.0

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

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / self.seconds / 1e6


def port_of(url: str) -> str:
    """Raises CannotRun for anything but loopback."""
    if not url.startswith("http://127.0.0.1:"):
        raise CannotRun(f"load goes to loopback only, not to {url}")
    return url.rpartition(":")[2]


def on_load_core() -> None:
    """In a child before it becomes the load."""
    if pinned():
        os.sched_setaffinity(0, OTHER_CORES)


def _said(argv: Sequence[str], seconds: float) -> dict[str, Any]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=on_load_core, timeout=seconds + 60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise CannotRun(f"{Path(argv[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")
    said: dict[str, Any] = json.loads(lines[-1])
    return said


def load_generator() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise CannotRun("there is no wrk, which makes the load: apt-get install wrk")
    return found


def run(url: str, keys_file: Path, seconds: float, *, differing: bool = False) -> Seen:
    """As fast as answers come, with the keys of the file, one after the other. `differing`: no head and no path comes twice.

    Raises CannotRun where wrk fails.
    """
    port_of(url)
    how = ["--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(1, round(seconds))}s", "--timeout", "5s", "--latency"]
    argv = [load_generator(), *how, "--script", str(_HERE / "wrk.lua"), url, "--", str(keys_file), *(["differing"] if differing else [])]
    said = _said(argv, seconds)
    broken = sum(said[name] for name in ("connect", "read", "write", "timeout"))
    return Seen(said["requests"], said["duration_us"] / 1e6, said["status"], broken, said["p50_us"], said["p99_us"], bytes=said["bytes"])


@dataclass(frozen=True)
class Generator:
    """load.c, built."""

    program: Path

    def _argv(self, url: str, keys_file: Path, connections: int, *how: object) -> list[str]:
        return [str(self.program), port_of(url), str(connections), str(keys_file), *map(str, how)]

    def run(
        self,
        url: str,
        keys_file: Path,
        *,
        path: str = "/bench",
        rate: float = 0.0,
        seconds: float = 0.0,
        requests: int = 0,
        skip: int = 0,
        connections: int = CONNECTIONS,
    ) -> Seen:
        """At `rate` calls a second, or as fast as answers come; for `seconds`, or `requests` of them. Raises CannotRun."""
        said = _said(self._argv(url, keys_file, connections, path, rate, seconds, requests, skip, 0, 0), seconds + requests / 200)
        took = said["duration_us"] / 1e6
        return Seen(said["requests"], took, said["refused"], said["broken"], said["p50_us"], said["p99_us"], bytes=said["bytes"])

    @contextmanager
    def held(self, url: str, keys_file: Path, connections: int) -> Iterator[int]:
        """So many connections, open and idle after one call each; yields how many of those calls passed. Raises CannotRun."""
        argv = self._argv(url, keys_file, connections, "/bench", 0, 0, 0, 0, 0, 1)
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=on_load_core
        ) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            assert load.stderr is not None
            line = load.stdout.readline()
            if not line:
                raise CannotRun(f"{connections:,} connections could not be held: {load.stderr.read().strip()}")
            said = json.loads(line)
            yield said["requests"] - said["refused"]
            load.stdin.close()


def echoes(program: Path, url: str, key: str, connections: int, seconds: float, size: int) -> Seen:
    """WebSocket messages there and back, one under way on each connection. Raises CannotRun where `url` does not upgrade."""
    said = _said([str(program), "load", port_of(url), str(connections), key, str(seconds), str(size)], seconds)
    return Seen(said["messages"], said["duration_us"] / 1e6, 0, 0, said["p50_us"], said["p99_us"])
