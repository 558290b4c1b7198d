"""The sample service behind a fresh gateway: echoes, streams, fails and dawdles on request, and counts for itself.

GET  /hello  and anything else   JSON of what arrived: method, path, query, who the gateway says it is, body bytes
any  /status/{code}              that status
any  /slow?seconds=2             the echo, later
any  /bytes/{n}                  n bytes, streamed
any  /events?n=5&seconds=1       n server-sent events, one each `seconds`
any  /pages/{n}                  the echo, with X-Pages: n (a cost the gateway can read)
GET  /health                     ok; not counted
GET  /_count                     calls and body bytes served so far, by status, organization and path; not counted
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

_CHUNK = b"weighbridge " * 4096
_PATHS_COUNTED = 1000


class Sample:
    """The service and its own count, against which the gateway's can be held."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._orgs: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()
        self._bytes = Counter[str]()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._counted], client_max_size=2**30)
        application.router.add_get("/health", self._health)
        application.router.add_get("/_count", self._count)
        application.router.add_route("*", "/status/{code:[1-5][0-9][0-9]}", self._status)
        application.router.add_route("*", "/slow", self._slow)
        application.router.add_route("*", "/bytes/{n:[0-9]+}", self._stream)
        application.router.add_route("*", "/events", self._events)
        application.router.add_route("*", "/pages/{n:[0-9]+}", self._pages)
        application.router.add_route("*", "/{path:.*}", self._echo)
        return application

    @web.middleware
    async def _counted(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if request.path in ("/health", "/_count"):
            return await handler(request)
        path = request.path if request.path in self._paths or len(self._paths) < _PATHS_COUNTED else "other"
        self._paths[path] += 1
        self._orgs[request.headers.get("X-Org-Id", "")] += 1
        response = await handler(request)
        self._statuses[response.status] += 1
        return response

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _count(self, request: web.Request) -> web.Response:
        counts = {"calls": self._orgs.total(), "by_status": self._statuses, "by_org": self._orgs, "by_path": self._paths}
        return web.json_response(counts | {"bytes": self._bytes})

    async def _echo(self, request: web.Request, headers: dict[str, str] | None = None) -> web.Response:
        received = 0
        async for chunk in request.content.iter_any():
            received += len(chunk)
        body: dict[str, Any] = {
            "hello": request.headers.get("X-Org-Slug", "stranger"),
            "method": request.method,
            "path": request.raw_path.partition("?")[0],
            "query": request.query_string,
            "body_bytes": received,
            "headers": {name: _shown(name, value) for name, value in request.headers.items() if name.lower().startswith("x-")},
        }
        text = json.dumps(body) + "\n"
        self._bytes["in"] += received
        self._bytes["out"] += len(text) if request.method != "HEAD" else 0
        return web.Response(text=text, content_type="application/json", headers=headers)

    async def _status(self, request: web.Request) -> web.Response:
        status = int(request.match_info["code"])
        return web.Response(status=status, text="" if status in (204, 304) else f"status {status}\n")

    async def _slow(self, request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("seconds", "2")))
        return await self._echo(request)

    async def _pages(self, request: web.Request) -> web.Response:
        return await self._echo(request, {"X-Pages": request.match_info["n"]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["n"])
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Content-Length": str(left)})
        await response.prepare(request)
        while left > 0 and request.method != "HEAD":
            piece = _CHUNK[:left]
            await response.write(piece)
            left -= len(piece)
            self._bytes["out"] += len(piece)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        for number in range(int(request.query.get("n", "5"))):
            if number:
                await asyncio.sleep(float(request.query.get("seconds", "1")))
            event = f"data: {number}\n\n".encode()
            await response.write(event)
            self._bytes["out"] += len(event)
        return response


def _shown(name: str, value: str) -> str:
    """A key is echoed only so far that one recognizes it: echoes end up in terminals and tickets."""
    return "…" + value[-4:] if name.lower() == "x-api-key" else value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m weighbridge.sample", description="A service to put behind a fresh gateway.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    web.run_app(Sample().application(), host=options.host, port=options.port, access_log=None, print=None, shutdown_timeout=5)


if __name__ == "__main__":
    main()
