"""Stripe, or the sandbox in its place: the only importer of the SDK.

Objects go in and out as plain dicts. Every failure leaves as StripeCallFailed, which says what it means for delivery:
surely not accepted, refused, a duplicate, or perhaps accepted.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import aiohttp
import stripe
from stripe import AIOHTTPClient, StripeClient

from billing.model.delivery import Outcome
from billing.services.ports_stripe import StripeFailed
from metering.model.errors import BadInput

SANDBOX_KEY = "sk_test_weighbridge_sandbox"  # the sandbox takes any test key
_STRIPE = "https://api.stripe.com"
_CONNECT_SECONDS = 5.0


class LiveKeyElsewhere(BadInput):
    """STRIPE_API_KEY is a live key, and STRIPE_API_BASE is not Stripe: the key is not sent there."""

    code = "live_key_elsewhere"


class StripeCallFailed(StripeFailed):
    """A call to Stripe did not succeed. `outcome` says what that means for what was to be told."""

    def __init__(
        self, message: str, outcome: Outcome, *, status: int | None = None, error_code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.outcome, self.status, self.error_code, self.param = outcome, status, error_code, param
        self.replayed = False
        self.decline_code: str | None = None  # the bank's word
        self.payment_id: str | None = None  # the PaymentIntent that was declined


class Resource(StrEnum):
    """What Weighbridge keeps at Stripe. The values are the names of the SDK's services."""

    CUSTOMER = "customers"
    PRODUCT = "products"
    PRICE = "prices"
    SUBSCRIPTION = "subscriptions"
    METER = "billing.meters"
    METER_EVENT = "billing.meter_events"
    INVOICE = "invoices"
    INVOICE_ITEM = "invoice_items"
    PAYMENT_METHOD = "payment_methods"
    PAYMENT_INTENT = "payment_intents"
    REFUND = "refunds"
    CHECKOUT_SESSION = "checkout.sessions"
    PORTAL_SESSION = "billing_portal.sessions"
    COUPON = "coupons"
    TAX_RATE = "tax_rates"
    EVENT = "events"
    WEBHOOK_ENDPOINT = "webhook_endpoints"


