"""A gateway as it runs in production, alone on a store and YAML: supervisor, worker, store and nginx are real processes.

Rig tells what calls were charged and how much memory the worker holds. Who speaks through it is in parties.py.
"""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from metering.model import keys
from metering.model.apikey import mint, sha256_hex
from metering.model.ledger import parse
from metering.model.period import period_at
from metering.model.quota import Window
from tests.integration.nginx.conftest import Nginx, command, free_port, laid_out
from weighbridge.embedded import ValkeyServer, start_valkey

from .parties import HOP, Way, until

ORG = "00000000-0000-4000-8000-0000000000{:02x}"
KEYS = [mint(b"weighbridge rules key %04d" % number) for number in range(128)]  # one organization each; the first is everybody's
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ANCHOR = "2026-01-01T00:00:00Z"
_ANCHOR_MS = 1_767_225_600_000

METERS = "meters:\n  api: {unit: request}\n  vip: {unit: request}\n  bandwidth: {unit: byte, show: MB, report: MB}\n"
PLANS = """
issuer: stripe
plans:
  wide:
    price: {usd: "0"}
    quotas:
      - {meter: api, limit: 1_000_000_000, window: period, mode: hard}
      - {meter: vip, limit: 1_000_000_000, window: period, mode: hard}
      - {meter: bandwidth, limit: 1_000_000 GB, window: period, mode: soft}
"""
GATEWAY = """
upstreams:
  app: {{targets: ["http://127.0.0.1:{port}"]}}
  tls: {{targets: ["https://localhost:{tls_port}"]}}
  misnamed: {{targets: ["https://127.0.0.2:{tls_port}"]}}
  gone: {{targets: ["http://127.0.0.1:9"]}}
  single: {{targets: ["http://127.0.0.1:{port}"], max_connections: 1, queue: {{most: 1, timeout: 1s}}}}
{more_upstreams}
identity:
  - api_key: {{from: [X-API-Key, bearer]}}
defaults:
  upstream: app
  charge: {{api: 1, bandwidth: bytes}}
  return_on: [unreachable, 5xx, timeout]
  timeouts: {{connect: 2s, idle: 30s}}
limits: {limits}
routes:
  - {{path: /_gone, upstream: gone}}
  - {{path: /gone, upstream: gone}}
  - {{path: /open/*, auth: none, charge: none}}
  - {{path: /spent, quotas: [{{meter: api, limit: 1, window: day, mode: hard}}]}}
  - {{path: "/vip/{{id}}", charge: {{vip: 7}}}}
  - {{path: "/shut/vip", methods: [GET], charge: {{vip: 7}}}}
  - {{path: /silent, timeouts: {{connect: 1s, idle: 300ms}}}}
  - {{path: /brief, timeouts: {{connect: 1s, idle: 9s, total: 400ms}}}}
  - {{path: /tls, upstream: tls}}
  - {{path: /single, upstream: single}}
  - {{path: /misnamed, upstream: misnamed}}
{more_routes}
  - {{path: /*}}
"""
WIDE_LIMITS = "{}"


def orgs_yaml() -> str:
    lines = [
        f"  org{n}: {{id: {ORG.format(n)}, plan: wide, anchor: {_ANCHOR}, keys: [{{sha256: {sha256_hex(key)}}}]}}"
        for n, key in enumerate(KEYS)
    ]
    return "orgs:\n" + "\n".join(lines) + "\n"


def listening(address: str = "127.0.0.1") -> socket.socket:
    """A socket that listens, on a free port or at a path: it is known before the gateway starts, and served by test after test."""
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.bind((address, 0))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


