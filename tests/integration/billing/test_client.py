"""The Python client against a control server."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from aiohttp.test_utils import TestServer

from billing.model.plan import Feature as PlanFeature
from billing.model.token import Scope
from metering.model.clock import to_datetime
from weighbridge_client import AsyncGuard, AsyncRecorder, AsyncWeighbridge, Event, Needs, Refused, Rules, Unreachable, Weighbridge

from .conftest import FREE, PRO, Desk
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


async def test_a_feature_is_checked_with_the_plan_that_has_it(sold: Desk, server: TestServer) -> None:
    seats = (PlanFeature(key="sso", label="Single sign-on"), PlanFeature(key="seats", label="Seats", number=3))
    await sold.billing.plans.apply({"free": FREE, "pro": replace(PRO, features=seats)}, {})
    for name, plan in (("Acme", "pro"), ("Bolt", "free")):
        await sold.billing.orgs.create(name, plan=plan)
    async with AsyncWeighbridge(str(server.make_url("/")), await token(sold, Scope.READ)) as client:
        has, lacks, unknown = [
            await client.feature(key, org=org) for key, org in (("seats", "acme"), ("sso", "bolt"), ("odd/key ?", "acme"))
        ]
        assert (has.allowed, has.number, has.label) == (True, 3, "Seats")
        assert (lacks.allowed, lacks.required_plan) == (False, "pro")
        assert (unknown.allowed, unknown.required_plan) == (False, None)
        guard = AsyncGuard(client)
        refusal = await guard.check(Needs(feature="sso"), "bolt")
        assert refusal is not None
        assert (refusal.status, await guard.check(Needs(feature="sso"), "acme")) == (403, None)


async def test_work_is_held_to_a_quota_as_it_stands(sold: Desk, server: TestServer) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    async with AsyncWeighbridge(str(server.make_url("/")), await token(sold, Scope.READ)) as client:
        guard = AsyncGuard(client, rules=Rules(when_away="refuse"))
        assert await guard.check(Needs(quota="api", units=9_999), "acme") is None
        refusal = await guard.check(Needs(quota="api", units=2), "acme")
        assert refusal is not None
        assert (refusal.status, refusal.details["limit"]) == (429, "api-period")


async def test_recorded_usage_counts_once_however_often_it_is_told(sold: Desk, server: TestServer) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    at = to_datetime(sold.clock.now_ms())
    async with AsyncWeighbridge(str(server.make_url("/")), await token(sold, Scope.BILLING)) as client:
        event = Event(service="api", quantity=30, timestamp=at, metadata={"job": "a"})
        assert [(await client.record(event, org="acme")).status for _ in range(2)] == ["accepted", "duplicate"]
        with pytest.raises(Refused, match="nothing"):
            await client.record(Event(service="nothing", timestamp=at), org="acme")
        rejected: list[str] = []
        recorder = AsyncRecorder(client, on_rejected=lambda _org, each, _why: rejected.append(each.service))
        guard = AsyncGuard(client, recorder)
        for service, org in (("api", "acme"), ("nothing", "acme"), ("api", "bolt")):
            recorder.record(Event(service=service, quantity=Decimal(4), timestamp=at), org=org)
        assert (await recorder.close(), rejected) == (0, ["nothing"])
        assert [(await client.quota("api", org=org)).current_usage for org in ("acme", "bolt")] == [34, 4]
        assert await guard.check(Needs(quota="api", units=9_967), "acme") is not None
