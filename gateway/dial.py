"""Where a target is, and how a connection to it is opened: TCP by name or address, a Unix socket, TLS.

The only place that opens connections to services: for calls (gateway/target.py) and for health probes (gateway/probes.py).
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from config.gateway import Tls

P = TypeVar("P")  # an asyncio.Protocol, be it only by its methods

_LEAST_SECONDS = 0.25  # for one of several addresses


class Address:
    """One target's address. `authority` is for the Host field, `base_path` goes before the request's path."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, server_name: str | None = None) -> None:
        """`url`: http://host:port, https://host, with or without a path, or unix:/path/to/socket. `tls` is for https.

        Raises ValueError for what is no address.
        """
        self.url = url
        self.base_path = b""
        self.unix: str | None = None
        self.host, self.port = "localhost", 80
        self._tls: ssl.SSLContext | None = None
        self._server_name: str | None = None
        if url.startswith("unix:"):
            self.unix = unquote(url.removeprefix("unix:").removeprefix("//"))
            self.authority = b"localhost"
        else:
            self._read(url, tls, server_name)

    def _read(self, url: str, tls: ssl.SSLContext | None, server_name: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an upstream's address: {url!r}")
        self.host = parts.hostname
        if parts.scheme == "https":
            self._tls = tls or context(Tls())
            self._server_name = server_name or self.host
        self.port = parts.port or (443 if self._tls else 80)
        self.authority = parts.netloc.rpartition("@")[2].encode()
        self.base_path = parts.path.rstrip("/").encode()

    async def open(self, make: Callable[[], P], seconds: float) -> P:
        """A connection, its protocol made by `make`. Raises OSError, TimeoutError among them.

        A name's addresses are tried in the resolver's order, each for its share of the time, so that one that swallows packets
        does not keep the next from being asked.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            if self.unix is not None:
                return (await loop.create_unix_connection(make, self.unix))[1]  # type: ignore[type-var]
            hosts = await self._resolve(loop)
            share = max(_LEAST_SECONDS, seconds / len(hosts))
            for host in hosts[:-1]:
                try:
                    async with asyncio.timeout(share):
                        return await self._open_at(host, make, loop)
                except OSError:
                    continue
            return await self._open_at(hosts[-1], make, loop)

    async def _open_at(self, host: str, make: Callable[[], P], loop: asyncio.AbstractEventLoop) -> P:
        return (await loop.create_connection(make, host, self.port, ssl=self._tls, server_hostname=self._server_name))[1]  # type: ignore[type-var]

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        """Asked for every connection: they are kept, so few are opened, and a changed record is seen at once."""
        if _is_literal(self.host):
            return [self.host]
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label too long, or empty
            raise OSError(f"{self.host} is no name that could be looked up") from error
        return list(dict.fromkeys(str(where[0]) for *_, where in found)) or [self.host]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def context(tls: Tls) -> ssl.SSLContext:
    """TLS as a client, with the service's certificate verified unless `tls` says otherwise.

    Raises ValueError with a sentence for a file that is none.
    """
    try:
        made = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:
        raise ValueError(f"tls.ca: {tls.ca} cannot be used: {_reason(error)}") from error
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if tls.client_cert:
        try:
            made.load_cert_chain(tls.client_cert, tls.client_key, password=_no_password)
        except OSError as error:
            raise ValueError(f"tls.client_cert: {tls.client_cert} cannot be used: {_reason(error)}") from error
    made.set_alpn_protocols(["http/1.1"])
    return made


def _no_password() -> str:
    """Else OpenSSL would ask for one on the terminal."""
    raise ValueError("the client's key is locked with a password; name one that is not")


def _reason(error: OSError) -> str:
    return error.strerror or (error.reason if isinstance(error, ssl.SSLError) else "") or str(error)
