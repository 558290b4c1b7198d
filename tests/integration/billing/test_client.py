"""The Python client against a control server."""

import asyncio

import pytest
from aiohttp.test_utils import TestServer

from billing.model.token import Scope
from weighbridge_client import AsyncGuard, AsyncWeighbridge, Needs, Refused, Rules, Unreachable, Weighbridge

from .conftest import Desk
from .test_remote_commands import server, token

__all__ = ["server"]


async def test_both_clients_read_and_change_what_control_has(sold: Desk, server: TestServer) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    text, url = await token(sold, Scope.BILLING), str(server.make_url("/"))
    async with AsyncWeighbridge(url, text, org="acme") as client:
        quota = await client.quota("api")
        assert (quota.service, quota.remaining, quota.blocks) == ("api", 10_000, True)
        assert [limit.name for limit in quota.limits] == ["api-period"]
        assert (await client.usage())["plan"]["name"] == "free"
        assert (await client.upgrade("pro", preview=True))["charge"] == "49.00"
        assert (await client.subscription()).plan == "free"
        await client.upgrade("pro")
        assert ((await client.subscription()).plan, (await client.subscription(org="bolt")).plan) == ("pro", "free")

    def waiting() -> tuple[str, float | None]:
        with Weighbridge(url, text) as client:
            return client.subscription(org="acme").plan, client.quota("api", org="bolt").remaining

    assert await asyncio.to_thread(waiting) == ("pro", 10_000)


async def test_a_refusal_and_silence_are_told_apart(sold: Desk, server: TestServer) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    url = str(server.make_url("/"))
    async with AsyncWeighbridge(url, await token(sold, Scope.READ, org="acme")) as client:
        for call, status, code in (
            (client.quota("api", org="bolt"), 404, "no_such_organization"),
            (client.quota("nothing"), 404, "no_such_service"),
            (client.upgrade("pro"), 403, "scope_missing"),
        ):
            with pytest.raises(Refused) as refusal:
                await call
            assert (refusal.value.status, refusal.value.code) == (status, code)
    async with AsyncWeighbridge("http://127.0.0.1:1", "wbt_x", retries=0) as client:
        with pytest.raises(Unreachable):
            await client.quota("api")


async def test_work_is_held_to_a_quota_as_it_stands(sold: Desk, server: TestServer) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    async with AsyncWeighbridge(str(server.make_url("/")), await token(sold, Scope.READ)) as client:
        guard = AsyncGuard(client, rules=Rules(when_away="refuse"))
        assert await guard.check(Needs(quota="api", units=9_999), "acme") is None
        refusal = await guard.check(Needs(quota="api", units=2), "acme")
        assert refusal is not None
        assert (refusal.status, refusal.details["limit"]) == (429, "api-period")
