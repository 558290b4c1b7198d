"""The hot path alone, in memory: the real parts of a worker between made-up transports; what callgrind counts (gate.py).

python -m tests.benchmarks.hotpath FOLDER CASE ROUNDS. The parts are those that gateway/wiring.py builds. A client is a list of the
bytes written to it, the service answers every request at once, and so does the store: with the replies that a real one gave to the
same commands while the worker warmed up. Calls come in lockstep, so each round asks what a round before it asked.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
import uvloop

from gateway import compiled
from gateway.scripts import ADMIT

if TYPE_CHECKING:  # else imported when it is decided whether that brings compiled modules
    from gateway.downstream import DownstreamServer
    from gateway.wiring import Worker

CALLS_A_ROUND = 16
_WARM_UP_ROUNDS = 60
_BODY = b"Weighed and passed. " * 11 + b"Weighed."
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 228\r\n\r\n"
) + _BODY


def deliver(protocol: Any, data: bytes) -> None:
    """As a transport hands over what it read."""
    if isinstance(protocol, asyncio.BufferedProtocol):
        memoryview(protocol.get_buffer(len(data)))[: len(data)] = data
        protocol.buffer_updated(len(data))
    else:
        protocol.data_received(data)


class Transport(asyncio.Transport):
    """Never full, never lost; what is written goes to `heard`."""

    def __init__(self, heard: Callable[[bytes], object]) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8080)})
        self._heard = heard

    def write(self, data: Any) -> None:
        self._heard(data)

    def writelines(self, pieces: Any) -> None:
        self._heard(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False


class Store(asyncio.Protocol):
    """Between a connection to the store and its user: scripts that were asked for before are answered as the store did then.

    In the next turn, and without a socket. All else goes to the store; what it says of scripts is remembered.
    """

    def __init__(self, user: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        self._user, self._loop, self.new = user, loop, 0
        self._wire: Any = None
        self._known: dict[tuple[bytes, ...], bytes] = {}
        self._asked: tuple[bytes, ...] = ()
        self._unanswered, self._said, self._replies = 0, b"", hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = transport
        self._user.connection_made(Transport(self._written))

    def connection_lost(self, exc: Exception | None) -> None:
        self._user.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._said += data
        self._replies.feed(data)
        while self._replies.gets() is not False:
            self._unanswered -= 1
        if not self._unanswered:
            if self._asked:
                self._known[self._asked] = self._said
            self._said = b""
        deliver(self._user, data)

    async def answered(self) -> None:
        """Until the store has answered all that it was asked."""
        for _ in range(3_000):
            await asyncio.sleep(0.01)
            if not self._unanswered:
                return
        raise SystemExit("the store does not answer")

    def _written(self, data: bytes) -> None:
        asked, commands = _questions(data)
        if asked in self._known and not self._unanswered:
            self._loop.call_soon(deliver, self._user, self._known[asked])
            return
        self.new += 1
        self._asked = () if self._unanswered else asked
        self._unanswered += commands
        self._wire.write(data)


def _questions(data: bytes) -> tuple[tuple[bytes, ...], int]:
    """The words of some commands without what makes each one another: of our scripts, the caller's number of the call.

    And how many commands; no words if one of them is no script.
    """
    reader, words, count = hiredis.Reader(), list[bytes](), 0
    reader.feed(data)
    while (command := reader.gets()) is not False:
        count += 1
        if command[0] == b"EVALSHA":
            _forget_numbers(command, 3 + int(command[2]))
        words += command
    return (tuple(words) if words.count(b"EVALSHA") == count else ()), count


def _forget_numbers(command: list[bytes], at: int) -> None:
    """`at`: where the arguments begin; in an admit the number is the second of them."""
    del command[at + 1 if command[1] == ADMIT.sha else at + 2]


class Loop(uvloop.Loop):
    """Connections to the service lead to one that answers each request in the next turn; those to the store through `Store`."""

    store: Store

    async def create_connection(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        protocol = protocol_factory()
        transport = Transport(lambda _: self.call_soon(deliver, protocol, _ANSWER))
        protocol.connection_made(transport)
        return transport, protocol

    async def create_unix_connection(self, protocol_factory: Any, *where: Any, **how: Any) -> Any:
        self.store = Store(protocol_factory(), self)
        return await super().create_unix_connection(lambda: self.store, *where, **how)


class Clients:
    """As many connections as calls a round; each sends the next of its requests when all have their answers."""

    def __init__(self, server: "DownstreamServer", requests: list[list[bytes]]) -> None:
        self._requests, self._turn, self._open = requests, 0, 0
        self._whole: asyncio.Future[None]
        self._answers: list[bytes] = []
        self._connections = [server() for _ in range(CALLS_A_ROUND)]
        for connection in self._connections:
            connection.connection_made(Transport(self._heard))

    def _heard(self, data: bytes) -> None:
        self._answers.append(data)
        if data.endswith(_BODY[-8:]):
            self._open -= 1
            if not self._open:
                self._whole.set_result(None)

    async def round(self) -> None:
        requests = self._requests[self._turn % len(self._requests)]
        self._turn += 1
        self._answers.clear()
        self._open, self._whole = CALLS_A_ROUND, asyncio.get_running_loop().create_future()
        for connection, request in zip(self._connections, requests, strict=True):
            deliver(connection, request)
        try:
            async with asyncio.timeout(30):
                await self._whole
        except TimeoutError:
            raise SystemExit(f"a round was not answered in full; the last answer: {self._answers[-1:]}") from None
        if not self._answers[-1].startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"not the answer that was asked for: {self._answers[-1]!r}")


def requests_of(case: dict[str, Any]) -> list[list[bytes]]:
    """The rounds' requests, by which all keys come in turn; those of a case whose heads differ are never twice the same."""
    keys = case["keys"]
    rounds = 400 if case["differing"] else -(-len(keys) // CALLS_A_ROUND)

    def request(turn: int, n: int) -> bytes:
        differing = f"traceparent: 00-{turn:016x}{n:016x}-{n + 1:016x}-01\r\n" if case["differing"] else ""
        path = f"/bench/{turn}/{n}?a={turn}" if case["differing"] else "/bench"
        key = keys[(turn * CALLS_A_ROUND + n) % len(keys)]
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{differing}X-API-Key: {key}\r\n\r\n".encode()

    return [[request(turn, n) for n in range(CALLS_A_ROUND)] for turn in range(rounds)]


def part(worker: "Worker", kind: type) -> Any:
    """A worker's part by its kind, whatever it is called."""
    return next(value for value in vars(worker).values() if isinstance(value, kind))


async def driven(worker: "Worker", case: dict[str, Any], rounds: int, counting: Callable[[bool], None]) -> None:
    """Instead of serving: what the store says is learned, then the rounds are counted."""
    from gateway.downstream import DownstreamServer
    from gateway.metrics import GatewayMetrics
    from gateway.shipper import Shipper
    from metering.store.redis.link import Link

    part(worker, Link).start()
    await worker._first_contact()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    requests = requests_of(case)
    clients = Clients(part(worker, DownstreamServer), requests)
    for _ in range(_WARM_UP_ROUNDS if case["differing"] else max(_WARM_UP_ROUNDS, 2 * len(requests))):
        await clients.round()
    part(worker, Shipper).cut_now()  # what comes is what the counted rounds leave
    await loop.store.answered()
    gc.collect()
    loop.store.new = 0
    counting(True)
    for _ in range(rounds):
        await clients.round()
    if loop.store.new > rounds // 10:
        raise SystemExit(f"the store was asked {loop.store.new} new questions in {rounds} equal rounds: its replies cannot be learned")
    part(worker, GatewayMetrics).gather()  # what a call puts off for later counts too
    part(worker, Shipper).cut_now()
    counting(False)


async def main(folder: Path, case: dict[str, Any], rounds: int, counting: Callable[[bool], None]) -> None:
    """A worker as its process makes it, in all but `run`."""
    compiled.use("yes" if case["compiled"] else "no")
    from gateway import wiring

    class Driven(wiring.Worker):
        async def run(self) -> None:
            await driven(self, case, rounds, counting)

    wiring.Worker = Driven  # type: ignore[misc]
    start = wiring.Start(socket_fd=-1, control_fd=None, slot=0, workers=1, data_dir=folder / "data", config=folder / case["config"])
    await wiring.run_worker(start, case["environ"])


def switch(library: str) -> Callable[[bool], None]:
    """What turns callgrind's counting on and off (counting.c); nothing where there is no callgrind."""
    if not library:
        return lambda on: None
    loaded = ctypes.CDLL(library)
    return lambda on: loaded.counting(int(on))


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as gateway/__main__.py
    place, what = Path(sys.argv[1]), json.loads(sys.argv[2])
    what["keys"] = (place / what["keys"]).read_text().split()
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main(place, what, int(sys.argv[3]), switch(os.environ.get("COUNTING", ""))))
