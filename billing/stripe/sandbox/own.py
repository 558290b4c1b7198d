"""The sandbox's own side, under /_sandbox: what it was told, what is to go wrong, and its clock. No key is asked for."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from billing.stripe.sandbox.cards import DECLINES
from billing.stripe.sandbox.deliveries import Mishap, wish_of
from billing.stripe.sandbox.faults import Fault, Kind
from billing.stripe.sandbox.own_settings import SETTINGS, setting

if TYPE_CHECKING:
    from billing.stripe.sandbox.server import Sandbox

Answer = Callable[[web.Request], Awaitable[web.Response]]


class OwnSide:
    """Routes of one sandbox."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    def register(self, router: web.UrlDispatcher) -> None:
        router.add_get("/_sandbox", self._about)
        router.add_get("/healthz", self._about)
        router.add_get("/_sandbox/events", self._meter_events)
        router.add_get("/_sandbox/requests", self._requests)
        router.add_get("/_sandbox/agenda", self._agenda)
        for path, get, post, delete in (
            ("faults", self._list_faults, self._add_fault, self._clear_faults),
            ("webhooks", self._list_webhooks, self._add_wish, self._clear_wishes),
        ):
            router.add_get(f"/_sandbox/{path}", get)
            router.add_post(f"/_sandbox/{path}", post)
            router.add_delete(f"/_sandbox/{path}", delete)
        router.add_get("/_sandbox/settings", self._settings)
        router.add_post("/_sandbox/settings", self._set)
        router.add_post("/_sandbox/cards", self._switch_card)
        router.add_post("/_sandbox/tick", self._tick)
        router.add_post("/_sandbox/advance", self._advance)

    async def _about(self, _request: web.Request) -> web.Response:
        return web.json_response(self._sandbox.about())

    async def _meter_events(self, request: web.Request) -> web.Response:
        wanted = {name: request.query[name] for name in ("customer", "event_name", "identifier") if name in request.query}
        events = [asdict(event) for event in self._sandbox.store.all_events()]
        return web.json_response({"data": [e for e in events if all(e[name] == value for name, value in wanted.items())]})

    async def _requests(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": self._sandbox.store.requests()})

    async def _agenda(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": self._sandbox.store.agenda()})

    async def _list_faults(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [asdict(fault) for fault in self._sandbox.faults.waiting]})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            given = await request.json()
            fault = Fault(**(given | {"kind": Kind(given["kind"])}))
        except (ValueError, TypeError, KeyError) as exc:
            return _refused(f"not a fault: {exc}; kinds: {', '.join(Kind)}")
        self._sandbox.faults.waiting.append(fault)
        return web.json_response(asdict(fault))

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._sandbox.faults.waiting.clear()
        return web.json_response({"data": []})

    async def _list_webhooks(self, _request: web.Request) -> web.Response:
        deliveries = [asdict(delivery) for delivery in self._sandbox.store.deliveries()]
        return web.json_response({"data": deliveries, "wishes": [asdict(wish) for wish in self._sandbox.deliverer.wishes]})

    async def _add_wish(self, request: web.Request) -> web.Response:
        try:
            wish = wish_of(await request.json())
        except (ValueError, TypeError, KeyError) as exc:
            return _refused(f"not a mishap: {exc}; kinds: {', '.join(Mishap)}")
        self._sandbox.deliverer.wishes.append(wish)
        return web.json_response(asdict(wish))

    async def _clear_wishes(self, _request: web.Request) -> web.Response:
        self._sandbox.deliverer.wishes.clear()
        return web.json_response({"data": []})

    async def _settings(self, _request: web.Request) -> web.Response:
        return web.json_response({name: setting(self._sandbox.store, name) for name in SETTINGS})

    async def _set(self, request: web.Request) -> web.Response:
        given = await request.json()
        if not isinstance(given, dict) or not set(given) <= set(SETTINGS):
            return _refused(f"settings are {', '.join(SETTINGS)}")
        if given.get("after_retries", "cancel") not in ("cancel", "unpaid", "past_due"):
            return _refused("after_retries is cancel, unpaid or past_due")
        for name, value in given.items():
            self._sandbox.store.set(name, value)
        return await self._settings(request)

    async def _switch_card(self, request: web.Request) -> web.Response:
        """{"payment_method" or "customer": id, "fails": a decline code or null, "times": how often or null}"""
        given = await request.json()
        code, store = given.get("fails"), self._sandbox.store
        if code is not None and code not in DECLINES:
            return _refused(f"fails is null or one of {', '.join(DECLINES)}")
        methods = store.of("payment_method", "customer", given["customer"]) if "customer" in given else []
        one = store.get("payment_method", given.get("payment_method", ""))
        found = methods + ([one] if one else [])
        for method in found:
            store.replace("payment_method", method | {"_fails": {"code": code, "times": given.get("times")} if code else None})
        return web.json_response({"switched": [method["id"] for method in found]}, status=200 if found else 404)

    async def _tick(self, _request: web.Request) -> web.Response:
        """Do what is due and deliver what waits, and answer when that is done."""
        self._sandbox.catch_up()
        delivered = await self._sandbox.deliverer.deliver_due()
        waiting = sum(delivery.state == "pending" for delivery in self._sandbox.store.deliveries())
        return web.json_response({"now": self._sandbox.now, "delivered": delivered, "waiting": waiting})

    async def _advance(self, request: web.Request) -> web.Response:
        """{"seconds": n}: only where the sandbox was given a clock that can be moved."""
        seconds = (await request.json()).get("seconds")
        advance = getattr(self._sandbox.clock, "advance", None)
        if advance is None or not isinstance(seconds, int) or seconds < 0:
            return _refused("seconds is a whole number, and the sandbox must run on a clock that can be moved; else use a test clock")
        advance(seconds)
        return await self._tick(request)


def _refused(sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=400)
