"""`weighbridge serve gateway` with Redis and YAML alone: no Postgres, no control, no aggregator. Real processes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from metering.model import keys
from metering.model.apikey import mint, sha256_hex
from metering.model.clock import SystemClock
from weighbridge.sockets import free_port
from weighbridge.standalone import AnotherAlone, Standalone

ACME = "018f2d5e-7c3a-7b1e-9d42-6a5b0c1d2e3f"
KEY = mint(b"a gateway alone, a key")


class Gateway:
    """The supervisor and its workers over a folder of files."""

    def __init__(self, home, redis_url: str) -> None:
        self.home, self.port, self.metrics = home, free_port("127.0.0.1"), free_port("127.0.0.1")
        sample = free_port("127.0.0.1")
        home.environ |= {
            "REDIS_URL": redis_url, "WEIGHBRIDGE_PORT": str(self.port), "WEIGHBRIDGE_METRICS_PORT": str(self.metrics),
            "UPSTREAM": f"http://127.0.0.1:{sample}",
        }  # fmt: skip
        orgs = {"acme": {"id": ACME, "plan": "tiny", "anchor": "2026-01-01T00:00:00Z", "keys": [{"sha256": sha256_hex(KEY)}]}}
        (home.config / "orgs.yaml").write_text(json.dumps({"orgs": orgs}))
        plans = home.config / "plans.yaml"
        tiny = (
            '  tiny:\n    price: {usd: "0"}\n    quotas: [{meter: api, limit: 10, window: period, mode: hard, on_store_failure: closed}]\n'
        )
        plans.write_text(plans.read_text().replace("\nplans:\n", f"\nplans:\n{tiny}", 1))
        self.sample = subprocess.Popen([sys.executable, "-m", "weighbridge.sample", "--port", str(sample)], cwd=home.home)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "weighbridge", "serve", "gateway"], cwd=self.home.home, env=self.home.environ,
            stderr=(self.home.home / "gateway.log").open("ab"),
        )  # fmt: skip
        self.home.until(self.decides, "a gateway that decides")

    def ready(self) -> bool:
        try:
            return self.home.get(f"http://127.0.0.1:{self.metrics}/readyz")[0] == 200
        except OSError:
            return False

    def decides(self) -> bool:
        """Ready, and every bucket open."""
        assert self.process.poll() is None, (self.home.home / "gateway.log").read_text()
        with Redis.from_url(self.home.environ["REDIS_URL"]) as store:
            epochs = store.mget([keys.epoch(bucket) for bucket in range(keys.BUCKETS)])
        return self.ready() and all(epoch and not epoch.endswith(b" wait") for epoch in epochs)

    def decided(self, calls: int) -> list[int]:
        """Their statuses. A worker may learn a moment later that its bucket is open; until then it refuses, uncharged."""
        return [self.home.until(lambda: (status := self.call()) != 503 and status, "a decision") for _ in range(calls)]

    def call(self, key: str = KEY) -> int:
        return int(self.home.get(f"http://127.0.0.1:{self.port}/hello", key)[0])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def gateway(home, redis: str) -> Iterator[Gateway]:
    alone = Gateway(home, redis)
    alone.start()
    yield alone
    if alone.process.poll() is None:
        assert alone.stop() == 0
    alone.sample.terminate()
    alone.sample.wait()


def test_a_gateway_alone_admits_to_the_limit_and_no_further(gateway: Gateway) -> None:
    assert gateway.decided(12) == [200] * 10 + [429] * 2
    assert gateway.call("not a key of anyone") == 401


@pytest.mark.long
def test_it_counts_on_after_a_restart_and_after_its_store_was_emptied(gateway: Gateway, redis: str) -> None:
    assert gateway.decided(4) == [200] * 4
    assert gateway.stop() == 0
    gateway.start()
    assert gateway.decided(3) == [200] * 3
    with Redis.from_url(redis) as store:
        store.flushall()
    gateway.home.until(gateway.decides, "the store restored")
    assert gateway.decided(4) == [200] * 3 + [429]


@pytest.mark.long
def test_a_bypass_is_kept_in_its_folder_and_outlives_the_loss_of_its_store(gateway: Gateway, redis: str) -> None:
    assert gateway.decided(11) == [200] * 10 + [429]
    made = gateway.home.cli_json("bypass", "--meter", "api", "--for", "1h", "--reason", "a race")
    gateway.home.until(lambda: gateway.call() == 200, "the workers to hear of it")
    with Redis.from_url(redis) as store:
        store.flushall()
    gateway.home.until(gateway.decides, "the store restored")
    assert gateway.decided(3) == [200] * 3
    gateway.home.cli_json("bypass", "end", str(made["id"]))
    gateway.home.until(lambda: gateway.call() == 429, "the limit again")


async def test_a_second_host_without_postgres_is_refused_on_the_same_store(redis: str, tmp_path) -> None:
    async def publish() -> None: ...

    async with AsyncRedis.from_url(redis) as client:
        hosts = [Standalone(client, tmp_path / name, SystemClock(), publish, lambda rows: None) for name in ("first", "second")]
        await hosts[0].begin()
        with pytest.raises(AnotherAlone):
            await hosts[1].begin()
        await hosts[0].begin()
