"""The hot path alone, in memory: the real parts of a worker between made-up transports; what callgrind counts (gate.py).

python -m tests.benchmarks.hotpath FOLDER CASE ROUNDS. The parts are those that gateway/wiring.py builds. A client is a list of the
bytes written to it, the service answers every request at once, and the store's replies are those that a real one gave while the
worker warmed up: calls come in lockstep, so each round asks what the round before it asked.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from gateway import wiring
from gateway.downstream import DownstreamServer
from gateway.metrics import GatewayMetrics
from gateway.shipper import Shipper
from gateway.wiring import Worker
from metering.store.redis.link import Link

CALLS_A_ROUND = 16
_WARM_UP_ROUNDS = 30
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


class Loop(uvloop.Loop):
    """Connections to the service lead to one that answers each request in the next turn; the store's are real."""

    async def create_connection(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        protocol = protocol_factory()
        transport = Transport(lambda _: self.call_soon(deliver, protocol, _ANSWER))
        protocol.connection_made(transport)
        return transport, protocol


class Replies:
    """Stands in for `Link.call`: keeps the store's replies while it is `learning`, gives them again afterwards."""

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._real, self._loop, self.learning = link.call, loop, True
        self._known: dict[tuple[bytes, ...], Any] = {}

    def __call__(self, packed: bytes, callback: Callable[[Any], None]) -> None:
        words = packed.split(b"\r\n", 9)
        question = tuple(words[4:9:4])  # of EVALSHA: the script, its first key
        if not self.learning:
            if question in self._known:
                self._loop.call_soon(callback, self._known[question])
            return

        def learned(reply: Any) -> None:
            self._known[question] = reply
            callback(reply)

        self._real(packed, learned)


class Clients:
    """As many connections as calls a round; each sends the next of its requests when all have their answers."""

    def __init__(self, server: DownstreamServer, requests: list[list[bytes]]) -> None:
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
    """The rounds' requests; those of a case whose heads differ are never twice the same."""
    rounds, keys = (400 if case["differing"] else 1), case["keys"]

    def request(turn: int, n: int) -> bytes:
        differing = f"traceparent: 00-{turn:016x}{n:016x}-{n + 1:016x}-01\r\n" if case["differing"] else ""
        path = f"/bench/{turn}/{n}?a={turn}" if case["differing"] else "/bench"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{differing}X-API-Key: {keys[n % len(keys)]}\r\n\r\n".encode()

    return [[request(turn, n) for n in range(CALLS_A_ROUND)] for turn in range(rounds)]


def part(worker: Worker, kind: type) -> Any:
    """A worker's part by its kind, whatever it is called."""
    return next(value for value in vars(worker).values() if isinstance(value, kind))


async def driven(worker: Worker, case: dict[str, Any], rounds: int, counting: Callable[[bool], None]) -> None:
    """Instead of serving: the store is learned, then the rounds are counted."""
    link = part(worker, Link)
    link.start()
    await worker._first_contact()
    replies = link.call = Replies(link, asyncio.get_running_loop())
    clients = Clients(part(worker, DownstreamServer), requests_of(case))
    for _ in range(_WARM_UP_ROUNDS):
        await clients.round()
    replies.learning = False
    for _ in range(_WARM_UP_ROUNDS):
        await clients.round()
    gc.collect()
    counting(True)
    for _ in range(rounds):
        await clients.round()
    part(worker, GatewayMetrics).gather()  # what a call puts off for later counts too
    part(worker, Shipper).cut_now()
    counting(False)


async def main(folder: Path, case: dict[str, Any], rounds: int, counting: Callable[[bool], None]) -> None:
    """A worker as its process makes it, in all but `run`."""

    class Driven(Worker):
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
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main(place, what, int(sys.argv[3]), switch(os.environ.get("COUNTING", ""))))
