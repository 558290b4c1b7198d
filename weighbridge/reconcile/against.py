"""An access log against the ledger (billing/model/witness.py): which calls the one has and the other lacks.

Everything charged before is flushed first, as the ledger keeps minutes only in Postgres.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from billing.model.conservation import Difference, Place
from billing.model.witness import Seen, Stream, gaps, read_line, told_by
from config.gateway import Fixed, GatewayConfig, Route
from gateway.routing import Router
from metering.model.clock import Clock, isoformat, to_datetime, to_ms
from metering.model.errors import BadInput
from metering.model.ledger import TEST
from weighbridge.flushing import Flushed, flush_all, ship

from .look import SQL, Scope

_MINUTE_MS = 60_000
_MOST_FAULTS = 5


@dataclass(slots=True)
class Heard:
    """`outside`: calls on routes of which the ledger counts none. `unread`: lines that are no calls, the first of them by number."""

    calls: int = 0
    outside: int = 0
    first_ms: int = 0
    last_ms: int = 0
    unread: int = 0
    unread_lines: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    @property
    def unseen(self) -> list[str]:
        return [f"{self.unread:,} lines of the log are no calls: {'; '.join(self.unread_lines)}"] if self.unread else []

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls, "outside": self.outside, "unread": self.unread,
            "from": isoformat(self.first_ms), "until": isoformat(self.last_ms),
        }  # fmt: skip


async def against(pool: asyncpg.Pool, client: Redis, config: GatewayConfig, log: Path, scope: Scope, clock: Clock) -> Heard:
    """Raises BadInput where the log cannot be used."""
    heard = Heard()
    try:
        calls = await asyncio.to_thread(lambda: list(_calls(log, heard)))
    except OSError as exc:
        raise BadInput(f"{log} cannot be read: {exc.strerror}") from exc
    if not calls:
        raise BadInput(f"{log} holds no call; see docs/operations.md for what a line must have")
    by_org = all(call.org for call in calls)
    if scope.org_ids is not None:
        if not by_org:
            raise BadInput(f"not every line of {log} says whose call it was; without `org` a log is held against the ledger of all")
        calls = [call for call in calls if call.org in scope.org_ids]
    report = Flushed()
    await ship(client, report, clock)
    await flush_all(pool, client, report, clock)
    counted = {route.id: found for route in config.routes if (found := _counted(route)) is not None}
    streams = [(stream, call) for stream, call in _streams(calls, Router(config), by_org=by_org) if stream.route_id in counted]
    heard.calls, heard.outside = len(calls), len(calls) - len(streams)
    begun = [call.began_ms for call in calls]
    heard.first_ms, heard.last_ms = min(begun, default=0), max(begun, default=0)
    first, last = heard.first_ms // _MINUTE_MS, heard.last_ms // _MINUTE_MS
    ledger = await _ledger(pool, scope, counted, first, last, by_org=by_org)
    paths = {route.id: route.path for route in config.routes}
    for gap in gaps(told_by(streams), ledger, first, last):
        whose = f"{gap.stream.org}: " if gap.stream.org else ""
        sentence = f"{whose}{gap.sentence(paths.get(gap.stream.route_id, '?'))}"
        heard.differences.append(Difference(place=Place.WITNESS, units=gap.calls, sentence=sentence))
    return heard


def _calls(log: Path, heard: Heard) -> Iterator[Seen]:
    with log.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                seen = read_line(line)
            except (ValueError, OverflowError) as exc:
                heard.unread += 1
                if heard.unread <= _MOST_FAULTS:
                    heard.unread_lines.append(f"line {number}: {exc}")
                continue
            if seen is not None:
                yield seen


def _counted(route: Route) -> tuple[str, int] | None:
    """The meter by which the route's calls can be counted, and what one of them costs."""
    fixed = ((meter, cost.units) for meter, cost in route.charge.items() if isinstance(cost, Fixed) and cost.units > 0)
    return next(fixed, None) if route.auth != "none" else None


def _streams(calls: list[Seen], router: Router, *, by_org: bool) -> Iterator[tuple[Stream, Seen]]:
    for call in calls:
        route = router.match(call.method, call.host, call.path.split("?", 1)[0].encode("latin-1", "replace"))
        yield Stream(route.id if route else 0, call.method, call.org if by_org else ""), call


async def _ledger(
    pool: asyncpg.Pool, scope: Scope, counted: dict[int, tuple[str, int]], first: int, last: int, *, by_org: bool
) -> dict[Stream, dict[int, int]]:
    """Calls admitted, stream by stream and minute by minute; by the costs of the present configuration."""
    bounds = to_datetime(first * _MINUTE_MS), to_datetime((last + 1) * _MINUTE_MS)
    found: dict[Stream, dict[int, int]] = {}
    for row in await pool.fetch(SQL["calls"], *bounds, scope.uuids):
        meter, cost = counted.get(row["route_id"], ("", 1))
        if row["service"].removeprefix(TEST) == meter:
            minutes = found.setdefault(Stream(row["route_id"], row["method"], str(row["org_id"]) if by_org else ""), {})
            minute = to_ms(row["minute"]) // _MINUTE_MS
            minutes[minute] = minutes.get(minute, 0) + row["units"] // cost
    return found
