"""The proxies under test, each a small adapter: start, url, counted, stop. A new one is a class and a line in PROXIES."""

import asyncio
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from config.load import load_good, read_set
from config.orgs import KeySpec, OrgSet, OrgSpec
from metering.model import keys
from metering.model.clock import SystemClock, to_ms
from metering.model.period import period_at
from metering.model.quota import Window
from tests.benchmarks.bench import PROXY_CORES, CannotRun, Child, Org, Stage, any_nginx, debian_nginx, free_port, nginx_command
from weighbridge.sidecar import Sidecar

HERE = Path(__file__).parent
_LUA_MODULES = ("ndk_http_module", "ngx_http_lua_module")
_LUA_FOLDER = Path("/usr/lib/nginx/modules")
_PROXY_PASS = """
        proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";"""
_ANCHOR_MS = to_ms(datetime(2026, 1, 1, tzinfo=UTC))
_NGINX = """
events {{worker_connections 1024;}}
http {{
    access_log off; keepalive_requests 1000000000;
    upstream service {{server {service}; keepalive 64; keepalive_requests 1000000000;}}
    {http}
    server {{listen 127.0.0.1:{port}; location / {{{location}
    }} }}
}}
"""


class Proxy:
    """One row of the table. `start` raises CannotRun with a sentence where this machine lacks what it needs."""

    name = ""
    title = ""
    counts = False  # whether it counts each request in a store

    def __init__(self) -> None:
        self.url = ""
        self._child: Child | None = None

    def start(self, stage: Stage) -> None:
        raise NotImplementedError

    def counted(self) -> int | None:
        """How many requests its store holds by now; None where nothing is counted."""
        return None

    def cpu_seconds(self) -> float:
        return self._child.cpu_seconds() if self._child is not None else 0.0

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def _run(self, argv: list[str], stage: Stage, environ: dict[str, str] | None = None) -> None:
        self._child = Child(argv, stage.room(self.name), PROXY_CORES, environ)
        self._child.wait_answers(self.url + "/bench", {"X-API-Key": stage.orgs[0].key})


class Direct(Proxy):
    name, title = "direct", "the service itself, no proxy"

    def start(self, stage: Stage) -> None:
        self.url = stage.service_url


class NginxProxyPass(Proxy):
    name, title = "nginx", "nginx proxy_pass, nothing counted"

    def start(self, stage: Stage) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        service = stage.service_url.removeprefix("http://")
        config = _NGINX.format(service=service, port=port, http="", location=_PROXY_PASS)
        self._run(nginx_command(any_nginx(), stage.room(self.name), config), stage)


class _ScriptARequest(Proxy):
    """One script call in the store for each request: check one quota, add to it, add to a usage hash (count.lua)."""

    counts = True
    _store: Redis

    def _open_store(self, stage: Stage) -> Path:
        server = stage.store(self.name)
        self._store = Redis.from_url(server.url)
        return Path(server.url.removeprefix("unix://"))

    def _known_keys(self, stage: Stage) -> Path:
        """API key → organization, in the proxy's memory from its start: the cheapest an identity can be."""
        path = stage.room(self.name) / "orgs.txt"
        path.write_text("".join(f"{org.key} {org.id}\n" for org in stage.orgs))
        return path

    def counted(self) -> int:
        return sum(int(value) for value in self._store.hvals("usage"))


class NginxLuaRedis(_ScriptARequest):
    name, title = "nginx-lua-redis", "nginx + Lua, one Redis script a request"

    def start(self, stage: Stage) -> None:
        nginx = debian_nginx()
        missing = [path.name for path in (_LUA_FOLDER / f"{name}.so" for name in _LUA_MODULES) if not path.exists()]
        if nginx is None or missing:
            raise CannotRun("needs Debian's packages: apt-get install nginx libnginx-mod-http-lua")
        socket, orgs, port = self._open_store(stage), self._known_keys(stage), free_port()
        self.url = f"http://127.0.0.1:{port}"
        http = (
            'lua_package_path "/usr/share/lua/5.1/?.lua;;";\n'
            f'init_by_lua_block {{ counting = dofile("{HERE}/nginx_count.lua"); counting.load("{orgs}", "{HERE}/count.lua", "{socket}") }}'
        )
        location = "\n        access_by_lua_block { counting.admit() }" + _PROXY_PASS
        modules = "".join(f"load_module {_LUA_FOLDER}/{name}.so;\n" for name in _LUA_MODULES)
        config = modules + _NGINX.format(service=stage.service_url.removeprefix("http://"), port=port, http=http, location=location)
        self._run(nginx_command(nginx, stage.room(self.name), config), stage)


