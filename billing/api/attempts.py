"""Wrong credentials, counted by address: who guesses is soon refused without a look into the database.

A credential that was right a while ago passes whatever others guess from the same address: a proxy's, a company's.
"""

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from aiohttp import web

from metering.model.clock import Clock
from metering.model.errors import WeighbridgeError

MOST_A_MINUTE = 30
_MINUTE_MS, _REMEMBERED_MS = 60_000, 600_000
_MOST_KEPT = 10_000
_LONGEST_ADDRESS = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
K = TypeVar("K", bound=Hashable)


class TooManyAttempts(WeighbridgeError):
    """Too many wrong credentials came from this address; wait a minute."""

    code, http_status, retryable = "too_many_attempts", 429, True


class _Recent(Generic[K]):
    """Numbers by name, of which the eldest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[K, tuple[int, int]] = OrderedDict()  # -> (since, number)

    def number(self, name: K, since_ms: int) -> int:
        at, number = self._kept.get(name, (0, 0))
        return number if at >= since_ms else 0

    def add(self, name: K, now_ms: int, within_ms: int) -> None:
        at, number = self._kept.pop(name, (now_ms, 0))
        self._kept[name] = (at, number + 1) if at > now_ms - within_ms else (now_ms, 1)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)


class Attempts:
    """`proxies`: whose X-Forwarded-For is believed, beside those on this machine: the gateway, or a proxy before it."""

    def __init__(self, clock: Clock, proxies: Sequence[Network] = (), most: int = MOST_A_MINUTE) -> None:
        self._clock, self._proxies, self._most = clock, proxies, most
        self._wrong: _Recent[str] = _Recent()
        self._right: _Recent[bytes] = _Recent()

    def check(self, address: str, credential: str) -> None:
        """Raises TooManyAttempts."""
        now_ms = self._clock.now_ms()
        many = self._wrong.number(address, now_ms - _MINUTE_MS + 1) >= self._most
        if many and not self._right.number(_named(credential), now_ms - _REMEMBERED_MS):
            raise TooManyAttempts(retry_after_seconds=_MINUTE_MS // 1000)

    def wrong(self, address: str) -> None:
        self._wrong.add(address, self._clock.now_ms(), _MINUTE_MS)

    def right(self, credential: str) -> None:
        self._right.add(_named(credential), self._clock.now_ms(), 0)

    def address(self, request: web.Request) -> str:
        """Of the one who asks: the last of X-Forwarded-For that no proxy of ours wrote for itself. An IPv6 network of 64 bits is one."""
        found = request.remote or ""
        through = [part.strip() for line in request.headers.getall("X-Forwarded-For", []) for part in line.split(",")]
        while through and self._is_proxy(found):
            found = through.pop()
        return _network(found)

    def _is_proxy(self, address: str) -> bool:
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return address == ""  # a Unix socket's peer
        return read.is_loopback or any(read in network for network in self._proxies)


def _network(address: str) -> str:
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return address[:_LONGEST_ADDRESS]
    if read.version == 6:
        return str(read.ipv4_mapped or ipaddress.ip_network((read, 64), strict=False))
    return str(read)


def _named(credential: str) -> bytes:
    return hashlib.sha256(credential.encode(errors="surrogateescape")).digest()
