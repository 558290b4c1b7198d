"""Upstreams of a running system: health on the metrics page, changes without a lost call, circles, files that are missing."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from .conftest import GATEWAY, House, Org

SECONDS = 20


async def until(fact: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await fact():
            await asyncio.sleep(0.05)


class Service:
    """A target: answers with its name, and its health check with `status`."""

    def __init__(self, name: str) -> None:
        self.name, self.status, self.url = name, 200, ""

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(status=self.status) if request.path == "/up" else web.Response(text=self.name)


@pytest.fixture
async def services() -> AsyncIterator[list[Service]]:
    runners, found = [], []
    for name in "ab":
        service = Service(name)
        runner = web.ServerRunner(web.Server(service.answer))  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
        found.append(service)
    yield found
    for runner in runners:
        await runner.cleanup()


async def configure(house: House, upstreams: str, routes: str) -> None:
    """Write gateway.yaml and wait until it has been taken, or refused."""
    text = GATEWAY.replace("defaults:\n", f"{upstreams}defaults:\n", 1).replace("routes:\n", f"routes:\n{routes}", 1)
    said = taken(house)
    (house.config_dir / "gateway.yaml").write_text(text)
    async with asyncio.timeout(SECONDS):
        while taken(house) == said:
            await asyncio.sleep(0.05)


def taken(house: House) -> int:
    """How often all workers had heard of a new configuration. Control says the like of its part, with a comma behind the word."""
    return len(re.findall(r" applied(?:;|$)", house.log.read_text(), re.MULTILINE))


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers={n.replace("_", "-"): v for n, v in headers.items()}) as answer:
        return answer.status, await answer.text()


async def metric(house: House, line: str) -> bool:
    return line in (await get(f"{house.ready['metrics']}"))[1]


@pytest.mark.long
async def test_a_target_that_fails_its_health_check_is_on_the_metrics_page_and_takes_no_calls(
    house: House, services: list[Service]
) -> None:
    a, b = services
    await configure(
        house,
        f"  two: {{targets: ['{a.url}', '{b.url}'], health: {{path: /up, interval: 100ms}}}}\n",
        "  - {path: /two, upstream: two, auth: none, charge: none}\n",
    )
    a.status = 503
    await until(lambda: metric(house, f'weighbridge_upstream_healthy{{target="{a.url}",upstream="two"}} 0.0'))
    assert await metric(house, f'weighbridge_upstream_healthy{{target="{b.url}",upstream="two"}} 1.0')
    await asyncio.gather(*(until_only_b(house) for _ in range(2)))
    a.status = 200
    await until(lambda: metric(house, f'weighbridge_upstream_healthy{{target="{a.url}",upstream="two"}} 1.0'))


async def until_only_b(house: House) -> None:
    async def only_b() -> bool:
        return [(await get(f"{house.gateway}/two"))[1] for _ in range(20)] == ["b"] * 20

    await until(only_b)


@pytest.mark.long
async def test_a_request_that_comes_back_to_the_gateway_is_answered_508_and_not_charged(house: House) -> None:
    org: Org = await house.org("Loop", "free")
    await configure(house, f"  itself: {{targets: ['{house.gateway}']}}\n", "  - {path: /loop, upstream: itself}\n")
    status, body = await get(f"{house.gateway}/loop", X_API_Key=org.api_key)
    assert (status, json.loads(body)["error"]["code"]) == (508, "loop_detected")

    async def given_back() -> bool:
        return await house.counter(org) == 0

    await until(given_back)


@pytest.mark.long
async def test_a_configuration_whose_certificate_is_missing_is_refused_and_the_old_one_serves_on(house: House) -> None:
    before = (house.config_dir / "gateway.yaml").read_text()
    await configure(house, "  safe: {targets: ['https://127.0.0.1:1'], tls: {ca: /nowhere/ca.pem}}\n", "")
    assert "/nowhere/ca.pem cannot be used" in house.log.read_text()
    assert await metric(house, "weighbridge_config_last_apply_success 0.0")
    assert (await get(f"{house.gateway}/_count"))[0] == 200
    (house.config_dir / "gateway.yaml").write_text(before)
