"""The proxies under test, each a small adapter: start, url, counted, stop. A new one is a class and a line in PROXIES."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redis import Redis

from metering.model import keys
from metering.model.clock import SystemClock
from metering.model.period import period_at
from metering.model.quota import Window
from tests.benchmarks.bench import PROXY_CORES, CannotRun, Child, Org, Stage, any_nginx, debian_nginx, free_port, nginx_command
from tests.benchmarks.configured import ANCHOR_MS, publish, write_configuration

HERE = Path(__file__).parent
_LUA_MODULES = ("ndk_http_module", "ngx_http_lua_module")
_LUA_FOLDER = Path("/usr/lib/nginx/modules")
_PROXY_PASS = """
        proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";"""
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

    @property
    def pid(self) -> int:
        """Of the process that was started; it may have others below it."""
        assert self._child is not None
        return self._child.process.pid

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
    location = _PROXY_PASS

    def start(self, stage: Stage) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        service = stage.service_url.removeprefix("http://")
        config = _NGINX.format(service=service, port=port, http="", location=self.location)
        self._run(nginx_command(any_nginx(), stage.room(self.name), config), stage)


class NginxStreaming(NginxProxyPass):
    """The fastest of several settings for large bodies, half as fast again as nginx's own, and the lightest."""

    name, title = "nginx-streaming", "nginx proxy_pass, buffering off, buffers of 64 KiB"
    location = _PROXY_PASS + "\n        proxy_buffering off; proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;"


class NginxTunnel(NginxProxyPass):
    """What a proxy of C that counts nothing makes of WebSockets."""

    name, title = "nginx-tunnel", "nginx proxy_pass with Upgrade, nothing counted"
    location = """
        proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"""

    def start(self, stage: Stage) -> None:
        super().start(replace(stage, service_url=stage.echo_url))


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


class Gateway(Proxy):
    """As a sidecar: its workers and their supervisor, YAML and a store, journal on; no Postgres."""

    name, title, counts = "weighbridge", "the metered gateway, one worker", True
    workers, metered = 1, True
    _store: Redis
    _orgs: list[Org]

    def start(self, stage: Stage) -> None:
        room, port = stage.room(self.name), free_port()
        server = stage.store(self.name)
        self.store_url, self._store, self._orgs = server.url, Redis.from_url(server.url), stage.orgs
        write_configuration(room / "config", stage.orgs[0], metered=self.metered, echo=stage.echo_url or "http://127.0.0.1:9")
        self.url = f"http://127.0.0.1:{port}"
        environ = {
            "REDIS_URL": server.url, "DATABASE_URL": "", "STRIPE_API_KEY": "", "UPSTREAM": stage.service_url,
            "WEIGHBRIDGE_WORKERS": str(self.workers), "WEIGHBRIDGE_PORT": str(port), "WEIGHBRIDGE_METRICS_PORT": str(free_port()),
            "WEIGHBRIDGE_HOST": "127.0.0.1", "WEIGHBRIDGE_CONFIG": str(room / "config"), "WEIGHBRIDGE_DATA_DIR": str(room / "data"),
            "WEIGHBRIDGE_LOG_LEVEL": "WARNING",
            "WEIGHBRIDGE_STORE_DEADLINE_MS": "1000",  # the others wait a second too; the store shares its core with the load
        }  # fmt: skip
        self._run([sys.executable, "-m", "weighbridge", "serve", "gateway"], stage, environ)
        asyncio.run(publish(room / "config", stage.orgs, server.url))

    def counted(self) -> int:
        start_ms, _ = period_at(ANCHOR_MS, SystemClock().now_ms())
        found = self._store.mget([keys.counter(org.id, "api", "o", Window.PERIOD, start_ms) for org in self._orgs])
        return sum(int(value or 0) for value in found)


class GatewayUnmetered(Gateway):
    """The same in every other respect."""

    name, title, counts = "weighbridge-off", "the same gateway, metering off (auth: none, charge: none)", False
    metered = False


class GatewayOfTwo(Gateway):
    """Both workers on the proxy's one core: what is compared is their work, not their speed."""

    name, title = "weighbridge-two", "the metered gateway, two workers"
    workers = 2


PROXIES: tuple[Callable[[], Proxy], ...] = (Direct, NginxProxyPass, NginxLuaRedis, PlainAiohttp, Gateway, GatewayUnmetered)
REFERENCE = NginxLuaRedis.name
