"""The figures that the gateway is held to: what must hold, what is aimed at, what was measured, round by round."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

_COUNTED = "nginx + Lua + Redis"


@dataclass(frozen=True)
class Goal:
    """`at_most`: smaller is better."""

    title: str
    must: float
    aim: float
    at_most: bool = False
    digits: int = 2

    def met(self, value: float) -> bool:
        return value <= self.must if self.at_most else value >= self.must

    def reached(self, value: float) -> bool:
        return value <= self.aim if self.at_most else value >= self.aim


GOALS = {
    "calls-1": Goal(f"metered against {_COUNTED}, requests/s; 1 organization", 0.6, 1.0),
    "calls-100": Goal(f"metered against {_COUNTED}, requests/s; 100 organizations", 0.6, 1.0),
    "calls-10000": Goal(f"metered against {_COUNTED}, requests/s; 10,000 organizations", 0.4, 0.8),
    "differing": Goal(f"metered against {_COUNTED}, requests/s; 1 organization, each head and path another", 0.6, 1.0),
    "off-1": Goal("metered against metering off, requests/s; 1 organization", 0.8, 0.9),
    "off-100": Goal("metered against metering off, requests/s; 100 organizations", 0.8, 0.9),
    "obvious-1": Goal("metered against aiohttp ClientSession + redis-py, requests/s; 1 organization", 5.0, 8.0),
    "obvious-100": Goal("metered against aiohttp ClientSession + redis-py, requests/s; 100 organizations", 5.0, 8.0),
    "p99-1": Goal(f"p99 at half load against {_COUNTED} at the same load; 1 organization", 2.0, 1.2, at_most=True),
    "p99-100": Goal(f"p99 at half load against {_COUNTED} at the same load; 100 organizations", 2.0, 1.2, at_most=True),
    "large": Goal("1 MiB responses, MB/s, against nginx proxy_pass", 0.6, 0.9),
    "two-workers": Goal("CPU a request with two workers against one", 1.1, 1.0, at_most=True),
    "echo": Goal("WebSocket echo through the gateway, messages/s against direct", 0.5, 0.8),
    "idle": Goal("memory of a worker with 10,000 idle keep-alive connections, MiB", 250.0, 250.0, at_most=True, digits=0),
    "seen": Goal(
        "memory of a worker after all organizations called once, against after 30 % of them (1,000,000; 300,000)", 1.1, 1.1, at_most=True
    ),
}


@dataclass
class Figure:
    """What was measured for one goal: a value a round, or why there is none."""

    name: str
    rounds: list[float] = field(default_factory=list)
    absent: str = ""

    @property
    def goal(self) -> Goal:
        return GOALS[self.name]

    @property
    def value(self) -> float:
        return float(median(self.rounds))

    @property
    def verdict(self) -> str:
        if not self.rounds:
            return f"not measured: {' '.join(self.absent.split()) or 'left out of this run'}"
        if not self.goal.met(self.value):
            return "**missed**"
        return "met, and the aim" if self.goal.reached(self.value) else "met"

    @property
    def lost(self) -> int:
        """Rounds that, taken alone, miss what must hold."""
        return sum(not self.goal.met(each) for each in self.rounds)

    def row(self) -> str:
        goal = self.goal
        sign = "≤" if goal.at_most else "≥"
        told = [f"{goal.title}", f"{sign} {goal.must:g}", f"{sign} {goal.aim:g}"]
        if not self.rounds:
            return f"| {' | '.join(told)} | – | {self.verdict} | |"
        rounds = " ".join(_marked(each, goal) for each in self.rounds)
        return f"| {' | '.join(told)} | {self.value:.{goal.digits}f} | {self.verdict} | {rounds} |"


def _marked(value: float, goal: Goal) -> str:
    text = f"{value:.{goal.digits}f}"
    return text if goal.met(value) else f"**{text}**"


def table(figures: Sequence[Figure]) -> str:
    """All goals in their order; those without a figure say why. Lost rounds stand out."""
    by_name = {figure.name: figure for figure in figures}
    lines = ["| figure | must | aim | median | verdict | rounds (those that lose in bold) |", "|---|--:|--:|--:|---|---|"]
    lines += [by_name.get(name, Figure(name)).row() for name in GOALS]
    return "\n".join(lines)
