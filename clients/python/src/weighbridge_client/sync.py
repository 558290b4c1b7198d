"""The client for programs that wait. aio.py is the one for those that do not; both make the requests of calls.py."""

import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from . import calls
from .answers import Batch, Feature, Outcome, Quota, Subscription
from .calls import Call
from .errors import ClientError, Unreachable
from .events import Event

T = TypeVar("T")


class Weighbridge:
    """`url` is control's, or the gateway's where it passes control's paths on. `token` is one of the control API, or an organization's
    own API key, which only reads. `org` (id or slug) is whom calls are about that name nobody; a token of one organization needs none.

    Every call raises Refused, or Unreachable. What does no harm twice is tried `retries` times more where nobody answers.
    """

    def __init__(
        self, url: str, token: str, *, org: str | None = None, timeout: float = 5.0, retries: int = 2,
        transport: httpx.BaseTransport | None = None, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._org, self._retries, self._sleep = org, retries, sleep
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers={"Authorization": f"Bearer {token}"}, timeout=timeout, transport=transport
        )

    def quota(self, service: str, *, org: str | None = None) -> Quota:
        """What is used of a service's quota, what remains, and when it begins anew."""
        return self.send(calls.quota(service, org or self._org))

    def usage(self, *, org: str | None = None) -> dict[str, Any]:
        """Usage, quotas and the estimated cost of the current period."""
        return self.send(calls.usage(org or self._org))

    def feature(self, key: str, *, org: str | None = None) -> Feature:
        """Whether the plan has it, and which plan has."""
        return self.send(calls.feature(key, org or self._org))

    def subscription(self, *, org: str | None = None) -> Subscription:
        """The subscription that runs, or the last that ended."""
        return self.send(calls.subscription(org or self._org))

    def upgrade(self, plan: str, *, org: str | None = None, at_end: bool = False, preview: bool = False) -> dict[str, Any]:
        """To another plan, now or when the period ends; with `preview` only what it would cost."""
        return self.send(calls.upgrade(plan, org or self._org, at_end=at_end, preview=preview))

    def cancel(self, *, org: str | None = None, now: bool = False, reason: str | None = None) -> dict[str, Any]:
        """At the end of the period, or at once."""
        return self.send(calls.cancel(org or self._org, now=now, reason=reason))

    def record(self, event: Event, *, org: str | None = None) -> Outcome:
        """One use. Raises Refused where it is rejected."""
        return calls.only(self.record_batch([event], org=org))

    def record_batch(self, events: Sequence[Event], *, org: str | None = None) -> Batch:
        """Up to 1,000 events of one organization; a bad one fails alone."""
        return self.send(calls.record(events, org or self._org))

    def send(self, call: Call[T]) -> T:
        """A request of calls.py."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(call)
            except ClientError as fault:
                wait = calls.wait_before_again(call, fault, attempt, retries=self._retries, jitter=random.random())
                if wait is None:
                    raise
            self._sleep(wait)

    def _once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(call.method, call.path, params=dict(call.query), json=call.body)
        except httpx.HTTPError as fault:
            raise Unreachable(f"Weighbridge at {self._http.base_url} cannot be used: {fault or type(fault).__name__}") from fault
        return calls.answered(call, response.status_code, response.headers, response.content)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
