"""Connections to addresses that somebody configured: resolved once, looked at (metering/model/outward.py), and connected to as resolved.

Between the look and the connection no name is asked again, so that it cannot say something else the second time.
"""

from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from metering.model.outward import Reach, check, is_address


def guarded(url: str, reach: Reach, resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """For one session with `url`. Raises Forbidden at once where its host is an address out of reach; else the connection does."""
    host = urlsplit(url).hostname or ""
    if is_address(host):
        check(host, reach)
    return aiohttp.TCPConnector(resolver=_Guard(reach, resolver or ThreadedResolver()), use_dns_cache=False, limit=4)


class _Guard(AbstractResolver):
    """One address out of reach among those of a name refuses them all: who mixes them means no good."""

    def __init__(self, reach: Reach, behind: AbstractResolver) -> None:
        self._reach, self._behind = reach, behind

    async def resolve(self, host: str, port: int = 0, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        found = await self._behind.resolve(host, port, *args, **kwargs)
        for each in found:
            check(each["host"], self._reach)
        return found

    async def close(self) -> None:
        await self._behind.close()
