"""The logo on invoices: fetched once from where somebody said it is, looked at, and kept.

A URL leads only to the public internet, unless who gave it allows more (metering/outgoing.py); redirects are not followed, as they
would lead elsewhere than was looked at.
"""

import asyncio
import io
import warnings
from urllib.parse import urlsplit

import aiohttp
from PIL import Image

from billing.documents.invoice_pdf import LogoUnreadable
from metering.model.errors import BadInput
from metering.model.outward import Reach
from metering.outgoing import guarded

LARGEST_BYTES = 1024 * 1024
_FETCH_SECONDS = 10.0
_MOST_PIXELS = 4000 * 4000


class LogoOutOfReach(BadInput):
    """The logo cannot be fetched from there."""

    code = "logo_out_of_reach"


async def fetch(url: str, *, reach: Reach = Reach.PUBLIC) -> bytes:
    """A picture. Raises LogoOutOfReach, LogoUnreadable; Forbidden (address_forbidden) for an address that `reach` does not cover."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise LogoOutOfReach(f"{url} is no address of a picture; write https://example.com/logo.png")
    try:
        return check(await _body(url, reach))
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise LogoOutOfReach(f"{url} cannot be fetched: {exc or type(exc).__name__}") from exc


async def _body(url: str, reach: Reach) -> bytes:
    async with (
        asyncio.timeout(_FETCH_SECONDS),
        aiohttp.ClientSession(connector=guarded(url, reach)) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "image/png, image/jpeg"}) as response,
    ):
        if response.status != 200:
            raise LogoOutOfReach(f"{url} answers {response.status}; give the address of the picture itself")
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > LARGEST_BYTES:
                raise LogoOutOfReach(f"{url} sends more than {LARGEST_BYTES:,} bytes")
        return body


def check(picture: bytes) -> bytes:
    """Itself. Raises LogoUnreadable for what is no PNG or JPEG of a sensible size."""
    if len(picture) > LARGEST_BYTES:
        raise LogoUnreadable(f"the logo has more than {LARGEST_BYTES:,} bytes")
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as found,
        ):
            width, height = found.size
            if width * height > _MOST_PIXELS:
                raise LogoUnreadable(f"the logo is {width} × {height} pixels large; some hundreds will do")
            found.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise LogoUnreadable(f"the logo is no PNG or JPEG: {exc}") from exc
    return picture