class StripeApi:
    """One account at Stripe, or one sandbox. Close it when done."""

    def __init__(self, *, api_key: str, api_base: str | None = None, timeout_seconds: float = 30.0) -> None:
        base = (api_base or _STRIPE).rstrip("/")
        if "_live_" in api_key and base != _STRIPE:
            raise LiveKeyElsewhere()
        # The SDK ignores a timeout given per request; it is the HTTP client's.
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        self._http = AIOHTTPClient(timeout=timeout)
        # No retries inside the SDK: the outbox retries by its own rules, which survive a crash and know of identifiers.
        self._client = StripeClient(
            api_key,
            base_addresses={"api": base, "meter_events": base} if api_base else None,
            max_network_retries=0,
            http_client=self._http,
        )

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create(self, resource: Resource, params: Mapping[str, Any], *, key: str, tries: int = 1) -> dict[str, Any]:
        """Create an object. Raises StripeCallFailed.

        The idempotency key is `key`, the parameters and a number. The same call made again gets the stored reply, so
        nothing is created twice. A stored failure would come back for ever under its key: it is answered with the next
        number, at most `tries` of them, where `tries` is how often this was attempted in all.
        """
        service = self._service(resource)
        return await self._with_keys(lambda options: service.create_async(params=dict(params), options=options), key, params, tries)

    async def update(self, resource: Resource, object_id: str, params: Mapping[str, Any], *, key: str, tries: int = 1) -> dict[str, Any]:
        """Change an object; keys as for `create`."""
        service = self._service(resource)
        return await self._with_keys(
            lambda options: service.update_async(object_id, params=dict(params), options=options), key, params, tries
        )

    async def create_once(self, resource: Resource, params: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """Create an object under this very idempotency key: other parameters are refused, a stored failure comes back. For money."""
        service = self._service(resource)
        return await _called(service.create_async(params=dict(params), options={"idempotency_key": key}))

    async def act(self, resource: Resource, object_id: str, verb: str, params: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """What the SDK calls `verb`: attach, detach, pay, cancel; under this very idempotency key."""
        method = getattr(self._service(resource), f"{verb}_async")
        return await _called(method(object_id, params=dict(params), options={"idempotency_key": key}))

    async def account(self) -> str | None:
        """The id of the account that the key belongs to; None where it may not be asked for (a restricted key, an old sandbox)."""
        try:
            found = await _called(self._client.v1.accounts.retrieve_current_async())
        except StripeCallFailed as failure:
            if failure.status in (401, 403, 404):
                return None
            raise
        return str(found["id"])

    async def retrieve(self, resource: Resource, object_id: str, *, expand: Sequence[str] = ()) -> dict[str, Any] | None:
        """The object, or None where there is none or it was deleted."""
        params = {"params": {"expand": list(expand)}} if expand else {}
        try:
            found = await _called(self._service(resource).retrieve_async(object_id, **params))
        except StripeCallFailed as failure:
            if failure.status == 404:
                return None
            raise
        return None if found.get("deleted") else found

    async def cancel_subscription(self, subscription_id: str) -> dict[str, Any]:
        """At once, with an invoice for metered usage that was not billed yet."""
        params = {"invoice_now": True}
        return await _called(self._client.v1.subscriptions.cancel_async(subscription_id, params=params))  # type: ignore[arg-type]

    async def find(self, resource: Resource, params: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Every object that fits, page by page, newest first."""
        service = self._service(resource)
        async for item in _pages(lambda page: service.list_async(params={**params, **page})):
            yield item

    async def lines_of(self, invoice_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every line of an invoice, in its order."""
        service: Any = self._client.v1.invoices.line_items
        async for line in _pages(lambda page: service.list_async(invoice_id, params=page)):
            yield line

    async def add_to_balance(self, customer_id: str, params: Mapping[str, Any], *, key: str, tries: int = 1) -> dict[str, Any]:
        """What a customer owes, or is owed; keys as for `create`."""
        service: Any = self._client.v1.customers.balance_transactions
        return await self._with_keys(
            lambda options: service.create_async(customer_id, params=dict(params), options=options), key, params, tries
        )

    async def balance_of(self, customer_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every entry of a customer's balance, newest first."""
        service: Any = self._client.v1.customers.balance_transactions
        async for entry in _pages(lambda params: service.list_async(customer_id, params=params)):
            yield entry

    async def usage_sum(self, meter_id: str, customer_id: str, start: int, end: int) -> int:
        """What Stripe has added up in [start, end), both Unix seconds on a full minute. Eventually consistent."""
        params = {"customer": customer_id, "start_time": start, "end_time": end}
        page = await _called(self._client.v1.billing.meters.event_summaries.list_async(meter_id, params=params))  # type: ignore[arg-type]
        return sum(int(summary["aggregated_value"]) for summary in page["data"])

    def _service(self, resource: Resource) -> Any:
        service: Any = self._client.v1
        for name in resource.split("."):
            service = getattr(service, name)
        return service

    async def _with_keys(self, call: Any, key: str, params: Mapping[str, Any], tries: int) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps(params, sort_keys=True, default=str).encode()).hexdigest()[:24]
        number = 0
        while True:
            try:
                return await _called(call({"idempotency_key": f"{key}:{digest}:{number}"}))
            except StripeCallFailed as failure:
                number += 1
                if not failure.replayed or number >= tries:
                    raise


async def _pages(ask: Callable[[dict[str, Any]], Any]) -> AsyncIterator[dict[str, Any]]:
    """All that a list has. `ask` takes the page's parameters and makes the SDK's call."""
    after: dict[str, Any] = {}
    while True:
        page = await _called(ask({"limit": 100, **after}))
        for item in page["data"]:
            yield item
        if not page["has_more"] or not page["data"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}


async def _called(request: Any) -> dict[str, Any]:
    """Await one of the SDK's calls, and turn what it raises into StripeCallFailed."""
    try:
        answer: dict[str, Any] = (await request).to_dict()
    except stripe.StripeError as exc:
        raise _failure(exc) from exc
    except (aiohttp.ClientError, TimeoutError) as exc:  # the SDK lets these through while it reads an answer's body
        raise StripeCallFailed(f"the answer broke off: {type(exc).__name__}", Outcome.AMBIGUOUS) from exc
    return answer


def _failure(exc: stripe.StripeError) -> StripeCallFailed:
    status = exc.http_status
    outcome = _outcome(exc)
    text = str(exc.user_message or exc) if status is None else f"{status} {exc.user_message or exc.code or type(exc).__name__}"
    failure = StripeCallFailed(" ".join(text.split()), outcome, status=status, error_code=exc.code, param=getattr(exc, "param", None))
    failure.replayed = (exc.headers or {}).get("Idempotent-Replayed", "") == "true"
    failure.decline_code, failure.payment_id = _decline(exc.json_body)
    return failure


def _decline(body: Any) -> tuple[str | None, str | None]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None, None
    intent = error.get("payment_intent")
    return error.get("decline_code"), intent.get("id") if isinstance(intent, dict) else None


def _outcome(exc: stripe.StripeError) -> Outcome:
    status = exc.http_status
    if isinstance(exc, stripe.APIConnectionError):
        never_connected = isinstance(exc.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        return Outcome.NOT_ACCEPTED if never_connected else Outcome.AMBIGUOUS
    if status is None or status >= 500 or 200 <= status < 300:  # 2xx with a body that cannot be read
        return Outcome.AMBIGUOUS
    # 401 and 403 are about the key, not about what was sent; 409 is another request under the same key, under way.
    if status in (401, 403, 409, 429) or exc.code in ("rate_limit", "lock_timeout"):
        return Outcome.NOT_ACCEPTED
    if exc.code == "duplicate_meter_event" or "event already exists with identifier" in str(exc.user_message):
        return Outcome.DUPLICATE
    return Outcome.REFUSED
