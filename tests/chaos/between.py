"""What stands between the house and Postgres: a socket that passes everything on, and cuts connections at the one moment that matters.

On a thread of its own. `cut` is "before": a COMMIT is not passed on; or "after": it is, and its answer is not. Only the aggregator's
connections are cut, `times` of them.
"""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

_SOCKET = ".s.PGSQL.5432"
_COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
_WHOSE = b"application_name\x00weighbridge-aggregator\x00"
_SECONDS, _CHUNK = 10.0, 65_536


class Between:
    """Enter it; `url` is then Postgres's, by way of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._behind = Path(parse_qs(urlsplit(url).query)["host"][0]) / _SOCKET
        self._folder = folder
        self.url = url.replace(str(self._behind.parent), str(folder))
        self.cut: Literal["before", "after"] | None = None
        self.times = 0  # still to be cut
        self._up = threading.Event()

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        self._up.wait(_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(_SECONDS)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        await asyncio.start_unix_server(self._connected, self._folder / _SOCKET)
        self._up.set()
        await self._over.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            behind, onward = await asyncio.open_unix_connection(self._behind)
            passing = _Passing(self, writer, onward)
            both = [asyncio.ensure_future(passing.onward(reader)), asyncio.ensure_future(passing.back(behind))]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
            onward.transport.abort()
        writer.transport.abort()

    def take(self, moment: str) -> bool:
        if self.cut != moment or self.times <= 0:
            return False
        self.times -= 1
        return True


class _Passing:
    """One connection."""

    def __init__(self, between: Between, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._between, self._client, self._server = between, client, server
        self._aggregators = self._deaf = False

    async def onward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            self._aggregators = self._aggregators or _WHOSE in data
            if self._aggregators and _COMMIT in data:
                if self._between.take("before"):
                    return
                self._deaf = self._between.take("after")
            self._server.write(data)

    async def back(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            if self._deaf:
                return  # Postgres has committed, and nobody hears of it
            self._client.write(data)
