"""The sandbox's HTTP side: who asks, what goes wrong on demand, what was answered to this idempotency key before.

Stripe's own paths are under /v1; what belongs to the sandbox is under /_sandbox (own.py). All work of one request happens
between two awaits and in one transaction, so requests are served one after another. What fell due since the last one
(work.py) is done first; events are sent out beside (deliveries.py).
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from billing.stripe.sandbox import spec
from billing.stripe.sandbox.deliveries import Deliverer
from billing.stripe.sandbox.errors import Declined, Refusal
from billing.stripe.sandbox.faults import Fault, Faults, Kind
from billing.stripe.sandbox.own import OwnSide
from billing.stripe.sandbox.pages import Pages
from billing.stripe.sandbox.params import read
from billing.stripe.sandbox.resources import HANDLERS, Call
from billing.stripe.sandbox.resources.shown import answer
from billing.stripe.sandbox.store import Reply, Store, new_id
from billing.stripe.sandbox.work import catch_up
from metering.model.clock import Clock, SystemClock

NOTICE = "Weighbridge's Stripe sandbox: no money moves, and this is not Stripe."
_REPLIES_LAST_SECONDS = 24 * 3600
_MOST_BODY = 1 << 20
_TICK_SECONDS = 1.0
_ERROR = {"error": {"message": "An unknown error occurred (a fault that was asked for).", "type": "api_error"}}


class Sandbox:
    """One sandbox on one state. `app` serves it."""

    def __init__(self, state: Path | None = None, clock: Clock | None = None) -> None:
        self.store = Store(state)
        self.faults = Faults()
        self.clock = clock or SystemClock()
        self.deliverer = Deliverer(self.store, lambda: self.now)
        self._spec = spec.load()
        self.app = web.Application(client_max_size=_MOST_BODY)
        self.app.cleanup_ctx.append(self._beside)
        OwnSide(self).register(self.app.router)
        Pages(self).register(self.app.router)
        self.app.router.add_route("*", "/{path:.*}", self._stripe)

    @property
    def now(self) -> int:
        return self.clock.now_ms() // 1000

    def about(self) -> dict[str, Any]:
        return {"what": NOTICE, "stripe_spec": self._spec.version, "now": self.now}

    def catch_up(self) -> None:
        """Do what fell due."""
        with self.store.transaction():
            catch_up(self.store, self.now)
        self.deliverer.wake()

    def act(self, work: Callable[[Call], dict[str, Any]]) -> dict[str, Any]:
        """What one of the sandbox's own pages does, in one transaction. A card that says no leaves its traces."""
        self.catch_up()
        with self.store.transaction():
            try:
                return work(Call(self.store, {}, {}, self.now, wall=self.now))
            except Declined as exc:
                declined = exc
            finally:
                self.deliverer.wake()
        raise declined

    async def _beside(self, _app: web.Application) -> AsyncIterator[None]:
        """While the sandbox serves: time passes, and events go out."""
        tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self.deliverer.run())]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.deliverer.close()

    async def _tick(self) -> None:
        while True:
            self.catch_up()
            await asyncio.sleep(_TICK_SECONDS)

    # Stripe's side

    async def _stripe(self, request: web.Request) -> web.StreamResponse:
        text = (await request.read()).decode("utf-8", "replace")
        pairs = parse_qsl(request.query_string, keep_blank_values=True) + parse_qsl(text, keep_blank_values=True)
        request_id, key = new_id("req"), request.headers.get("Idempotency-Key")
        fault: Fault | None = None
        replayed = False
        try:
            self._authenticate(request)
            fault = self.faults.take(request.method, request.path)
            if fault is not None and fault.kind is Kind.TIMEOUT_BEFORE:
                return await self._drop(request, fault)
            status, body, replayed = self._served(request, pairs, key if request.method == "POST" else None, fault)
        except Refusal as refusal:
            status, body = refusal.status, refusal.envelope()
            self._note(request, pairs, key, f"{status} {refusal.message}")
        if fault is not None and fault.kind is Kind.TIMEOUT_AFTER:
            return await self._drop(request, fault)
        return web.json_response(body, status=status, headers=self._headers(request, request_id, key, replayed))

    def _served(
        self, request: web.Request, pairs: list[tuple[str, str]], key: str | None, fault: Fault | None
    ) -> tuple[int, dict[str, Any], bool]:
        """Status, body, and whether it is a stored reply once more."""
        if fault is not None and fault.kind is Kind.RATE_LIMIT:
            raise Refusal("Request rate limit exceeded (a fault that was asked for).", code="rate_limit", status=429)
        fingerprint = _fingerprint(request.method, request.path, pairs)
        if key is not None and (stored := self._stored(key, fingerprint)):
            self._note(request, pairs, key, f"{stored.status} replayed")
            return stored.status, json.loads(stored.body), True
        if fault is not None and fault.kind is Kind.SERVER_ERROR:
            self._note(request, pairs, key, "500 fault")
            return 500, _ERROR, False
        self.catch_up()
        with self.store.transaction():
            status, body = self._answer(request, pairs, fault, key)
            if key is not None:
                self.store.keep_reply(key, Reply(fingerprint, status, json.dumps(body), self.now))
            self._note(request, pairs, key, str(status) if status == 200 else f"{status} {body['error']['message']}")
        self.deliverer.wake()
        return status, body, False

    def _stored(self, key: str, fingerprint: str) -> Reply | None:
        self.store.forget_replies_before(self.now - _REPLIES_LAST_SECONDS)
        reply = self.store.reply(key)
        if reply is not None and reply.fingerprint != fingerprint:
            raise Refusal(
                f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key}' if you meant to execute a different request.",
                kind="idempotency_error",
            )
        return reply

    def _answer(
        self, request: web.Request, pairs: list[tuple[str, str]], fault: Fault | None, key: str | None
    ) -> tuple[int, dict[str, Any]]:
        """What the operation says. Parameters that break the schema raise, so they are not stored; what it refuses itself is.

        A refusal undoes what the operation did, but for a card that said no: that try is kept, as at Stripe.
        """
        found = self._spec.match(request.method, request.path)
        if found is None or found[0].id not in HANDLERS:
            raise Refusal(
                f"Unrecognized request URL ({request.method}: {request.path}), or one that the sandbox does not imitate.", status=404
            )
        operation, path = found
        call = Call(
            self.store, path, read(pairs, operation.accepts), self.now, request.path, wall=self.now, request_id=new_id("req"), key=key
        )
        if fault is not None and fault.kind is Kind.STORED_ERROR:
            return 500, _ERROR
        try:
            with self.store.savepoint():
                try:
                    body = answer(call, HANDLERS[operation.id](call))
                except Declined as declined:
                    return declined.status, declined.envelope()
        except Refusal as refusal:
            return refusal.status, refusal.envelope()
        return (500, _ERROR) if fault is not None and fault.kind is Kind.STORED_ERROR_AFTER else (200, body)

    def _authenticate(self, request: web.Request) -> None:
        key = _key_of(request.headers.get("Authorization", ""))
        if not key:
            raise Refusal("You did not provide an API key. Any sk_test_… key does.", status=401)
        if "_live_" in key:
            raise Refusal(
                "This is a live key, and this is a sandbox, not Stripe. Nothing was done. Do not send live keys anywhere else.", status=403
            )
        if not key.startswith(("sk_test_", "rk_test_")):
            raise Refusal("Invalid API Key provided: the sandbox takes any sk_test_… key.", status=401)

    def _headers(self, request: web.Request, request_id: str, key: str | None, replayed: bool) -> dict[str, str]:
        headers = {"Request-Id": request_id, "Stripe-Version": request.headers.get("Stripe-Version", self._spec.version)}
        headers["X-Weighbridge-Sandbox"] = "no money moves"
        if key is not None:
            headers["Idempotency-Key"] = key
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return headers

    async def _drop(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """Never answer: hold the connection, then close it."""
        await asyncio.sleep(fault.hold_seconds)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # goes nowhere: the connection is gone

    def _note(self, request: web.Request, pairs: list[tuple[str, str]], key: str | None, outcome: str) -> None:
        self.store.note_request(self.now, request.method, request.path, json.dumps(dict(pairs)), key, outcome)


def _fingerprint(method: str, path: str, pairs: list[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([method, path, sorted(pairs)]).encode()).hexdigest()


def _key_of(authorization: str) -> str:
    """The API key of a bearer or basic header; empty where there is none."""
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credential.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credential).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


async def serve(sandbox: Sandbox, host: str, port: int) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Start serving; returns the base URL and how to stop. Port 0 takes a free one."""
    runner = web.AppRunner(sandbox.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound_host, bound_port = runner.addresses[0][:2]
    url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    sandbox.store.set("url", url)  # of its own pages

    async def stop() -> None:
        await runner.cleanup()
        sandbox.store.close()

    return url, stop
