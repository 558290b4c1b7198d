"""`weighbridge webhook`: Stripe's events as they came in, what became of them, and whether the endpoint works."""

import argparse
import asyncio
import json
import secrets
from datetime import datetime
from typing import Any

import aiohttp

from billing.model.webhook import Status, sign
from billing.operations import inbox as operations
from billing.services.inbox import SecretMissing
from billing.store.books import PostgresBooks
from billing.stripe.mirror.work import work_through
from metering.model.errors import BadInput, DependencyUnavailable, WeighbridgeError

from .context import Context
from .flush import stripe_of
from .output import row_of, show_answer, show_list
from .pages import ask_pages
from .verbs import nouns_verbs, verb
from .words import moment

_LOOKS, _LOOK_SECONDS = 40, 0.25  # at what another process is working on

_COLUMNS = ("event_id", "type", "status", "received_at")
_TEST_TYPE = "customer.subscription.updated"


class WebhookFailed(WeighbridgeError):
    """The webhook was not processed."""

    code = "webhook_failed"


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "webhook", "Stripe's events: list, show, test, retry")
    about = "events that came in, newest first"
    listed = verb(verbs, "list", about, list_events, org=False, example="weighbridge webhook list --status failed")
    listed.add_argument("--status", choices=[status.value for status in Status])
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")
    about = "one event, with what Stripe sent"
    verb(verbs, "show", about, show_event, org=False, example="weighbridge webhook show evt_1PqKXYZ").add_argument("event_id")
    about = "sign an event as Stripe does, send it to the endpoint, work it through"
    test = verb(verbs, "test", about, test_endpoint, org=False, example="weighbridge webhook test")
    test.add_argument("--url", metavar="URL", help="where the endpoint is (default: the control server's)")
    about = "work an event through again, now"
    verb(verbs, "retry", about, retry_event, org=False, example="weighbridge webhook retry evt_1PqKXYZ").add_argument("event_id")


async def list_events(options: argparse.Namespace, context: Context) -> int:
    if options.limit < 1:
        raise BadInput("--limit is at least 1")
    ask = operations.AskEvents(status=Status(options.status) if options.status else None)
    found = await ask_pages(context, operations.list_all, ask, "events", most=options.limit)
    rows = [{**row_of(row), "received_at": _instant(row.received_at)} for row in found.events]
    show_list(found, rows, _COLUMNS, options, empty="No events yet. weighbridge webhook test sends one.")
    return 0


async def show_event(options: argparse.Namespace, context: Context) -> int:
    row = await context.ask(operations.show, operations.WhichEvent(event_id=options.event_id))
    payload = (row.payload.get("data") or {}).get("object", row.payload)
    lines = [
        f"Event: {row.event_id}",
        f"Type: {row.type}",
        f"Status: {row.status}" + (f" ({row.error})" if row.error else ""),
        f"Received: {_instant(row.received_at)}",
        f"Processed: {_instant(row.processed_at) if row.processed_at is not None else '-'}",
        "Payload:",
        *json.dumps({payload.get("object", "object"): payload}, indent=2, ensure_ascii=False).splitlines(),
    ]
    show_answer(row, options, lines=lines)
    return 0


async def retry_event(options: argparse.Namespace, context: Context) -> int:
    await context.ask(operations.retry, operations.WhichEvent(event_id=options.event_id))
    row = await _worked_through(options.event_id, context)
    lines = [f"Retrying webhook {row.event_id}...", f"✓ {_outcome(row)}"]
    show_answer(row, options, lines=lines)
    return 0


async def test_endpoint(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings
    if not settings.stripe_webhook_secrets:
        raise SecretMissing()
    url = options.url or (context.running or {}).get("control") or f"http://{settings.control_host}:{settings.control_port}"
    url = url if url.endswith("/webhooks/stripe") else f"{url.rstrip('/')}/webhooks/stripe"
    event_id = f"evt_test_{secrets.token_hex(8)}"
    body = json.dumps(_test_event(event_id, context.clock.now_ms() // 1000, live=settings.stripe_mode == "live")).encode()
    await _send(url, body, sign(body, settings.stripe_webhook_secrets[0], context.clock.now_ms() // 1000))
    row = await _worked_through(event_id, context)
    mode = "live mode" if settings.stripe_mode == "live" else "test mode"
    lines = [
        "Testing webhook endpoint...", "✓ Webhook signature verified", "✓ Event processed successfully",
        f"Test event: {_TEST_TYPE} ({mode})",
    ]  # fmt: skip
    show_answer(row, options, lines=lines)
    return 0


def _test_event(event_id: str, now: int, *, live: bool) -> dict[str, Any]:
    """About a subscription that there is not: it changes nothing."""
    about = {"id": "sub_weighbridge_test", "object": "subscription"}
    return {"id": event_id, "object": "event", "type": _TEST_TYPE, "created": now, "livemode": live, "data": {"object": about}}


async def _send(url: str, body: bytes, signature: str) -> None:
    """Raises WebhookFailed, DependencyUnavailable."""
    headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=15)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200 or json.loads(text) != {"received": True}:
                raise WebhookFailed(f"{url} answered {answer.status}: {text[:300]}")
    except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
        raise DependencyUnavailable(f"the endpoint {url} cannot be used: {exc or type(exc).__name__}. Is control running?") from exc


async def _worked_through(event_id: str, context: Context) -> operations.EventAnswer:
    """Here and now, or by the aggregator: where it was faster, and by a token. Raises WebhookFailed."""
    for _ in range(_LOOKS):
        if context.own_settings.token is None:
            await _work(event_id, context)
        row = await context.ask(operations.show, operations.WhichEvent(event_id=event_id))
        if row.status is not Status.RECEIVED or row.error:
            break
        await asyncio.sleep(_LOOK_SECONDS)  # the aggregator has it
    if row.status not in (Status.SUCCESS, Status.IGNORED):
        raise WebhookFailed(f"event {event_id} is {row.status}: {row.error or 'another process works on it, or on one before it'}")
    return row


async def _work(event_id: str, context: Context) -> None:
    async with context.database() as pool, stripe_of(context, pool) as stripe, context.billing() as billing:
        if stripe is None:
            raise DependencyUnavailable("there is no Stripe to ask: set STRIPE_API_KEY, or run `weighbridge up`, which brings a sandbox")
        await work_through(PostgresBooks(pool), stripe, billing.entitlements, context.clock, event_id=event_id)


def _outcome(row: operations.EventAnswer) -> str:
    return "Webhook processed successfully" if row.status is Status.SUCCESS else f"Webhook processed: {row.error}"


def _instant(at: datetime) -> str:
    return moment(at)[:19].replace("T", " ")
