"""The load's own programs: what they say of a service that stalls, refuses, or echoes."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.bench import CannotRun, echo_service
from tests.benchmarks.load import Generator, echoes
from tests.benchmarks.native import built

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the load is compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("load")
    (path / "keys").write_text("one\ntwo\n")
    return path


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(built("load", folder))


@contextmanager
def served(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A service that takes one connection and answers each request with `answer(request)`."""

    def work(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            unread = b""
            while data := peer.recv(65536):
                unread += data
                while b"\r\n\r\n" in unread:
                    request, _, unread = unread.partition(b"\r\n\r\n")
                    peer.sendall(answer(request))

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=work, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_calls_that_were_due_while_the_service_stalled_count_from_when_they_were_due(generator: Generator, folder: Path) -> None:
    stalls = [1.0]

    def answer(request: bytes) -> bytes:
        time.sleep(stalls.pop() if stalls else 0)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    with served(answer) as url:
        seen = generator.run(url, folder / "keys", rate=200, seconds=1, connections=1)
    assert seen.requests == 200
    assert seen.p50_us > 100_000  # all but one were answered at once, once they were asked


def test_each_key_is_used_once_from_where_the_run_is_told_to_begin(generator: Generator, folder: Path) -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> bytes:
        asked.append(request.partition(b"X-API-Key: ")[2].partition(b"\r\n")[0])
        return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"

    with served(answer) as url:
        seen = generator.run(url, folder / "keys", requests=3, skip=1, connections=1)
    assert asked == [b"two", b"one", b"two"]
    assert (seen.requests, seen.refused, seen.passed, seen.bytes) == (3, 3, 0, 6)


def test_echoed_messages_are_counted(folder: Path) -> None:
    program = built("echo", folder)
    with echo_service(folder / "service", program) as url:
        seen = echoes(program, url, "key", connections=2, seconds=0.2, size=32)
    assert seen.requests > 0


def test_a_service_that_does_not_upgrade_is_named(folder: Path) -> None:
    with served(lambda request: b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n") as url, pytest.raises(CannotRun, match="501"):
        echoes(built("echo", folder), url, "key", connections=1, seconds=0.1, size=32)
