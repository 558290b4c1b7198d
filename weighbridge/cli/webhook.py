"""`weighbridge webhook`: Stripe's events as they came in, what became of them, and whether the endpoint works."""

import argparse
import asyncio
import json
import secrets
from typing import Any

import aiohttp

from billing.model.webhook import Status, sign
from billing.services.inbox import SecretMissing
from billing.services.ports_stripe import InboxRow
from billing.store.books import PostgresBooks
from billing.stripe.mirror.work import work_through
from metering.model.clock import isoformat
from metering.model.errors import DependencyUnavailable, WeighbridgeError

from .context import Context, add_folders
from .flush import stripe_of
from .output import add_format, show, show_rows

_LOOKS, _LOOK_SECONDS = 40, 0.25  # at what another process is working on

_COLUMNS = ("event_id", "type", "status", "received_at")
_TEST_TYPE = "customer.subscription.updated"


class WebhookFailed(WeighbridgeError):
    """The webhook was not processed."""

    code = "webhook_failed"


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("webhook", help="Stripe's events: list, show, test, retry").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    listed = _verb(verbs, "list", "events that came in, newest first", list_events)
    listed.add_argument("--status", choices=[status.value for status in Status])
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")
    _verb(verbs, "show", "one event, with what Stripe sent", show_event).add_argument("event_id")
    test = _verb(verbs, "test", "sign an event as Stripe does, send it to the endpoint, work it through", test_endpoint)
    test.add_argument("--url", metavar="URL", help="where the endpoint is (default: the control server's)")
    _verb(verbs, "retry", "work an event through again, now", retry_event).add_argument("event_id")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


async def list_events(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        found = await billing.inbox.all(options.limit, Status(options.status) if options.status else None)
    show_rows([_row(row) for row in found], _COLUMNS, options, empty="No events yet. weighbridge webhook test sends one.")
    return 0


async def show_event(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        row = await billing.inbox.show(options.event_id)
    payload = (row.payload.get("data") or {}).get("object", row.payload)
    lines = [
        f"Event: {row.event_id}",
        f"Type: {row.type}",
        f"Status: {row.status}" + (f" ({row.last_error})" if row.last_error else ""),
        f"Received: {_instant(row.received_at_ms)}",
        f"Processed: {_instant(row.processed_at_ms) if row.processed_at_ms is not None else '-'}",
        "Payload:",
        *json.dumps({payload.get("object", "object"): payload}, indent=2, ensure_ascii=False).splitlines(),
    ]
    show({**_row(row), "payload": row.payload}, options, lines=lines)
    return 0


async def retry_event(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        await billing.inbox.again(options.event_id)
    row = await _worked_through(options.event_id, context)
    lines = [f"Retrying webhook {row.event_id}...", f"✓ {_outcome(row)}"]
    show(_row(row), options, lines=lines)
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
    show({**_row(row), "url": url}, options, lines=lines)
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


async def _worked_through(event_id: str, context: Context) -> InboxRow:
    """Here and now, or by the aggregator that was faster. Raises WebhookFailed."""
    async with context.database() as pool, stripe_of(context, pool) as stripe, context.billing() as billing:
        if stripe is None:
            raise DependencyUnavailable("there is no Stripe to ask: set STRIPE_API_KEY, or run `weighbridge up`, which brings a sandbox")
        for _ in range(_LOOKS):
            await work_through(PostgresBooks(pool), stripe, billing.entitlements, context.clock, event_id=event_id)
            row = await billing.inbox.show(event_id)
            if row.status is not Status.RECEIVED or row.last_error:
                break
            await asyncio.sleep(_LOOK_SECONDS)  # the aggregator has it
    if row.status not in (Status.SUCCESS, Status.IGNORED):
        raise WebhookFailed(f"event {event_id} is {row.status}: {row.last_error or 'another process works on it, or on one before it'}")
    return row


def _outcome(row: InboxRow) -> str:
    return "Webhook processed successfully" if row.status is Status.SUCCESS else f"Webhook processed: {row.last_error}"


def _row(row: InboxRow) -> dict[str, Any]:
    return {
        "event_id": row.event_id, "type": row.type, "status": row.status.value, "received_at": _instant(row.received_at_ms),
        "processed_at": _instant(row.processed_at_ms) if row.processed_at_ms is not None else None, "object": row.object_id,
        "attempts": row.attempts, "error": row.last_error,
    }  # fmt: skip


def _instant(at_ms: int) -> str:
    return isoformat(at_ms)[:19].replace("T", " ")
