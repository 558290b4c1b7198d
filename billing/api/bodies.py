"""Bodies of requests: read within bounds, or piece by piece."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from metering.model.errors import BadInput, WeighbridgeError

MOST_BYTES = 4 * 2**20  # a thousand events with what was said to them; files are read as they come, and have no end
_PIECE = 64 * 1024
_READ_SECONDS = 30.0


class NotJson(BadInput):
    """The body is not a JSON object."""

    code = "not_json"


class BodyTooLarge(WeighbridgeError):
    """The body is larger than what this path takes."""

    code, http_status = "body_too_large", 413


class BodyTooSlow(WeighbridgeError):
    """The body did not come in time."""

    code, http_status, retryable = "body_too_slow", 408, True


class BodyBroken(BadInput):
    """The body ended before its end."""

    code = "body_broken"


async def read(request: web.Request, most: int = MOST_BYTES) -> bytes:
    """Raises BodyTooLarge, BodyTooSlow, BodyBroken."""
    if request.content_length is not None and request.content_length > most:
        raise BodyTooLarge(f"the body has more than {most:,} bytes", most_bytes=most)
    found = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for piece in request.content.iter_chunked(_PIECE):
                found += piece
                if len(found) > most:
                    raise BodyTooLarge(f"the body has more than {most:,} bytes", most_bytes=most)
    except TimeoutError:
        raise BodyTooSlow from None
    except (web.RequestPayloadError, HTTPException):
        raise BodyBroken from None
    return bytes(found)


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE):
        yield piece


def words(text: bytes) -> dict[str, Any]:
    """A JSON object, or nothing. Raises NotJson."""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None
    except ValueError as exc:
        raise NotJson(f"the body is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise NotJson("the body is not a JSON object")
    return found
