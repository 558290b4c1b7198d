"""How fast periods are rated: `python -m tests.benchmarks.rating [SUBSCRIPTIONS]`.

Each subscription has six meters, each with another pricing model, three of them behind an overage quota. One process, one core; a
subscription's lines are forgotten once they are added up, so memory stays what it is. Says the seconds, those on the
processor (where other work runs beside it), and how much the process grew between a tenth of the way and its end.
"""

import random
import resource
import sys
import time
from collections.abc import Iterator
from decimal import Decimal as D
from itertools import islice

from billing.model.plan import PlanSpec
from billing.model.pricing import Graduated, Package, PerUnit, Price, Spend, Tier, Volume
from billing.model.rating import rate_period
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota

SUBSCRIPTIONS = 100_000
GB, CPU_HOUR = 10**9, 3_600_000

METERS = {
    meter.name: meter
    for meter in (
        Meter(name="api", unit="request", title="API Requests"),
        Meter(name="bandwidth", unit="byte", title="Bandwidth", show="GB", show_size=GB, report="MB", report_size=10**6),
        Meter(name="storage", unit="byte", kind=Kind.LEVEL, title="Storage", show="GB", show_size=GB, report="MB", report_size=10**6),
        Meter(name="compute", unit="cpu_ms", title="Compute", show="CPU-hours", show_size=CPU_HOUR),
        Meter(name="database", unit="query", title="Database"),
        Meter(name="functions", unit="invocation", title="Functions"),
    )
}
PRICES: dict[str, Price] = {
    "api": Graduated(tiers=(Tier(to=100_000, each=D("0.001")), Tier(to=500_000, each=D("0.0008")), Tier(each=D("0.0005")))),
    "bandwidth": PerUnit(each=D("0.05"), per_unit_size=GB),
    "storage": PerUnit(each=D("0.10"), per_unit_size=GB),
    "compute": Spend(price=PerUnit(each=D("0.05"), per_unit_size=CPU_HOUR), minimum=D("1.00")),
    "database": Package(size=1_000_000, each=D("5.00"), free=1_000_000),
    "functions": Volume(tiers=(Tier(to=10_000, flat=D("2.00")), Tier(each=D("0.0002")))),
}
MOST = {"api": 2_000_000, "bandwidth": 500 * GB, "storage": 200 * GB, "compute": 300 * CPU_HOUR, "database": 9_000_000, "functions": 90_000}
SPEC = PlanSpec(
    name="pro",
    price={"usd": D("49.00")},
    quotas=(
        Quota(meter="api", limit=200_000, mode=Mode.OVERAGE),
        Quota(meter="bandwidth", limit=100 * GB, mode=Mode.OVERAGE),
        Quota(meter="storage", limit=50 * GB, mode=Mode.OVERAGE),
    ),
    prices=PRICES,
)


def subscriptions(seed: int) -> Iterator[dict[str, int]]:
    """What each used, without an end."""
    dice = random.Random(seed)
    while True:
        yield {name: dice.randrange(most) for name, most in MOST.items()}


def rate_all(found: Iterator[dict[str, int]]) -> tuple[int, D]:
    """How many lines there were, and what they come to."""
    count, amount = 0, D(0)
    for used in found:
        for line in rate_period(SPEC, SPEC.quotas, used, METERS, "usd"):
            count += 1
            amount += line.amount
    return count, amount


def _grown_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(number: int) -> None:
    found = islice(subscriptions(seed=1), number)
    start, busy = time.perf_counter(), time.process_time()
    first, amount = rate_all(islice(found, number // 10))
    before = _grown_kb()
    rest, more = rate_all(found)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    _say(f"{number:,} subscriptions, {first + rest:,} lines, {amount + more:,} in all")
    _say(f"{seconds:.1f} s, {busy:.1f} s of them on the processor, {_grown_kb() - before:,} kB more after the first tenth")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SUBSCRIPTIONS)
