"""What `weighbridge up` prints. Pure; docs/tutorial.md shows the same lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from billing.model.plan import PlanSpec
from metering.model.quota import Mode, Quota, Window

_SPAN = {Window.HOUR: "an hour", Window.DAY: "a day", Window.PERIOD: "a period", Window.MONTH: "a month"}
_SYMBOL = {"usd": "$", "eur": "€", "gbp": "£"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table of organizations."""

    org: str
    plan: str
    allowance: str


def shown(path: Path, here: Path) -> str:
    """`./config` for a folder below this one, else the whole path."""
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)


def header(version: str, config: str, faults: int, data: str, *, new: bool) -> str:
    counted = f"{faults} fault{'' if faults == 1 else 's'}"
    return f"weighbridge {version}   config {config}: {counted}   data {data} ({'new' if new else 'found again'})"


def part(name: str, text: str, *, word: str = "ready") -> str:
    """`  postgres  ready  embedded, socket only`"""
    return f"  {name:<9} {word:<6} {text}"


def allowance(quota: Quota | None, plan: PlanSpec, currency: str) -> str:
    """The first quota in words: 200,000 a period, then $0.0003 each."""
    if quota is None or quota.limit is None:
        return "unlimited"
    words = f"{quota.limit:,} {_SPAN[quota.window]}"
    price = plan.prices.get(quota.meter)
    each = price.in_currency(currency).unit_price if price is not None else None
    if quota.mode is Mode.OVERAGE and each is not None:
        words += f", then {_SYMBOL.get(currency, currency.upper() + ' ')}{each} each"
    if quota.source == "override":
        words += " (demo override, so you can see a 429)"
    return words


def organizations(rows: Sequence[Row], env_file: str) -> list[str]:
    """The table, and where the keys are."""
    width = max(len(row.org) for row in rows)
    plan = max(4, *(len(row.plan) for row in rows))
    return [
        "",
        f"  {'org':<{width}}  {'plan':<{plan}}  api",
        *(f"  {row.org:<{width}}  {row.plan:<{plan}}  {row.allowance}" for row in rows),
        f"  Keys $PRO and $FREE: . {env_file}   (we store only hashes)",
        "",
    ]


def farewell(*, in_flight: int, flushed: int | None, left_in_journal: int) -> str:
    """`drained 0 in flight, flushed 4 requests, journal empty, stopped`"""
    flush = "could not flush" if flushed is None else f"flushed {flushed:,} request{'' if flushed == 1 else 's'}"
    journal = "journal empty" if not left_in_journal else f"{left_in_journal:,} bytes kept in the journal for the next start"
    return f"drained {in_flight} in flight, {flush}, {journal}, stopped"
