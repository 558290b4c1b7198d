"""The page on which the API can be tried, and its description: files of ours, nothing from elsewhere."""

from importlib.metadata import version
from importlib.resources import files

from aiohttp import web

from billing.api.doors import Endpoint, Handler
from billing.api.openapi import document
from billing.api.rest import PREFIX
from billing.operations.registry import OPERATIONS

ROOT = "/api/v1"
_TYPES = {"docs": "docs.html", "docs.css": "docs.css", "docs.js": "docs.js"}
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def endpoints() -> list[Endpoint]:
    """Open to everybody: what there is to ask is no secret."""
    described = document(OPERATIONS, prefix=PREFIX, version=version("weighbridge"))

    async def description(_request: web.Request) -> web.Response:
        return web.json_response(described, headers=_HEADERS)

    found = [Endpoint(method="GET", path=f"{ROOT}/openapi.json", handler=description, need=None)]
    return found + [Endpoint(method="GET", path=f"{ROOT}/{name}", handler=_file(file), need=None) for name, file in _TYPES.items()]


def _file(name: str) -> Handler:
    text = (files(__name__) / name).read_text("utf-8")

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=_KINDS[name.rpartition(".")[2]], charset="utf-8", headers=_HEADERS)

    return handle
