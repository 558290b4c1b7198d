"""What a piece of work needs, and what is said where it may not run. Pure.

A check is a generator: it yields the requests whose answers it needs, and returns a refusal or None. guard.py answers them, waiting or
awaiting.
"""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from . import calls
from .answers import Feature, Limit, Quota
from .calls import Call
from .errors import ClientError, Refused

FEATURES_HEADER = "x-org-features"
_MOST_KEPT = 10_000

Quantity = int | Decimal
Asking = Generator[Call[Any], Any, "Refusal | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """`feature` of the plan; `units` left of the quota of the service `quota`, in the unit it is shown in. `records`: once the work is
    done, `quantity` of that service is recorded."""

    feature: str | None = None
    quota: str | None = None
    units: Quantity = 1
    records: str | None = None
    quantity: Quantity = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer in the form of RFC 9457, as Weighbridge's own are."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    content_type = "application/problem+json"

    def body(self) -> bytes:
        title = self.code.replace("_", " ").capitalize()
        said = {
            "type": f"urn:weighbridge:problem:{self.code}", "title": title, "status": self.status, "detail": self.detail,
            "code": self.code, "details": dict(self.details),
        }  # fmt: skip
        return json.dumps(said).encode()


NOBODY = Refusal(status=401, code="unauthorized", detail="it is not known for which organization this call is made")
AWAY = Refusal(
    status=503, code="metering_unavailable", detail="it cannot be checked now whether this is allowed", headers={"Retry-After": "1"}
)


@dataclass(slots=True)
class _Kept:
    until: float
    answer: Any
    taken: Quantity = 0  # units that passed here since it was asked


class Rules:
    """How checks are made. Answers are kept for `keep_seconds`; of a kept quota what passed here meanwhile is taken off, what passed
    elsewhere is not known until it is asked again. `when_away`: what happens while Weighbridge does not answer. `behind_gateway`: the
    service is reached through the gateway alone, so that the features it names in X-Org-Features are believed, and nothing is asked.
    """

    def __init__(
        self, *, keep_seconds: float = 10.0, when_away: Literal["allow", "refuse"] = "allow", behind_gateway: bool = False,
        monotonic: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._keep, self._allow, self._behind = keep_seconds, when_away == "allow", behind_gateway
        self._monotonic, self._now = monotonic, now
        self._kept: dict[tuple[str, str, str], _Kept] = {}

    def check(self, needs: Needs, org: str | None, headers: Mapping[str, str]) -> Asking:
        """Whether the work may run. `headers` are the request's; lower-case names, or a mapping that does not mind."""
        if org is None:
            return NOBODY if needs != Needs() else None
        try:
            refusal = (yield from self._feature(needs.feature, org, headers)) if needs.feature is not None else None
            if refusal is None and needs.quota is not None:
                refusal = yield from self._quota(needs.quota, needs.units, org)
        except ClientError as fault:
            if isinstance(fault, Refused) and not fault.away:
                raise  # a wrong token, an organization that is not there: somebody must hear of it
            return None if self._allow else AWAY
        return refusal

    def _feature(self, key: str, org: str, headers: Mapping[str, str]) -> Asking:
        named = headers.get(FEATURES_HEADER) if self._behind else None
        if named is not None:
            return refuse_feature(feature_in(named, key))
        kept = yield from self._ask("feature", org, key, calls.feature(key, org))
        return refuse_feature(kept.answer)

    def _quota(self, service: str, units: Quantity, org: str) -> Asking:
        kept = yield from self._ask("quota", org, service, calls.quota(service, org))
        refusal = refuse_quota(kept.answer, units, kept.taken, self._now())
        if refusal is None:
            kept.taken += units
        return refusal

    def _ask(self, kind: str, org: str, name: str, call: Call[Any]) -> Generator[Call[Any], Any, _Kept]:
        place = kind, org, name
        kept = self._kept.get(place)
        if kept is None or kept.until <= self._monotonic():
            answer = yield call
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = self._kept[place] = _Kept(self._monotonic() + self._keep, answer)
        return kept


def feature_in(header: str, key: str) -> Feature:
    """From X-Org-Features: `sso, organizations=10`."""
    for each in header.split(","):
        name, _, number = each.strip().partition("=")
        if name == key:
            return Feature(key=key, allowed=True, number=int(number) if number.isdecimal() else None)
    return Feature(key=key, allowed=False)


def refuse_feature(feature: Feature) -> Refusal | None:
    if feature.allowed:
        return None
    plan = f"; the plan {feature.required_plan} has it" if feature.required_plan else ""
    details = {"feature": feature.key, "required_plan": feature.required_plan}
    return Refusal(status=403, code="feature_missing", detail=f"your plan does not have {feature.key}{plan}", details=details)


def refuse_quota(quota: Quota, units: Quantity, taken: Quantity, now: datetime) -> Refusal | None:
    """By the quota, of those that block, that begins anew last."""
    spent = [each for each in quota.limits or (quota,) if each.blocks and _left(each) < units + taken]
    if not spent:
        return None
    limit = max(spent, key=lambda each: each.reset_at)
    seconds = max(1, math.ceil((limit.reset_at - now).total_seconds()))
    details = {"service": quota.service, "limit": limit.name, "quota": limit.quota, "reset_at": limit.reset_at.isoformat()}
    detail = f"the quota {limit.name} is used up until {limit.reset_at:%Y-%m-%d %H:%M} UTC"
    return Refusal(status=429, code="quota_exceeded", detail=detail, headers={"Retry-After": str(seconds)}, details=details)


def _left(limit: Limit) -> Decimal:
    """A figure that came as a float is taken for what it shows."""
    return Decimal("Infinity") if limit.remaining is None else Decimal(str(limit.remaining))
