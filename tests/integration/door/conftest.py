"""A whole system as a user starts it: `weighbridge up` in a process of its own, over a copy of the shipped files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[3]
_SECONDS = 90.0
_OURS = ("DATABASE_URL", "REDIS_URL", "UPSTREAM", "BILLING_", "STRIPE_", "WEIGHBRIDGE_", "PROMETHEUS_MULTIPROC_DIR")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until `condition()` holds; what it returned."""
    deadline = time.monotonic() + _SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return value


def get(url: str, key: str | None = None) -> tuple[int, Message, bytes]:
    """Status, headers and body, whatever the status."""
    request = urllib.request.Request(url, headers={"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class System:
    """One `up`. `ready` is its ready file."""

    def __init__(self, home: Path) -> None:
        self.home, self.data, self.config = home, home / "data", home / "config"
        if not self.config.exists():
            self.config.mkdir(parents=True)
            for file in (_ROOT / "config").glob("*.yaml"):
                shutil.copy(file, self.config)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        self.environ |= {"WEIGHBRIDGE_DATA_DIR": str(self.data), "WEIGHBRIDGE_CONFIG": str(self.config)}
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    def start(self, *options: str) -> "System":
        """Until the ready file is there."""
        file = self.home / "ready.json"
        self._out = (self.home / "out.txt").open("w")
        self._err = (self.home / "err.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "weighbridge", "up", "--port", "0", "--ready-file", str(file), *options],
            cwd=self.home, env=self.environ, stdout=self._out, stderr=self._err, text=True,
        )  # fmt: skip
        until(lambda: file.exists() or self.process.poll() is not None, "the ready file")
        assert self.process.poll() is None, self.errors()
        self.ready = json.loads(file.read_text())
        return self

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(_SECONDS)
        self._out.close()
        self._err.close()
        return code

    def output(self) -> list[str]:
        return (self.home / "out.txt").read_text().splitlines()

    def errors(self) -> str:
        return (self.home / "err.txt").read_text()

    def key(self, slug: str) -> str:
        return next(org["api_key"] for org in self.ready["orgs"] if org["slug"] == slug)

    get = staticmethod(get)
    until = staticmethod(until)

    def call(self, path: str, key: str | None) -> tuple[int, Message, bytes]:
        return get(self.ready["gateway"] + path, key)

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        page = get(self.ready["metrics"])[2].decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{")))

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "weighbridge", *arguments], cwd=self.home, env=self.environ, input=stdin,
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip

    def cli_json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.cli(*arguments, "--format", "json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def home(tmp_path: Path) -> System:
    """A folder with the shipped files, nothing running."""
    return System(tmp_path)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system that the tests of a module share."""
    running = System(tmp_path_factory.mktemp("up")).start()
    yield running
    assert running.interrupt() == 0, running.errors()
