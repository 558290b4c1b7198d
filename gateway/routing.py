"""Which route a request takes. Pure; the path is normalized to be matched and travels on as it came.

Laws: the most specific wins, whatever its place in the file: literal paths before `{name}` before `*`; then more literal
segments; then, for one path, a route bound to the host before any host, and to the method before any method.
A path that services could read in several ways (`%2F`, `\\`, `;x`, `..`) takes the strictest of all readings: one that
requires a caller before an open one, then the more specific. So no odd spelling leads around a route's quota.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from config.gateway import GatewayConfig, Route
from config.paths import Form, form_of, pattern_of, readings_of, segments_of, specificity

MOST_CACHED = 4_096
_LONGEST_CACHED = 512  # bytes of method, host and path; longer ones are matched anew, so that they cannot fill memory
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")  # what has one reading, and stands in it as it came

Rank = tuple[tuple[int, int, tuple[int, ...]], bool, bool]


@dataclass(slots=True, frozen=True)
class _Entry:
    """A route at one host, as it is tried."""

    rank: Rank
    host: str
    route: Route

    def takes(self, method: str, host: str) -> bool:
        """HEAD may do what GET may (RFC 9110, 9.3.2)."""
        methods = self.route.methods
        if self.host and self.host != host:
            return False
        return methods is None or method in methods or (method == "HEAD" and "GET" in methods)

    def names(self, method: str) -> bool:
        return self.route.methods is not None and method in self.route.methods


@dataclass(slots=True)
class _Node:
    """A place in the tree of segments."""

    literal: dict[str, "_Node"] = field(default_factory=dict)
    mixed: "dict[str, tuple[re.Pattern[str], _Node]]" = field(default_factory=dict)
    parameter: "_Node | None" = None
    ending: list[_Entry] = field(default_factory=list)
    rest: list[_Entry] = field(default_factory=list)

    def below(self, segment: str) -> "list[_Node]":
        """The nodes that this segment of a path leads to."""
        node = self.literal.get(segment)
        found = [] if node is None else [node]
        for pattern, mixed in self.mixed.values():
            if pattern.fullmatch(segment):
                found.append(mixed)
        if self.parameter is not None:
            found.append(self.parameter)
        return found


class Router:
    """The routes of one configuration, and a bounded memory of what was asked."""

    def __init__(self, config: GatewayConfig) -> None:
        self._root = _Node()
        self._known: dict[str, dict[str, dict[bytes, Route | None]]] = {}  # by host, method, path
        self._count = 0
        for route in config.routes:
            self._add(route)

    def match(self, method: str, host: str, raw_path: bytes) -> Route | None:
        """The route of a request, or None. `raw_path` is the path as it came, without the query; `host` may have a port."""
        try:
            return self._known[host][method][raw_path]
        except KeyError:
            route = self._find(method, _bare(host), raw_path.decode("latin-1"))
        if len(method) + len(host) + len(raw_path) <= _LONGEST_CACHED:
            if self._count >= MOST_CACHED:
                self._known.clear()
                self._count = 0
            self._known.setdefault(host, {}).setdefault(method, {})[raw_path] = route
            self._count += 1
        return route

    def _find(self, method: str, host: str, path: str) -> Route | None:
        if _PLAIN.fullmatch(path):
            best = self._best(method, host, path.strip("/").split("/"))
            return best.route if best else None
        found: _Entry | None = None
        for segments in readings_of(path):
            found = _stricter(found, self._best(method, host, segments))
        return found.route if found else None

    def _best(self, method: str, host: str, segments: Sequence[str]) -> _Entry | None:
        best: _Entry | None = None
        for entry in _reached(self._root, segments):
            if entry.takes(method, host) and (best is None or _before(entry, best, method)):
                best = entry
        return best

    def _add(self, route: Route) -> None:
        segments = segments_of(route.path)
        entries = [_Entry((specificity(segments), not host, route.methods is None), host, route) for host in route.hosts or ("",)]
        node = self._root
        for segment in segments:
            form = form_of(segment)
            if form is Form.REST:
                node.rest += entries
                return
            node = _child(node, segment, form)
        node.ending += entries


def _child(node: _Node, segment: str, form: Form) -> _Node:
    if form is Form.LITERAL:
        return node.literal.setdefault(segment, _Node())
    if form is Form.MIXED:
        return node.mixed.setdefault(segment, (pattern_of(segment), _Node()))[1]
    if node.parameter is None:
        node.parameter = _Node()
    return node.parameter


def _before(one: _Entry, other: _Entry, method: str) -> bool:
    return (one.rank, not one.names(method)) < (other.rank, not other.names(method))


def _reached(node: _Node, segments: Sequence[str]) -> list[_Entry]:
    """Every entry whose template matches."""
    nodes = [node]
    found = node.rest.copy()
    for segment in segments:
        nodes = [below for each in nodes for below in each.below(segment)]
        if not nodes:
            return found
        for each in nodes:
            if each.rest:
                found += each.rest
    for each in nodes:
        found += each.ending
    return found


def _stricter(one: _Entry | None, other: _Entry | None) -> _Entry | None:
    """Of two readings of a path, the one that asks more of the caller."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda entry: (entry.route.auth == "none", entry.rank))


def _bare(host: str) -> str:
    """A Host field without its port, in small letters."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")
