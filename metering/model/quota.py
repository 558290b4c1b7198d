"""A limit on one meter, in one window, with one mode. Pure; the atomic charge is gateway/lua/admit.lua."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    HARD = "hard"  # block at the limit
    SOFT = "soft"  # warn, go on
    OVERAGE = "overage"  # go on, charge


class Window(StrEnum):
    HOUR = "hour"
    DAY = "day"
    PERIOD = "period"  # the subscription's usage period
    MONTH = "month"  # calendar month, UTC


class Per(StrEnum):
    """Whose use a quota adds up."""

    ORG = "org"
    ROUTE = "route"
    KEY = "key"


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
class Quota:
    """`limit` is in base units of `meter`; None is unlimited. `name` shows in headers and messages."""

    meter: str
    limit: int | None
    window: Window = Window.PERIOD
    mode: Mode = Mode.HARD
    per: Per = Per.ORG
    on_store_failure: FailureRule | None = None
    routed: bool = False  # declared on a route: counts only that route's calls
    source: str = "plan"  # plan | override | route

    @property
    def name(self) -> str:
        label = {Window.HOUR: "hourly", Window.DAY: "daily", Window.PERIOD: "period", Window.MONTH: "monthly"}
        whose = "" if self.per is Per.ORG else f"-{self.per}"
        where = "-route" if self.routed and self.per is not Per.ROUTE else ""
        return f"{self.meter}-{label[self.window]}{where}{whose}"


def replace_quotas(base: tuple[Quota, ...], over: tuple[Quota, ...]) -> tuple[Quota, ...]:
    """`base` with each quota of `over` in place of those on the same meter, window and `per`."""
    taken = {(q.meter, q.window, q.per) for q in over}
    return (*(q for q in base if (q.meter, q.window, q.per) not in taken), *over)


def strictest(rules: list[FailureRule]) -> FailureRule:
    """The rule that wins where several limits apply; OPEN when there are none."""
    return max(rules, key=FailureRule.strictness, default=OPEN)