@dataclass
class Rig:
    """One running gateway and its store."""

    folder: Path
    host: str
    port: int
    service: socket.socket
    tls_service: socket.socket
    store: ValkeyServer
    process: subprocess.Popen[bytes]
    environ: dict[str, str]
    nginx: Nginx | None = None
    _fresh: int = 0
    nginx_process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    @property
    def worker(self) -> int:
        """The worker's pid."""
        return self.workers[0]

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"--socket-fd" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def rss(self) -> int:
        """Bytes of memory that the worker holds."""
        return int(Path(f"/proc/{self.worker}/statm").read_text().split()[1]) * _PAGE

    def counter(self, meter: str = "api", org: int = 0) -> int:
        """What the organization's quota of this meter stands at: charged, less returned."""
        start, _ = period_at(_ANCHOR_MS, int(time.time() * 1000))
        with Redis.from_url(self.store.url) as client:
            return int(client.get(keys.counter(ORG.format(org), meter, "o", Window.PERIOD, start)) or 0)

    def ledger(self, measure: str, org: int = 0) -> int:
        """The sum of a measure in the live ledger: a meter, `^meter` (returned), or a fact such as `#out`."""
        bucket = keys.bucket_of(ORG.format(org))
        with Redis.from_url(self.store.url) as client:
            fields = client.hgetall(keys.live(bucket))
        rows = ((parse(name.decode()), int(value)) for name, value in fields.items() if name != b"!")
        return sum(value for row, value in rows if row.measure == measure and row.org_id == ORG.format(org))

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        with socket.create_connection(("127.0.0.1", int(self.environ["WEIGHBRIDGE_METRICS_PORT"])), 5) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            page = b"".join(iter(lambda: sock.recv(65_536), b"")).decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{")))

    def payer(self) -> "Payer":
        """An organization that has not called yet."""
        self._fresh += 1
        return Payer(self, self._fresh, KEYS[self._fresh].encode())

    def stop(self) -> None:
        for process in (self.nginx_process, self.process):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(40)
        self.store.stop()
        self.service.close()
        self.tls_service.close()


@dataclass
class Payer:
    """An organization of one test's own: what it was charged is what that test's calls were charged."""

    rig: Rig
    org: int
    key: bytes

    def counter(self, meter: str = "api") -> int:
        return self.rig.counter(meter, self.org)

    async def pays(self, **units: int) -> None:
        """Wait until the meters stand at these numbers. What is weighed, and what goes back, is counted within a second or so."""
        await until(lambda: {meter: self.counter(meter) for meter in units} == units, lambda: {m: self.counter(m) for m in units})


def start_rig(
    folder: Path, *, limits: str = WIDE_LIMITS, host: str = "127.0.0.1", nginx: bool = False, upstreams: str = "", routes: str = "",
    meters: str = "", quotas: str = "", **environ: str,
) -> Rig:  # fmt: skip
    """Start everything. `upstreams`, `routes`, `meters` and `quotas` are lines of the files beside those that every rig has."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    service, tls_service, config = listening(), listening(), folder / "config"
    config.mkdir()
    names = {"port": service.getsockname()[1], "tls_port": tls_service.getsockname()[1], "limits": limits}
    text = GATEWAY.format(**names, more_upstreams=upstreams, more_routes=routes)
    for name, content in (("gateway", text), ("meters", METERS + meters), ("plans", PLANS + quotas), ("orgs", orgs_yaml())):
        (config / f"{name}.yaml").write_text(content)
    store, port = start_valkey(folder / "store"), free_port()
    names_of_ours = ("WEIGHBRIDGE_", "DATABASE_", "STRIPE_", "BILLING_", "PROMETHEUS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names_of_ours)}
    ours = {
        "REDIS_URL": store.url, "WEIGHBRIDGE_WORKERS": "1", "WEIGHBRIDGE_HOST": host, "WEIGHBRIDGE_PORT": str(port),
        "WEIGHBRIDGE_METRICS_PORT": str(free_port()), "WEIGHBRIDGE_TRUSTED_PROXIES": f"{HOP}/32", "WEIGHBRIDGE_CONFIG": str(config),
        "WEIGHBRIDGE_DATA_DIR": str(folder / "data"), "WEIGHBRIDGE_STORE_DEADLINE_MS": "5000", **environ,
    }  # fmt: skip
    with (folder / "gateway.log").open("wb") as log:
        argv = [sys.executable, "-m", "weighbridge", "serve", "gateway"]
        process = subprocess.Popen(argv, cwd=folder, env=kept | ours, stdout=log, stderr=log)
    rig = Rig(folder, host, port, service, tls_service, store, process, ours)
    try:
        if nginx:
            _start_nginx(rig)
        _until_it_decides(rig)
    except BaseException:
        rig.stop()
        raise
    return rig


def _start_nginx(rig: Rig) -> None:
    folder = rig.folder / "nginx"
    folder.mkdir()
    for name in ("client_body_temp", "proxy_temp"):
        (folder / name).mkdir()
    here = "proxy_pass http://weighbridge_gateways;"
    rig.nginx = laid_out(folder, [rig.port], {here: f"proxy_bind {HOP}; {here}"})
    rig.nginx_process = subprocess.Popen(command(folder))


def _until_it_decides(rig: Rig) -> None:
    """A 502 from where nobody listens was admitted first. Until its buckets are open, a gateway says 503."""
    ask = b"GET /_gone HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: %b\r\n\r\n"
    waiting, deadline = [*KEYS], time.monotonic() + 60
    while waiting:
        try:
            with socket.create_connection((rig.host, rig.port), 5) as sock:
                sock.sendall(ask % waiting[-1].encode())
                if sock.recv(12).endswith(b"502"):
                    waiting.pop()
                    continue
        except OSError:
            pass
        assert rig.process.poll() is None, rig.log
        assert time.monotonic() < deadline, rig.log
        time.sleep(0.05)
    while any(rig.counter(org=org) for org in range(len(KEYS))):  # these units go back
        assert time.monotonic() < deadline, rig.log
        time.sleep(0.05)


@contextlib.asynccontextmanager
async def way_to(rig: Rig, name: str) -> AsyncIterator[Way]:
    """`direct` or `nginx`."""
    port = rig.port if name == "direct" else rig.nginx.port  # type: ignore[union-attr] # this rig has one
    found = Way(name, rig.host if name == "direct" else "127.0.0.1", port)
    yield found
    for each in found.clients:
        each.writer.transport.abort()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for `localhost`, and the file of the authority that signed it (itself)."""
    folder.mkdir(parents=True, exist_ok=True)
    both = folder / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, folder / "cert.pem"
