"""Limits: quotas on a meter in a window, rates, calls in flight. Pure; all are decided at once in gateway/lua/admit.lua."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Mode(StrEnum):
    HARD = "hard"  # block at the limit
    SOFT = "soft"  # warn, go on
    OVERAGE = "overage"  # go on, charge
    THROTTLE = "throttle"  # at the limit, fall to a slower quota


class Window(StrEnum):
    HOUR = "hour"
    DAY = "day"
    PERIOD = "period"  # the subscription's usage period
    MONTH = "month"  # calendar month, UTC


class Per(StrEnum):
    """Whose use a limit adds up."""

    ORG = "org"
    ROUTE = "route"
    KEY = "key"
    ADDRESS = "address"  # the client's
    TENANT = "tenant"  # the organization's own customer, as the call names it


@dataclass(frozen=True, slots=True)
class FailureRule:
    """What a quota decides while the store is away. `grace` is a number of calls a window over all workers."""

    kind: str  # open | closed | grace
    grace: int = 0

    def strictness(self) -> tuple[int, int]:
        """Orders rules: closed over grace over open; of two graces the smaller."""
        return ({"open": 0, "grace": 1, "closed": 2}[self.kind], -self.grace)


OPEN, CLOSED = FailureRule("open"), FailureRule("closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """The slower quota of a throttle: what may still pass in each of its windows once the main one is used up."""

    limit: int
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """`limit` is in base units of `meter`; None is unlimited. `name` shows in headers and messages.

    `stop_at` is the exact end of an overage quota. With `shadow` it is decided and counted, and never blocks.
    """

    meter: str
    limit: int | None
    window: Window = Window.PERIOD
    mode: Mode = Mode.HARD
    per: Per = Per.ORG
    on_store_failure: FailureRule | None = None
    routed: bool = False  # declared on a route: counts only that route's calls
    source: str = "plan"  # plan | override | route
    shadow: bool = False
    then: Then | None = None  # with mode throttle
    stop_at: int | None = None  # with mode overage
    at_limit: Literal["finish", "cut"] = "finish"

    @property
    def name(self) -> str:
        return f"{self.meter}-{_LABELS[self.window]}{_whose(self.per, self.routed)}"


_LABELS = {Window.HOUR: "hourly", Window.DAY: "daily", Window.PERIOD: "period", Window.MONTH: "monthly"}


def _whose(per: Per, routed: bool) -> str:
    where = "-route" if routed and per is not Per.ROUTE else ""
    return where if per is Per.ORG else f"{where}-{per}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `limit` units of `meter` each second or minute, `burst` of them at once.

    `meter` None: each call is one unit. `burst` None: as much as `limit`.
    """

    meter: str | None
    limit: int
    per: Literal["second", "minute"]
    burst: int | None = None
    by: Per = Per.ORG
    routed: bool = False
    shadow: bool = False
    source: str = "plan"

    @property
    def name(self) -> str:
        return f"{self.meter or 'calls'}-per-{self.per}{_whose(self.by, self.routed)}"

    @property
    def depth(self) -> int:
        """How many units may pass at once."""
        return self.limit if self.burst is None else self.burst


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """At most `limit` calls in flight at a time."""

    limit: int
    by: Per = Per.ORG
    routed: bool = False
    shadow: bool = False
    source: str = "plan"

    @property
    def name(self) -> str:
        return f"concurrency{_whose(self.by, self.routed)}"


def replace_quotas(base: tuple[Quota, ...], over: tuple[Quota, ...]) -> tuple[Quota, ...]:
    """`base` with each quota of `over` in place of those on the same meter, window and `per`."""
    taken = {(q.meter, q.window, q.per) for q in over}
    return (*(q for q in base if (q.meter, q.window, q.per) not in taken), *over)


def replace_rates(base: tuple[Rate, ...], over: tuple[Rate, ...]) -> tuple[Rate, ...]:
    """`base` with each rate of `over` in place of those on the same meter, a second or a minute, and `by`."""
    taken = {(r.meter, r.per, r.by) for r in over}
    return (*(r for r in base if (r.meter, r.per, r.by) not in taken), *over)


def replace_concurrency(base: tuple[Concurrency, ...], over: tuple[Concurrency, ...]) -> tuple[Concurrency, ...]:
    """`base` with each of `over` in place of those `by` the same."""
    taken = {c.by for c in over}
    return (*(c for c in base if c.by not in taken), *over)


def strictest(rules: list[FailureRule]) -> FailureRule:
    """The rule that wins where several limits apply; OPEN when there are none."""
    return max(rules, key=FailureRule.strictness, default=OPEN)
