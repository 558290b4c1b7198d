"""What the client's tests stand on: a Weighbridge that answers as it is told, without a socket."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from weighbridge_client import AsyncWeighbridge, Weighbridge

Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, detail: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": detail, "details": {"x": 1}}, headers=headers)


def quota(remaining: float | None, *, mode: str = "hard", **more: Any) -> dict[str, Any]:
    """As REST shows a service's quota."""
    one = {
        "current_usage": 10, "quota": 100, "remaining": remaining, "percentage_used": 10.0, "status": "ok", "mode": mode,
        "window": "period", "reset_at": "2026-02-28T12:00:00Z",
    }  # fmt: skip
    limits = more.pop("limits", [{"name": "api-period", **one}])
    return {"service": "api", "title": "API", "unit": "request", **one, "limits": limits, **more}


@dataclass
class Control:
    """`says` are the next answers, in order; without one, events are taken and quotas have room."""

    says: list[httpx.Response | Exception] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    features: set[str] = field(default_factory=lambda: {"exports"})
    remaining: float = 90

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.says:
            said = self.says.pop(0)
            if isinstance(said, Exception):
                raise said
            return said
        path = request.url.path
        if path.endswith("/events"):
            return httpx.Response(200, json=self._taken(json.loads(request.content)["events"]))
        if "/features/" in path:
            allowed = path.rpartition("/")[2] in self.features
            return httpx.Response(200, json={"allowed": allowed, "required_plan": None if allowed else "pro"})
        return httpx.Response(200, json=quota(self.remaining))

    def _taken(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        seen = [json.loads(r.content)["events"] for r in self.asked[:-1] if r.url.path.endswith("/events")]
        known = {event["idempotency_key"] for batch in seen for event in batch}
        results = []
        for index, event in enumerate(events):
            status = "rejected" if event["service"] == "nothing" else "duplicate" if event["idempotency_key"] in known else "accepted"
            results.append({"index": index, "status": status, "reason": "there is no such service" if status == "rejected" else None})
        count = [each["status"] for each in results].count
        return {"accepted": count("accepted"), "duplicates": count("duplicate"), "rejected": count("rejected"), "results": results}

    def told(self) -> list[tuple[str | None, str, Any]]:
        """(organization, service, quantity) of every event that came, also of those that were refused."""
        batches = [r for r in self.asked if r.url.path.endswith("/events")]
        return [(r.url.params.get("org"), e["service"], e["quantity"]) for r in batches for e in json.loads(r.content)["events"]]

    def client(self, **more: Any) -> Weighbridge:
        return Weighbridge("https://control", "wbt_x", transport=httpx.MockTransport(self.handle), sleep=self.waited.append, **more)

    def async_client(self, **more: Any) -> AsyncWeighbridge:
        async def sleep(seconds: float) -> None:
            self.waited.append(seconds)

        return AsyncWeighbridge("https://control", "wbt_x", transport=httpx.MockTransport(self.handle), sleep=sleep, **more)
