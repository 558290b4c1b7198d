"""The control server as a process of its own and as a set of routes: files in, answers out."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

import config
from billing.api.wiring import Control, open_control
from config.settings import Settings
from metering.model import keys
from metering.model.apikey import sha256_hex
from metering.model.clock import SystemClock

SHIPPED = Path(config.__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "config"
    target.mkdir()
    for name in ("gateway.yaml", "meters.yaml", "plans.yaml"):
        shutil.copy(SHIPPED / name, target / name)
    return target


@pytest.fixture
def settings(database: str, redis: str, folder: Path, tmp_path: Path) -> Settings:
    environ = {
        "DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(folder), "WEIGHBRIDGE_DATA_DIR": str(tmp_path / "data"),
        "WEIGHBRIDGE_CONTROL_PORT": "0", "WEIGHBRIDGE_HOST": "0.0.0.0",
    }  # fmt: skip
    return Settings.load(environ, None)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Control]:
    async with open_control(settings, SystemClock()) as control, control.serve():
        yield control


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def get(url: str, **headers: str) -> tuple[int, dict]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.json()


async def test_the_shipped_files_are_applied_at_start(settings: Settings) -> None:
    async with running(settings) as control:
        plans = {row.spec.name: row.managed_by for row in await control.billing.plans.all()}
        status, ready = await get(control.url + "/readyz")
        assert control.url.startswith("http://127.0.0.1:")  # wherever the gateway listens
    assert plans == dict.fromkeys(("free", "starter", "pro", "enterprise"), "file")
    assert (status, ready["ready"], ready["config"]["faults"]) == (200, True, [])


async def test_usage_and_quota_are_shown_to_the_organizations_own_key(settings: Settings) -> None:
    async with running(settings) as control:
        new = await control.billing.orgs.create("Acme", plan="pro")
        status, usage = await get(control.url + "/api/v1/billing/usage", **{"X-API-Key": new.api_key})
        _, quota = await get(control.url + "/api/v1/billing/quota", Authorization=f"Bearer {new.api_key}")
        _, one = await get(control.url + "/api/quota/api", **{"X-API-Key": new.api_key})
    assert (status, usage["org"]["slug"], usage["plan"]["name"]) == (200, "acme", "pro")
    assert {m["service"] for m in usage["usage"]} >= {"api", "bandwidth", "storage", "compute", "database", "functions"}
    assert [q["quota"] for q in quota["quotas"] if q["service"] == "api"] == [200_000]
    assert (one["remaining"], one["percentage_used"]) == (200_000, 0.0)


async def test_a_refusal_has_our_json_form(settings: Settings) -> None:
    cases = [
        ("/api/v1/billing/usage", {}, 401, "unauthorized"),
        ("/api/v1/billing/usage", {"X-API-Key": "wbk_live_x"}, 401, "unauthorized"),
        ("/api/v1/billing/usage", {"Authorization": "Basic abc"}, 401, "unauthorized"),
        ("/nothing", {}, 404, "not_found"),
    ]
    async with running(settings) as control:
        answers = [(await get(control.url + path, **headers)) for path, headers, _, _ in cases]
    assert [(status, body["code"]) for status, body in answers] == [(status, code) for _, _, status, code in cases]


async def test_an_unknown_service_is_named_with_those_there_are(settings: Settings) -> None:
    async with running(settings) as control:
        new = await control.billing.orgs.create("Acme", plan="free")
        status, body = await get(control.url + "/api/v1/billing/quota/llamas", **{"X-API-Key": new.api_key})
    assert status == 404
    assert "api" in body["detail"]


async def test_a_changed_file_is_applied_while_it_runs(settings: Settings, folder: Path) -> None:
    async with running(settings) as control:
        new = await control.billing.orgs.create("Acme", plan="free")
        before = control.configuration.version
        plans = (folder / "plans.yaml").read_text()
        override = "\noverrides:\n  acme:\n    reason: a test\n    until: 2099-01-01T00:00:00Z\n    quotas:\n"
        override += "      - {meter: api, limit: 7, window: period, mode: hard}\n"
        (folder / "plans.yaml").write_text(plans + override)
        await until(lambda: control.configuration.version != before)
        report = await control.billing.usage.report(new.org.id)
    assert next(m.main.quota.limit for m in report.meters if m.meter.name == "api" and m.main) == 7


async def test_a_faulty_file_changes_nothing_and_metric_and_log_say_so(
    settings: Settings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings) as control:
        before, good = control.configuration.version, (folder / "plans.yaml").read_text()
        (folder / "plans.yaml").write_text(good.replace("mode: hard", "mode: brutal", 1))
        await until(lambda: bool(control.configuration.faults))
        assert b"weighbridge_config_last_apply_success 0.0" in control.metrics.page()
        assert control.configuration.version == before
        assert [r.levelname for r in caplog.records if "changes nothing" in r.message] == ["ERROR"]
        (folder / "plans.yaml").write_text(good)
        await until(lambda: not control.configuration.faults)
        assert b"weighbridge_config_last_apply_success 1.0" in control.metrics.page()


async def test_a_start_on_faulty_files_runs_the_last_good_set_and_says_so(
    settings: Settings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings) as control:
        good = control.configuration.version
    (folder / "plans.yaml").write_text("plans: [")
    async with running(settings) as control:
        assert control.configuration.version == good
        assert b"weighbridge_config_last_apply_success 0.0" in control.metrics.page()
        status, ready = await get(control.url + "/readyz")
    assert (status, len(ready["config"]["faults"]) > 0) == (200, True)
    assert any("last good configuration" in r.message and r.levelname == "ERROR" for r in caplog.records)


async def test_a_gateway_that_asks_for_a_key_is_answered(settings: Settings, redis: str) -> None:
    client = Redis.from_url(redis)
    async with running(settings) as control:
        new = await control.billing.orgs.create("Acme", plan="free")
        await client.flushall()
        await client.rpush(keys.ASKED, f"key {sha256_hex(new.api_key)}")
        async with asyncio.timeout(20):
            while not await client.exists(keys.api_key(sha256_hex(new.api_key))):
                await asyncio.sleep(0.02)
    await client.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start(environ: dict[str, str], cwd: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "billing.api", env={**os.environ, **environ}, cwd=cwd, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.long
async def test_the_process_serves_until_sigterm_and_ends_cleanly(database: str, redis: str, folder: Path, tmp_path: Path) -> None:
    port = free_port()
    environ = {
        "DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(folder), "WEIGHBRIDGE_DATA_DIR": str(tmp_path / "data"),
        "WEIGHBRIDGE_CONTROL_PORT": str(port),
    }  # fmt: skip
    process = await start(environ, tmp_path)
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"control listens on" not in await process.stderr.readline():
            pass
    assert await get(f"http://127.0.0.1:{port}/healthz") == (200, {"status": "ok"})
    second = await start(environ, tmp_path)
    _, said = await second.communicate()
    assert (second.returncode, f"cannot listen on 127.0.0.1:{port}" in said.decode()) == (1, True)
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    assert (process.returncode, b"Traceback" in rest, b"control stopped" in rest) == (0, False, True)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"DATABASE_URL": "", "REDIS_URL": ""}, "control needs Postgres"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"}, "cannot be reached"),
    ],
)
async def test_a_start_that_cannot_be_says_why_in_one_sentence(environ: dict[str, str], sentence: str, tmp_path: Path) -> None:
    process = await start(environ, tmp_path)
    _, said = await process.communicate()
    assert (process.returncode, sentence in said.decode(), b"Traceback" in said) == (1, True, False)
    assert json.dumps(said.decode()).count("Postgres") >= 1
