"""Who hears at which share of a quota, and when that will be. Pure.

Rules are an organization's, one for each service; a service without one has the default shares, and no channel of its own. Where a
share names no channel, those of the organization hold.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from billing.model.hook import read_url
from billing.model.threshold import DEFAULT_PERCENTS
from billing.model.usage import WARN_PERCENT, LimitUse
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.outward import Reach

MOST_THRESHOLDS, MOST_DESTINATIONS, HIGHEST_PERCENT = 20, 10, 1000
_EMAIL = re.compile(r"[^@\s,;<>]{1,64}@[^@\s,;<>]{1,190}\.[^@\s,;<>]{2,63}")


class Channel(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    channel: Channel
    target: str

    @property
    def shown(self) -> str:
        """What may be told of it: the path of a webhook is as good as a password."""
        if self.channel is Channel.EMAIL:
            return self.target
        parts = urlsplit(self.target)
        return f"{parts.scheme}://{parts.hostname}/…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    percent: int
    destinations: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The shares of one service's quotas that somebody wants to hear of, lowest first; not `active`: of none."""

    meter: str
    thresholds: tuple[Threshold, ...]
    active: bool = True


def read_destination(channel: Channel, text: str, reach: Reach) -> Destination:
    """Raises BadInput, Forbidden."""
    if channel is Channel.EMAIL:
        if not _EMAIL.fullmatch(text):
            raise BadInput(f"{text!r} is no address for mail; write it as billing@example.com")
        return Destination(channel=channel, target=text)
    return Destination(channel=channel, target=read_url(text, reach))


def added(rule: Rule | None, meter: str, thresholds: Iterable[Threshold]) -> Rule:
    """With these shares too, and their channels beside those that were there; active from now on. Raises BadInput."""
    found = {t.percent: t.destinations for t in rule.thresholds} if rule is not None else {}
    for threshold in thresholds:
        if not 1 <= threshold.percent <= HIGHEST_PERCENT:
            raise BadInput(f"{threshold.percent} % is no threshold: write 1 to {HIGHEST_PERCENT}")
        found[threshold.percent] = _unique((*found.get(threshold.percent, ()), *threshold.destinations))
    if not found:
        raise BadInput("say at how many percent: --threshold 80")
    if len(found) > MOST_THRESHOLDS:
        raise BadInput(f"a service has at most {MOST_THRESHOLDS} thresholds")
    return Rule(meter=meter, thresholds=tuple(Threshold(percent=p, destinations=found[p]) for p in sorted(found)))


def without(rule: Rule, percents: Sequence[int]) -> Rule:
    """Without these shares; without any where none is named. A rule that has none left is not active."""
    left = tuple(t for t in rule.thresholds if t.percent not in percents)
    return replace(rule, thresholds=left, active=bool(left)) if percents else replace(rule, active=False)


def percents_of(rules: Mapping[str, Rule], meter: str) -> Sequence[int]:
    """The shares of a meter's quotas that somebody wants to hear of."""
    rule = rules.get(meter)
    if rule is None:
        return DEFAULT_PERCENTS
    return tuple(t.percent for t in rule.thresholds) if rule.active else ()


def warn_percent(rules: Mapping[str, Rule], meter: str) -> int:
    """From where on a quota of the meter is in the state WARNING: the lowest share that somebody set."""
    rule = rules.get(meter)
    return rule.thresholds[0].percent if rule is not None and rule.active else WARN_PERCENT


def forecast(limit: LimitUse, meter: Meter, percent: int, now_ms: int) -> int | None:
    """When the share will be reached in the window under way, if use goes on as it has so far in it; None: not in this window, or
    it is reached already. What is held does not grow by the hour: nothing is foretold of it."""
    quota = limit.quota
    if not quota.limit or meter.kind is Kind.LEVEL or limit.used <= 0 or limit.used * 100 >= quota.limit * percent:
        return None
    elapsed = now_ms - limit.start_ms
    at_ms = limit.start_ms + -(-quota.limit * percent * elapsed // (100 * limit.used))
    return at_ms if elapsed > 0 and at_ms < limit.reset_at_ms else None


def destinations_to_json(destinations: Iterable[Destination]) -> list[dict[str, str]]:
    return [{"channel": each.channel.value, "target": each.target} for each in destinations]


def destinations_from_json(value: Iterable[Mapping[str, str]]) -> tuple[Destination, ...]:
    return tuple(Destination(channel=Channel(each["channel"]), target=each["target"]) for each in value)


def to_json(rule: Rule) -> list[dict[str, Any]]:
    """The stored form of its shares."""
    return [{"percent": t.percent, "destinations": destinations_to_json(t.destinations)} for t in rule.thresholds]


def from_json(meter: str, value: Iterable[Mapping[str, Any]], *, active: bool) -> Rule:
    thresholds = tuple(Threshold(percent=t["percent"], destinations=destinations_from_json(t["destinations"])) for t in value)
    return Rule(meter=meter, thresholds=thresholds, active=active)


def _unique(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    found = tuple(dict.fromkeys(destinations))
    if len(found) > MOST_DESTINATIONS:
        raise BadInput(f"a threshold has at most {MOST_DESTINATIONS} channels")
    return found
