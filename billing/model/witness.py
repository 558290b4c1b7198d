"""An independent witness: an access log of whoever stood before or behind the gateway, held against the calls in the ledger.

Pure. A line is either a JSON object (nginx/weighbridge.conf writes such) or the common log format:

  {"at": "2026-11-23T18:03:36+00:00", "method": "GET", "path": "/v1/x?y=1", "status": 200}
  203.0.113.9 - - [23/Nov/2026:18:03:36 +0000] "GET /v1/x?y=1 HTTP/1.1" 200 512

`at` is ISO 8601 with a zone, or Unix seconds: when the call ended. Optional: `seconds` (its duration, as it counts in the minute it
began in), `host`, `request` (its X-Request-Id), `org` (the organization's id). Other members are not looked at.

The ledger keeps no single calls, but their sums by minute, route and method, so those are compared. A call is counted in the
minute of its admission, which the two clocks may see on different sides: what is missing in one minute and too much in the next
is no difference.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from metering.model.clock import isoformat, to_ms

_COMMON = re.compile(r'\S+ \S+ \S+ \[(?P<at>[^]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+)[^"]*" (?P<status>\d{3}) ')
_COMMON_TIME = "%d/%b/%Y:%H:%M:%S %z"
_MOST_NAMED = 5
PERHAPS = frozenset({400, 401, 402, 403, 404, 405, 408, 411, 413, 414, 421, 426, 429, 431, 499, 500, 501, 502, 503, 504, 505})
"""Answers that the gateway gives by itself, without counting: a call that got one of them may be in the ledger or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call as the witness saw it."""

    began_ms: int
    method: str
    path: str
    status: int
    host: str = ""
    request: str = ""
    org: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """Calls that the ledger adds up: a route and a method, and the organization where the witness knows it."""

    route_id: int
    method: str
    org: str = ""


@dataclass(slots=True)
class Account:
    """What the witness saw of one stream: by minute the calls that must be in the ledger, and those that may be."""

    surely: Counter[int] = field(default_factory=Counter)
    perhaps: Counter[int] = field(default_factory=Counter)
    requests: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Calls of one stream that one side has and the other lacks. `calls` above zero: the ledger lacks them."""

    stream: Stream
    calls: int
    from_minute: int
    until_minute: int
    requests: tuple[str, ...] = ()

    def sentence(self, route: str) -> str:
        when = isoformat(self.from_minute * 60_000)
        when += "" if self.from_minute == self.until_minute else f" to {isoformat(self.until_minute * 60_000)}"
        what = f"{self.stream.method} {route}, {when}"
        if self.calls < 0:
            return f"{what}: the ledger has {_calls(-self.calls)} that the witness did not see"
        among = f"; among the requests {', '.join(self.requests)}" if self.requests else ""
        return f"{what}: the witness saw {_calls(self.calls)} that the ledger lacks{among}"


def _calls(count: int) -> str:
    return f"{count:,} {'call' if count == 1 else 'calls'}"


def read_line(line: str) -> Seen | None:
    """The call of a line; None for an empty line. Raises ValueError with what the line lacks."""
    text = line.strip()
    if not text:
        return None
    if text.startswith("{"):
        return _from_json(json.loads(text))
    match = _COMMON.match(text)
    if match is None:
        raise ValueError("it is neither a JSON object nor a line of the common log format")
    at = to_ms(datetime.strptime(match["at"], _COMMON_TIME))  # noqa: DTZ007  the format has its zone
    return Seen(began_ms=at, method=match["method"], path=match["path"], status=int(match["status"]))


def _from_json(value: Any) -> Seen:
    missing = [name for name in ("at", "method", "path", "status") if not isinstance(value.get(name), str | int | float)]
    if missing:
        raise ValueError(f"it does not say {', '.join(missing)}")
    ended_ms = _instant(value["at"])
    seconds = float(value.get("seconds") or 0)
    return Seen(
        began_ms=ended_ms - round(seconds * 1000), method=str(value["method"]), path=str(value["path"]), status=int(value["status"]),
        host=str(value.get("host") or ""), request=str(value.get("request") or ""), org=str(value.get("org") or ""),
    )  # fmt: skip


def _instant(at: str | float) -> int:
    if isinstance(at, str) and not at.replace(".", "", 1).isdecimal():
        return to_ms(datetime.fromisoformat(at))
    return round(float(at) * 1000)


def told_by(calls: Iterable[tuple[Stream, Seen]]) -> dict[Stream, Account]:
    """What was seen, stream by stream."""
    found: dict[Stream, Account] = {}
    for stream, seen in calls:
        account, minute = found.setdefault(stream, Account()), seen.began_ms // 60_000
        perhaps = seen.status in PERHAPS or seen.method == "OPTIONS"  # preflights may be free
        (account.perhaps if perhaps else account.surely)[minute] += 1
        if seen.request and len(account.requests.setdefault(minute, [])) <= _MOST_NAMED:
            account.requests[minute].append(seen.request)
    return found


def gaps(seen: Mapping[Stream, Account], ledger: Mapping[Stream, Mapping[int, int]], first: int, last: int) -> list[Gap]:
    """Where the two differ, in minutes from `first` to `last`; runs of minutes that even out are left out. In the first and the
    last minute the witness may have looked only part of the time: what only the ledger has there is no difference."""
    found = []
    for stream in sorted({*seen, *ledger}):
        account, counted = seen.get(stream, Account()), ledger.get(stream, {})
        run: list[tuple[int, int]] = []  # minutes in a row that differ, and by how much
        for minute in range(first, last + 2):
            off = _off(account, counted.get(minute, 0), minute) if minute <= last else 0
            if off > 0 or (off < 0 and (first < minute < last or run)):
                run.append((minute, off))
            elif run:
                found += _gap(stream, account, run)
                run = []
    return found


def _off(account: Account, counted: int, minute: int) -> int:
    """Above zero: so many calls are missing in the ledger. Calls that may be counted or not make up for what is too much there."""
    least, most = account.surely[minute], account.surely[minute] + account.perhaps[minute]
    return max(least - counted, 0) - max(counted - most, 0)


def _gap(stream: Stream, account: Account, run: list[tuple[int, int]]) -> list[Gap]:
    calls = sum(off for _, off in run)
    if not calls:
        return []
    requests = [name for minute, _ in run for name in account.requests.get(minute, ())] if calls > 0 else []
    named = tuple(requests) if len(requests) <= _MOST_NAMED else ()
    return [Gap(stream=stream, calls=calls, from_minute=run[0][0], until_minute=run[-1][0], requests=named)]
