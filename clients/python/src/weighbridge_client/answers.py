"""What Weighbridge answers, as frozen dataclasses. Fields that a newer server adds are in `raw`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One quota. `quota` and `remaining` are None where nothing limits; figures are in the unit that the service is shown in."""

    name: str
    current_usage: float
    quota: float | None
    remaining: float | None
    percentage_used: float | None
    status: str
    mode: str | None
    window: str
    reset_at: datetime

    @property
    def blocks(self) -> bool:
        """Whether calls are refused at its end; soft and overage quotas go on."""
        return self.mode == "hard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota(Limit):
    """A service's widest quota, with whose it is; `limits` has every one."""

    service: str
    unit: str
    limits: tuple[Limit, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """`required_plan` is the cheapest plan that has it, where this one has not; `number` is how many (None: no end, or no number)."""

    key: str
    allowed: bool
    required_plan: str | None = None
    number: int | None = None
    label: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`amount` is the price of an interval, in `currency`; None where it was negotiated."""

    id: str
    plan: str
    status: str
    currency: str
    amount: Decimal | None
    period_start: datetime
    period_end: datetime
    ended: bool
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one event: accepted, duplicate (it came before) or rejected. `billable` False: it counts and is not charged for."""

    status: str
    reason: str | None = None
    id: int | None = None
    billable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Of many events, in their order."""

    accepted: int
    duplicates: int
    rejected: int
    outcomes: tuple[Outcome, ...]


Body = Mapping[str, Any]


def limit_of(body: Body) -> Limit:
    return Limit(name=body["name"], **_limit(body))


def quota_of(body: Body) -> Quota:
    limits = tuple(limit_of(each) for each in body.get("limits", ()))
    return Quota(name=body["service"], service=body["service"], unit=body["unit"], limits=limits, raw=body, **_limit(body))


def feature_of(key: str, body: Body) -> Feature:
    return Feature(
        key=key, allowed=body["allowed"], required_plan=body.get("required_plan"), number=body.get("number"), label=body.get("label"),
        raw=body,
    )  # fmt: skip


def subscription_of(body: Body) -> Subscription:
    plan = body["plan"]
    return Subscription(
        id=body["id"], plan=plan["name"], status=body["status"], currency=body["currency"],
        amount=None if plan["price"] is None else Decimal(plan["price"]), period_start=_instant(body["period_start"]),
        period_end=_instant(body["period_end"]), ended=body["ended"], raw=body,
    )  # fmt: skip


def batch_of(body: Body) -> Batch:
    return Batch(
        accepted=body["accepted"], duplicates=body["duplicates"], rejected=body["rejected"],
        outcomes=tuple(
            Outcome(status=each["status"], reason=each.get("reason"), id=each.get("id"), billable=each.get("billable"))
            for each in body["results"]
        ),
    )  # fmt: skip


def _limit(body: Body) -> dict[str, Any]:
    """What a quota has beside its name."""
    return {
        "current_usage": body["current_usage"], "quota": body["quota"], "remaining": body["remaining"],
        "percentage_used": body["percentage_used"], "status": body["status"], "mode": body["mode"], "window": body["window"],
        "reset_at": _instant(body["reset_at"]),
    }  # fmt: skip


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
