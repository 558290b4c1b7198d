"""The obvious metering proxy: aiohttp's server and ClientSession, redis-py, one EVALSHA a request, on uvloop.

python plain_proxy.py PORT SERVICE_URL REDIS_URL ORGS_FILE SCRIPT_FILE
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from redis.asyncio import Redis

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}
_LIMIT = 1_000_000_000_000


class PlainProxy:
    def __init__(self, service: str, redis_url: str, orgs: dict[str, str], script: str) -> None:
        self._service, self._orgs = service, orgs
        self._redis = Redis.from_url(redis_url)
        self._count = self._redis.register_script(script)

    async def opened(self, app: web.Application) -> AsyncIterator[None]:
        self._session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        yield
        await self._session.close()
        await self._redis.aclose()

    async def handle(self, request: web.Request) -> web.Response:
        org = self._orgs.get(request.headers.get("X-API-Key", ""))
        if org is None:
            return web.Response(status=401)
        admitted, used = await self._count(keys=[f"quota:{org}", "usage"], args=[1, _LIMIT, org, 3_600_000])
        if not admitted:
            return web.Response(status=429)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read() if request.can_read_body else None
        url = self._service + request.raw_path
        async with self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            kept["X-RateLimit-Remaining"] = str(_LIMIT - used)
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def configured(service: str, redis_url: str, orgs_file: str, script_file: str) -> PlainProxy:
    orgs = dict(line.split() for line in Path(orgs_file).read_text().splitlines())
    return PlainProxy(service, redis_url, orgs, Path(script_file).read_text())


async def main(port: int, proxy: PlainProxy) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    app.cleanup_ctx.append(proxy.opened)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), configured(*sys.argv[2:])))
