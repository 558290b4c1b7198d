"""Events on their way out: signed as Stripe signs them, tried again with growing pauses, and led astray on demand.

Stripe retries for three days in live mode and a few hours in test mode; here the pauses are RETRY_AFTER_SECONDS, by the
sandbox's clock, and an event that was refused each time stays undelivered (GET /v1/events?delivery_success=false).
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from billing.stripe.sandbox.resources.base import Body, Call
from billing.stripe.sandbox.resources.shown import public, shown
from billing.stripe.sandbox.store import Delivery, Store

RETRY_AFTER_SECONDS = (5, 30, 120, 600, 3600, 10_800, 28_800, 86_400, 86_400)
_ANSWER_WITHIN_SECONDS = 10.0
_IDLE_SECONDS = 0.5
_KEPT_OF_ANSWER = 300


class Mishap(StrEnum):
    """What can be made to happen to the next deliveries (POST /_sandbox/webhooks)."""

    DUPLICATE = "duplicate"  # sent twice
    REVERSE = "reverse"  # all that wait together are sent in reverse order
    LOSE = "lose"  # not sent at all, noted as refused; the retries are as usual
    BAD_SIGNATURE = "bad_signature"  # signed with a secret that is not the endpoint's
    STALE = "stale"  # signed with a time stamp an hour old
    FUTURE = "future"  # signed with a time stamp an hour ahead


_SKEW = {Mishap.STALE: -3600, Mishap.FUTURE: 3600}


@dataclass(slots=True, kw_only=True)
class Wish:
    """`times` deliveries go wrong like this; `type` picks events of one type."""

    kind: Mishap
    times: int = 1
    type: str | None = None


def signature(payload: bytes, secret: str, timestamp: int) -> str:
    """The Stripe-Signature header of a payload (docs.stripe.com, "Verify manually")."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


@dataclass
class Deliverer:
    """Sends what waits. `now` gives Unix seconds of the sandbox's clock."""

    store: Store
    now: Callable[[], int]
    wishes: list[Wish] = field(default_factory=list)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _session: aiohttp.ClientSession | None = None

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.deliver_due()
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._wake.wait()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def deliver_due(self) -> int:
        """Try everything that is due, each endpoint's in order; how many were taken."""
        async with self._lock:
            waiting: dict[str, list[Delivery]] = {}
            for delivery in self.store.deliveries(due_by=self.now()):
                waiting.setdefault(delivery.endpoint, []).append(delivery)
            taken = await asyncio.gather(*(self._to_endpoint(endpoint, queue) for endpoint, queue in waiting.items()))
            return sum(taken)

    async def _to_endpoint(self, endpoint_id: str, queue: list[Delivery]) -> int:
        endpoint = self.store.get("webhook_endpoint", endpoint_id)
        if endpoint is None or endpoint["status"] != "enabled":
            return 0
        if len(queue) > 1 and self._take(Mishap.REVERSE, None):
            queue = queue[::-1]
        return sum([await self._deliver(endpoint, delivery) for delivery in queue])

    async def _deliver(self, endpoint: Body, delivery: Delivery) -> bool:
        event = self.store.get("event", delivery.event)
        assert event is not None
        payload = json.dumps(public(shown(Call(self.store, {}, {}, self.now()), event)), indent=2).encode()
        for mishap in (Mishap.LOSE, Mishap.BAD_SIGNATURE, Mishap.STALE, Mishap.FUTURE):
            if self._take(mishap, event["type"]):
                break
        else:
            mishap = Mishap.DUPLICATE if self._take(Mishap.DUPLICATE, event["type"]) else None  # type: ignore[assignment]
        if mishap is Mishap.LOSE:
            return self._noted(delivery, ok=False, answer="not sent: asked to lose it")
        ok, answer = await self._sent(endpoint, payload, mishap)
        if mishap is Mishap.DUPLICATE:
            await self._sent(endpoint, payload, None)
        return self._noted(delivery, ok=ok, answer=answer)

    def _take(self, kind: Mishap, event_type: str | None) -> bool:
        for wish in self.wishes:
            if wish.kind is kind and wish.type in (None, event_type):
                wish.times -= 1
                if wish.times <= 0:
                    self.wishes.remove(wish)
                return True
        return False

    async def _sent(self, endpoint: Body, payload: bytes, mishap: Mishap | None) -> tuple[bool, str]:
        """Whether the endpoint answered 2xx, and what it said."""
        secret = "whsec_of_nobody" if mishap is Mishap.BAD_SIGNATURE else endpoint["_secret"]
        stamp = self.now() + (_SKEW.get(mishap, 0) if mishap else 0)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(payload, secret, stamp),
            "User-Agent": "Weighbridge-Stripe-Sandbox/1.0",
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN_SECONDS))
        try:
            async with self._session.post(endpoint["url"], data=payload, headers=headers, allow_redirects=False) as answer:
                text = (await answer.content.read(_KEPT_OF_ANSWER)).decode("utf-8", "replace")
                return 200 <= answer.status < 300, f"{answer.status} {text}".strip()
        except (aiohttp.ClientError, TimeoutError) as exc:
            return False, f"no answer: {type(exc).__name__}"

    def _noted(self, delivery: Delivery, *, ok: bool, answer: str) -> bool:
        if ok:
            self.store.note_delivery(delivery.seq, state="delivered", due=delivery.due, answer=answer)
            return True
        last = delivery.attempts >= len(RETRY_AFTER_SECONDS)
        pause = 0 if last else RETRY_AFTER_SECONDS[delivery.attempts]
        self.store.note_delivery(delivery.seq, state="failed" if last else "pending", due=self.now() + pause, answer=answer)
        return False


def wish_of(given: Any) -> Wish:
    """Raises ValueError, TypeError or KeyError for what is no wish."""
    return Wish(**(given | {"kind": Mishap(given["kind"])}))
