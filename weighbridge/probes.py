"""Is it there yet? Small questions to processes of ours, answered within two seconds, never with an exception."""

import asyncio
from typing import Any

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=2)


async def json_of(url: str) -> dict[str, Any] | None:
    """The JSON object at `url`, whatever its status; None where there is none."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as response:
            answer: dict[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


async def text_of(url: str) -> str:
    """The text at `url`, or nothing."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as response:
            return await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return ""


async def answers_200(url: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def listens(port: int) -> bool:
    """Whether loopback `port` takes connections."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
