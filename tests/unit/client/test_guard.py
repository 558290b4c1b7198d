"""Checks before the work and usage behind it: the rules, the recorder, and the frameworks over both."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from fastapi import FastAPI, HTTPException

from gateway.identity import signature
from weighbridge_client import (
    AsyncGuard,
    AsyncRecorder,
    BufferFull,
    Event,
    Guard,
    Needs,
    Recorder,
    Refusal,
    Refused,
    Rules,
)
from weighbridge_client import aiohttp as for_aiohttp
from weighbridge_client import django as for_django
from weighbridge_client import fastapi as for_fastapi
from weighbridge_client.gateway import Signed

from .server import Control, problem, quota

NOW = datetime(2026, 2, 28, 11, tzinfo=UTC)
NEEDS = Needs(feature="exports", quota="api", records="exports")
ACME = {"X-Org-Id": "acme"}


def rules(**more: Any) -> Rules:
    return Rules(monotonic=lambda: 0.0, now=lambda: NOW, **more)


def check(control: Control, needs: Needs, org: str | None = "acme", headers: dict[str, str] | None = None, **more: Any) -> Refusal | None:
    return Guard(control.client(retries=0), rules=rules(**more)).check(needs, org, headers or {})


def code(refusal: Refusal | None) -> str | None:
    return refusal.code if refusal else None


# --- the rules --------------------------------------------------------------------------------------------------------


def test_a_feature_that_the_plan_has_not_is_a_403_that_names_the_plan() -> None:
    refusal = check(Control(), Needs(feature="sso"))
    assert refusal is not None
    assert (refusal.status, "the plan pro has it" in refusal.detail, json.loads(refusal.body())["details"]["required_plan"]) == (
        403, True, "pro",
    )  # fmt: skip
    assert check(Control(), Needs(feature="exports")) is None


HOURLY = {**quota(0)["limits"][0], "name": "api-hourly", "reset_at": "2026-02-28T11:30:00Z"}
DAILY = {**quota(3)["limits"][0], "name": "api-daily", "reset_at": "2026-03-01T00:00:00Z"}
QUOTAS = [  # answer, units, code of the refusal, seconds to come back
    (quota(5), 5, None, None),
    (quota(5), 6, "quota_exceeded", "3600"),
    (quota(0.3), 1, "quota_exceeded", "3600"),
    (quota(0, mode="soft"), 1, None, None),
    (quota(0, mode="overage"), 1, None, None),
    (quota(None), 10**9, None, None),
    (quota(90, limits=[HOURLY, DAILY]), 1, "quota_exceeded", "1800"),
    (quota(90, limits=[HOURLY, DAILY]), 4, "quota_exceeded", "46800"),
    (quota(0, limits=[]), 1, "quota_exceeded", "3600"),
]


@pytest.mark.parametrize(("answer", "units", "expected", "seconds"), QUOTAS)
def test_a_quota_that_blocks_and_has_not_enough_left_is_a_429(answer: Any, units: int, expected: str | None, seconds: str | None) -> None:
    refusal = check(Control([httpx.Response(200, json=answer)]), Needs(quota="api", units=units))
    assert (code(refusal), refusal.headers.get("Retry-After") if refusal else None) == (expected, seconds)


def test_a_kept_quota_is_less_by_what_passed_here_and_asked_again_in_time() -> None:
    control, at = Control(remaining=2), [0.0]
    guard = Guard(control.client(), rules=Rules(keep_seconds=10, monotonic=lambda: at[0], now=lambda: NOW))
    passed = [guard.check(Needs(quota="api"), "acme") is None for _ in range(4)]
    assert (passed, len(control.asked)) == ([True, True, False, False], 1)
    at[0], control.remaining = 10.0, 1
    assert guard.check(Needs(quota="api"), "acme") is None
    assert len(control.asked) == 2


AWAY = [httpx.ConnectError("refused"), problem(503, "x", "y"), problem(429, "x", "y"), httpx.Response(200, content=b"<html>")]


@pytest.mark.parametrize("said", AWAY)
def test_while_weighbridge_is_away_the_named_rule_decides(said: httpx.Response | Exception) -> None:
    for rule, expected in (("allow", None), ("refuse", "metering_unavailable")):
        assert code(check(Control([said]), NEEDS, when_away=rule)) == expected


def test_a_wrong_token_is_nobodys_rule_and_is_heard_of() -> None:
    with pytest.raises(Refused, match="revoked"):
        check(Control([problem(401, "unauthorized", "revoked")]), NEEDS)


def test_behind_the_gateway_features_are_read_from_its_header() -> None:
    control = Control()
    for header, key, allowed in (("exports, seats=10", "seats", True), ("exports", "seats", False), ("", "seats", False)):
        refusal = check(control, Needs(feature=key), headers={"x-org-features": header}, behind_gateway=True)
        assert (refusal is None) is allowed
    assert control.asked == []
    assert code(check(control, Needs(feature="sso"), headers={"x-org-features": "sso"})) == "feature_missing"  # anybody may say that


def test_nobody_has_no_features_and_no_quota() -> None:
    assert (code(check(Control(), NEEDS, None)), check(Control(), Needs(), None)) == ("unauthorized", None)


# --- the recorder -----------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_told_in_batches_for_each_organization_and_the_rest_at_the_end() -> None:
    control = Control()
    with Recorder(control.client(), every_seconds=3600) as recorder:
        for org, service in (("acme", "a"), ("bolt", "b"), ("acme", "c"), (None, "d")):
            recorder.record(Event(service=service), org=org)
    assert sorted(control.told(), key=lambda each: each[1]) == [("acme", "a", 1), ("bolt", "b", 1), ("acme", "c", 1), (None, "d", 1)]
    assert len(control.asked) == 3
    with pytest.raises(RuntimeError):
        recorder.record(Event(service="a"))


def test_a_program_that_ends_without_closing_tells_the_rest() -> None:
    program = (
        "from tests.unit.client.server import Control; from weighbridge_client import Event, Recorder\n"
        "class Loud(Control):\n"
        "    def handle(self, request): print('told', flush=True); return super().handle(request)\n"
        "Recorder(Loud().client(), every_seconds=3600).record(Event(service='a'))\n"
    )
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(root / "clients" / "python" / "src")])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_full_batch_is_told_before_its_time() -> None:
    control = Control()
    recorder = Recorder(control.client(), every_seconds=3600)
    for _ in range(1_000):
        recorder.record(Event(service="a"))
    while not control.asked:  # in its thread
        time.sleep(0.001)
    assert recorder.close() == 0
    assert len(control.told()) == 1_000


def test_a_batch_is_no_larger_than_a_request_may_be() -> None:
    control = Control()
    recorder = Recorder(control.client(), every_seconds=3600)
    for _ in range(900):
        recorder.record(Event(service="a", metadata={"note": "x" * 7_900}))
    recorder.flush()
    assert (len(control.told()), recorder.close()) == (900, 0)
    assert all(len(request.content) < 3_100_000 for request in control.asked)


def test_what_cannot_be_told_is_not_taken() -> None:
    recorder = Recorder(Control().client(), every_seconds=3600)
    with pytest.raises(TypeError):
        recorder.record(Event(service="a", metadata={"note": object()}))
    assert recorder.close() == 0


def test_what_could_not_be_told_waits_and_is_told_once() -> None:
    control = Control([httpx.ReadTimeout("slow"), problem(401, "unauthorized", "no")])
    rejected: list[str] = []
    recorder = Recorder(control.client(retries=0), every_seconds=3600, on_rejected=lambda _org, event, _why: rejected.append(event.service))
    recorder.record(Event(service="a"))
    recorder.record(Event(service="nothing"))
    for expected in ("slow", "no"):
        with pytest.raises(Exception, match=expected):
            recorder.flush()
        assert recorder.waiting == 2
    recorder.flush()
    assert (recorder.waiting, rejected, recorder.close()) == (0, ["nothing"], 0)
    keys = {tuple(event["idempotency_key"] for event in json.loads(request.content)["events"]) for request in control.asked}
    assert len(keys) == 1


def test_a_batch_that_will_never_be_taken_holds_up_no_other() -> None:
    control = Control([problem(404, "no_such_organization", "gone")])
    rejected: list[tuple[str | None, str]] = []
    recorder = Recorder(control.client(), every_seconds=3600, on_rejected=lambda org, _event, why: rejected.append((org, why)))
    for org in ("gone", "acme"):
        recorder.record(Event(service="a"), org=org)
    recorder.flush()
    assert (rejected, control.told()[-1][0], recorder.close()) == ([("gone", "gone")], "acme", 0)


def test_no_more_waits_than_was_said() -> None:
    recorder = Recorder(Control([httpx.ConnectError("x")] * 9).client(retries=0), every_seconds=3600, most=2)
    for _ in range(2):
        recorder.record(Event(service="a"))
    with pytest.raises(BufferFull):
        recorder.record(Event(service="a"))
    assert recorder.close() == 2


async def test_the_awaiting_recorder_tells_the_rest_at_its_end() -> None:
    control = Control([httpx.ReadTimeout("slow")])
    async with AsyncRecorder(control.async_client(retries=0), every_seconds=0.001) as recorder:
        recorder.record(Event(service="a"), org="acme")
        while recorder.waiting:
            await asyncio.sleep(0.001)
        recorder.record(Event(service="b"), org="acme")
    assert [service for _, service, _ in control.told()] == ["a", "a", "b"]
    away = AsyncRecorder(Control([httpx.ConnectError("x")]).async_client(retries=0))
    away.record(Event(service="a"))
    assert await away.close() == 1


# --- the frameworks ---------------------------------------------------------------------------------------------------


async def test_aiohttp_handlers_are_guarded_and_recorded_where_they_succeed() -> None:
    control = Control()
    recorder = AsyncRecorder(control.async_client())
    gate = for_aiohttp.Gate(AsyncGuard(control.async_client(), recorder, rules()))

    @gate.needs(feature="exports", records="exports", quantity=3)
    async def export(request: web.Request) -> web.Response:
        return web.Response(status=int(request.query.get("status", "200")))

    async def plain(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[gate.middleware(lambda r: Needs(feature="sso") if r.path == "/sso" else None)])
    app.router.add_get("/export", export)
    app.router.add_get("/sso", plain)
    app.router.add_get("/free", plain)
    async with TestClient(TestServer(app)) as client:
        found = [
            (await client.get(path, headers=headers)).status
            for path, headers in (("/export", ACME), ("/export?status=400", ACME), ("/export", {}), ("/sso", ACME), ("/free", {}))
        ]
        refused = await client.get("/sso", headers=ACME)
        assert (refused.content_type, (await refused.json())["code"]) == ("application/problem+json", "feature_missing")
    assert found == [200, 400, 401, 403, 200]
    await recorder.close()
    assert control.told() == [("acme", "exports", 3)]


async def test_fastapi_routes_are_guarded_and_recorded_where_they_succeed() -> None:
    control = Control()
    recorder = AsyncRecorder(control.async_client())
    gate = for_fastapi.Gate(AsyncGuard(control.async_client(), recorder, rules()))
    app = FastAPI()
    gate.install(app)
    app.add_middleware(for_fastapi.GateMiddleware, gate=gate, needs_of=lambda s: Needs(records="calls") if s["path"] == "/asgi" else None)

    @app.get("/export", dependencies=[gate.needs(feature="exports", records="exports")])
    async def export(fail: bool = False) -> dict[str, bool]:
        if fail:
            raise HTTPException(409)
        return {"done": True}

    @app.get("/sso", dependencies=[gate.needs(feature="sso", records="exports")])
    async def sso() -> None:
        raise AssertionError("it was let through")

    @app.get("/asgi")
    async def asgi(fail: bool = False) -> None:
        if fail:
            raise HTTPException(404)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        paths = ["/export", "/export?fail=true", "/sso", "/asgi", "/asgi?fail=true"]
        assert [(await client.get(path, headers=ACME)).status_code for path in paths] == [200, 409, 403, 200, 404]
        refused = await client.get("/export")
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    await recorder.close()
    assert sorted(control.told()) == [("acme", "calls", 1), ("acme", "exports", 1)]


@pytest.fixture
def factory() -> RequestFactory:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], USE_TZ=True)
        django.setup()
    return RequestFactory()


async def test_django_views_are_guarded_and_recorded_where_they_succeed(factory: RequestFactory) -> None:
    control = Control()
    recorder = Recorder(control.client(), every_seconds=3600)
    gate = for_django.Gate(Guard(control.client(), recorder, rules()))

    @gate.needs(feature="exports", records="exports")
    def export(_request: HttpRequest, status: int = 200) -> HttpResponse:
        return HttpResponse(status=status)

    @gate.needs(feature="exports", records="awaited")
    async def awaited(_request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    metered = gate.middleware(lambda r: Needs(feature="sso") if r.path == "/sso" else None)(lambda _r: HttpResponse())
    acme, nobody = factory.get("/", headers=ACME), factory.get("/")
    assert [export(acme).status_code, export(acme, status=404).status_code, export(nobody).status_code] == [200, 404, 401]
    assert [(await awaited(request)).status_code for request in (acme, nobody)] == [200, 401]
    found = [metered(factory.get(path, headers=ACME)) for path in ("/sso", "/free")]
    assert (found[0].status_code, found[0]["Content-Type"]) == (403, "application/problem+json")
    assert (found[1].status_code, recorder.close()) == (200, 0)
    assert sorted(service for _, service, _ in control.told()) == ["awaited", "exports"]


async def test_a_caller_that_the_gateway_did_not_sign_is_nobody(factory: RequestFactory) -> None:
    signed, org = Signed("secret", now=lambda: 1_770_000_000), [(b"X-Org-Id", b"acme")]
    target = b"/v1/x?a=1"
    good = {
        name.decode(): value.decode()
        for name, value in (*org, (b"X-Request-Id", b"r"), signature(b"secret", 1_770_000_000, org, b"r", "GET", target))
    }
    aio = AsyncGuard(Control().async_client(), rules=rules())
    seen: list[str | None] = []

    async def view(request: web.Request) -> web.Response:
        seen.append(for_aiohttp.org_signed(signed)(request))
        return web.Response()

    app, api = web.Application(), FastAPI()
    app.router.add_get("/v1/x", view)
    gate = for_fastapi.Gate(aio, org=for_fastapi.org_signed(signed))
    api.add_middleware(for_fastapi.GateMiddleware, gate=gate, needs_of=lambda _scope: Needs(feature="exports"))
    api.get("/v1/x")(lambda: None)
    async with TestClient(TestServer(app)) as client, httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://a") as asgi:
        for headers in (good, {**good, "X-Org-Id": "bolt"}):
            await client.get(target.decode(), headers=headers)
            seen.append(str((await asgi.get(target.decode(), headers=headers)).status_code))
            seen.append(for_django.org_signed(signed)(factory.get(target.decode(), headers=headers)))
    assert seen == ["acme", "200", "acme", None, "401", None]


def test_work_that_records_needs_somebody_who_does() -> None:
    with pytest.raises(RuntimeError, match="recorder"):
        Guard(Control().client()).done(replace(NEEDS, quantity=2), "acme")