class PlainAiohttp(_ScriptARequest):
    name, title = "aiohttp", "aiohttp ClientSession + redis-py EVALSHA a request"

    def start(self, stage: Stage) -> None:
        socket, orgs, port = self._open_store(stage), self._known_keys(stage), free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = [
            sys.executable,
            str(HERE / "plain_proxy.py"),
            str(port),
            stage.service_url,
            f"unix://{socket}",
            str(orgs),
            str(HERE / "count.lua"),
        ]
        self._run(argv, stage)


def _key(org: Org) -> KeySpec:
    return KeySpec(sha256=org.sha256, key_id=zlib.crc32(org.sha256.encode()))


class Gateway(Proxy):
    """As a sidecar: one worker and its supervisor, YAML and a store, journal on; no Postgres."""

    name, title, counts = "weighbridge", "the metered gateway, one worker", True
    _store: Redis
    _orgs: list[Org]

    def start(self, stage: Stage) -> None:
        room, port = stage.room(self.name), free_port()
        server = stage.store(self.name)
        self._store, self._orgs = Redis.from_url(server.url), stage.orgs
        self._write_config(room / "config", stage)
        self.url = f"http://127.0.0.1:{port}"
        environ = {
            "REDIS_URL": server.url, "DATABASE_URL": "", "STRIPE_API_KEY": "", "UPSTREAM": stage.service_url, "WEIGHBRIDGE_WORKERS": "1",
            "WEIGHBRIDGE_PORT": str(port), "WEIGHBRIDGE_METRICS_PORT": str(free_port()), "WEIGHBRIDGE_HOST": "127.0.0.1",
            "WEIGHBRIDGE_CONFIG": str(room / "config"), "WEIGHBRIDGE_DATA_DIR": str(room / "data"), "WEIGHBRIDGE_LOG_LEVEL": "WARNING",
            "WEIGHBRIDGE_STORE_DEADLINE_MS": "1000",  # the others wait a second too; the store shares its core with the load
        }  # fmt: skip
        self._run([sys.executable, "-m", "weighbridge", "serve", "gateway"], stage, environ)
        asyncio.run(self._publish(room / "config", stage.orgs, server.url))

    @staticmethod
    def _write_config(folder: Path, stage: Stage) -> None:
        """Two quotas a call, as in the shipped plans: requests and bytes; neither is ever reached."""
        folder.mkdir()
        (folder / "meters.yaml").write_text("meters:\n  api: {unit: request}\n  bandwidth: {unit: byte, show: GB, report: MB}\n")
        (folder / "gateway.yaml").write_text(
            'upstreams:\n  app: {targets: ["http://127.0.0.1:9"]}\nidentity:\n  - api_key: {from: [X-API-Key, bearer]}\n'
            "defaults: {auth: required, upstream: app, charge: {api: 1, bandwidth: bytes}, return_on: [unreachable, 5xx, timeout]}\n"
            "routes:\n  - {path: /*}\n"
        )
        (folder / "plans.yaml").write_text(
            'issuer: stripe\nplans:\n  bench:\n    price: {usd: "0"}\n    quotas:\n'
            "      - {meter: api, limit: 1_000_000_000_000, window: period, mode: hard}\n"
            "      - {meter: bandwidth, limit: 1_000_000 GB, window: period, mode: hard}\n"
        )
        org = stage.orgs[0]
        (folder / "orgs.yaml").write_text(
            f"orgs:\n  {org.slug}: {{id: {org.id}, plan: bench, anchor: 2026-01-01T00:00:00Z, keys: [{{sha256: {org.sha256}}}]}}\n"
        )

    @staticmethod
    async def _publish(folder: Path, orgs: list[Org], redis_url: str) -> None:
        """The other organizations straight into the store, as control does: the file is for fewer."""
        config = load_good(read_set(folder))
        specs = {o.slug: OrgSpec(id=o.id, slug=o.slug, name=o.slug, plan="bench", anchor_ms=_ANCHOR_MS, keys=(_key(o),)) for o in orgs}
        async with AsyncRedis.from_url(redis_url) as client:
            await Sidecar(client, SystemClock()).publish(replace(config, orgs=OrgSet(orgs=specs)))

    def counted(self) -> int:
        start_ms, _ = period_at(_ANCHOR_MS, SystemClock().now_ms())
        found = self._store.mget([keys.counter(org.id, "api", "o", Window.PERIOD, start_ms) for org in self._orgs])
        return sum(int(value or 0) for value in found)


PROXIES: tuple[Callable[[], Proxy], ...] = (Direct, NginxProxyPass, NginxLuaRedis, PlainAiohttp, Gateway)
REFERENCE = NginxLuaRedis.name
