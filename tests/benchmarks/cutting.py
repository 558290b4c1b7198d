"""What it costs that bytes are drawn before they pass: `python -m tests.benchmarks.cutting`.

One worker as it runs in production; the same route twice, its quota once at `finish` and once at `cut`, in turns. Says requests a second
of short answers whose length is known, megabytes a second of one chunked stream, and, of a crowd of streams that cross a limit at once,
how far each lets them go beyond it.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.integration.rules.rig import Payer, Rig, start_rig

ROUNDS, SECONDS, CONNECTIONS = 5, 2.0, 16
STREAM_BYTES, CROWD, LIMIT = 200_000_000, 200, 24_000_000
_CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
_SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 228\r\n\r\n" + b"x" * 228
_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
METERS = "".join(f"  {name}: {{unit: byte}}\n" for name in ("finish", "cut", "crowd_finish", "crowd_cut"))
QUOTAS = "".join(
    f"\n      - {{meter: {prefix}{way}, limit: {limit}, at_limit: {way}}}"
    for prefix, limit in (("", 10**15), ("crowd_", LIMIT))
    for way in ("finish", "cut")
)
ROUTES = "".join(
    f"\n  - {{path: /{name}/*, charge: {{{name}: response_bytes}}}}" for name in ("finish", "cut", "crowd_finish", "crowd_cut")
)


async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].split(b"/")
            if path[2] == b"short":
                writer.write(_SHORT)
                continue
            writer.write(_HEAD)
            for _ in range(int(path[3]) // 65_536):
                writer.write(_CHUNK)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
    writer.close()


def asked(payer: Payer, path: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\n\r\n" % (path.encode(), payer.key)


async def short_calls(rig: Rig, payer: Payer, way: str) -> float:
    """Requests a second."""
    request, done, ends = asked(payer, f"/{way}/short"), 0, time.monotonic() + SECONDS

    async def client() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection(rig.host, rig.port)
        while time.monotonic() < ends:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(228)
            done += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return done / SECONDS


async def read_all(rig: Rig, request: bytes) -> int:
    """Bytes on the wire until the last chunk, or the end."""
    reader, writer = await asyncio.open_connection(rig.host, rig.port, limit=2**22)
    writer.write(request)
    size, tail = 0, b""
    while data := await reader.read(2**20):
        size += len(data)
        tail = (tail + data)[-5:]
        if tail == b"0\r\n\r\n" or data.startswith(b"HTTP/1.1 429"):
            break
    writer.close()
    return size


async def one_stream(rig: Rig, payer: Payer, way: str) -> float:
    """Megabytes a second."""
    began = time.monotonic()
    await read_all(rig, asked(payer, f"/{way}/stream/{STREAM_BYTES}"))
    return STREAM_BYTES / 1e6 / (time.monotonic() - began)


async def crowd(rig: Rig, payer: Payer, way: str) -> int:
    """Bytes beyond the limit (below zero: left of it) after so many streams of a megabyte began at once."""
    await asyncio.gather(*(read_all(rig, asked(payer, f"/crowd_{way}/stream/1048576")) for _ in range(CROWD)))
    await asyncio.sleep(3)
    return payer.counter(f"crowd_{way}") - LIMIT


async def measure(rig: Rig) -> None:
    server = await asyncio.start_server(service, sock=rig.service.dup())
    payer = rig.payer()
    rows: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for way in ("finish", "cut"):
            rows.setdefault(("requests/s, 228 bytes, length known", way), []).append(await short_calls(rig, payer, way))
            rows.setdefault(("MB/s, one chunked stream", way), []).append(await one_stream(rig, payer, way))
    for (what, way), found in rows.items():
        sys.stdout.write(f"{what:40} {way:8} {statistics.median(found):12,.0f}\n")
    for way in ("finish", "cut"):
        sys.stdout.write(f"{f'bytes beyond {LIMIT:,}, {CROWD} streams':40} {way:8} {await crowd(rig, payer, way):12,}\n")
    server.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wb-cut-") as folder:
        rig = start_rig(Path(folder) / "rig", routes=ROUTES, meters=METERS, quotas=QUOTAS)
        try:
            uvloop.run(measure(rig))
        finally:
            rig.stop()


if __name__ == "__main__":
    main()
