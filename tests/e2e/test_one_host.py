"""One host name for all: what gateway.yaml lists goes to control, uncounted, by a caller's own key; the rest to the service as ever."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from .conftest import GATEWAY, House, housed

TO_CONTROL = ("/api/quota/*", "/api/v1/*", "/webhooks/stripe")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with housed(tmp_path_factory) as running:
        yield running


def listed(control: str) -> str:
    routes = "".join(f"  - {{path: {path}, upstream: control, auth: none, charge: none}}\n" for path in TO_CONTROL)
    upstream = f'upstreams:\n  control: {{targets: ["{control}"]}}\n'
    text = GATEWAY.replace("upstreams:\n", upstream).replace("routes:\n", f"routes:\n{routes}")
    return text.replace("defaults:\n", "defaults:\n  upstream: app\n")


@pytest.mark.long
async def test_what_is_listed_goes_to_control_and_is_not_counted(house: House) -> None:
    org = await house.org("One Host", "free")
    key = {"X-API-Key": org.api_key}
    async with aiohttp.ClientSession(house.gateway) as session:
        async with session.get("/api/quota/api", headers=key) as answer:  # not listed: a path of the service, and counted
            assert answer.headers["Content-Type"].startswith("application/json") is False or "remaining" not in await answer.json()
        before = await house.counter(org)
        assert before == 1
        (house.config_dir / "gateway.yaml").write_text(listed(house.ready["control"]))
        async with asyncio.timeout(30):
            while (await session.get("/api/v1/openapi.json")).status != 200:
                await asyncio.sleep(0.2)
        async with session.get("/api/quota/api", headers=key) as answer:
            quota = await answer.json()
            assert (answer.status, quota["remaining"], "RateLimit" in answer.headers) == (200, 299, False)
        async with session.get("/api/v1/billing/usage", headers=key) as answer:
            assert (answer.status, (await answer.json())["org"]["slug"]) == (200, org.slug)
        async with session.get("/api/quota/api") as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "unauthorized")
        async with session.post("/webhooks/stripe", data=b"{}") as answer:
            assert (answer.status, "Webhook Error" in await answer.text()) == (400, True)
        assert await house.counter(org) == before
        async with session.get("/hello", headers=key) as answer:
            assert (answer.status, "RateLimit" in answer.headers) == (200, True)
        assert await house.counter(org) == before + 1
