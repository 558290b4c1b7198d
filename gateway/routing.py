"""Which route a request takes. Pure; the path is normalized to be matched and travels on as it came.

Laws: the most specific wins, whatever its place in the file: literal paths before `{name}` before `*`; then more literal
segments; then, for one path, a route bound to the host before any host, and to the method before any method.
A path that services could read in several ways (`%2F`, `\\`, `;x`, `..`) takes the strictest of all readings: one that
requires a caller before an open one, then the more specific. So no odd spelling leads around a route's quota.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from config.gateway import GatewayConfig, Route
from config.paths import Form, form_of, pattern_of, readings_of, segments_of, specificity

MOST_CACHED = 4_096
_LONGEST_CACHED = 512  # bytes of method, host and path; longer ones are matched anew, so that they cannot fill memory

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

    def below(self, segment: str) -> Iterator["_Node"]:
        """The nodes that this segment of a path leads to."""
        if (node := self.literal.get(segment)) is not None:
            yield node
        for pattern, node in self.mixed.values():
            if pattern.fullmatch(segment):
                yield node
        if self.parameter is not None:
            yield self.parameter


class Router:
    """The routes of one configuration, and a bounded memory of what was asked."""

    def __init__(self, config: GatewayConfig) -> None:
        self._root = _Node()
        self._known: dict[tuple[str, str, bytes], Route | None] = {}
        for route in config.routes:
            self._add(route)

    def match(self, method: str, host: str, raw_path: bytes) -> Route | None:
        """The route of a request, or None. `raw_path` is the path as it came, without the query; `host` may have a port."""
        key = (method, host, raw_path)
        try:
            return self._known[key]
        except KeyError:
            route = self._find(method, _bare(host), raw_path.decode("latin-1"))
        if len(method) + len(host) + len(raw_path) <= _LONGEST_CACHED:
            if len(self._known) >= MOST_CACHED:
                self._known.pop(next(iter(self._known)))
            self._known[key] = route
        return route

    def _find(self, method: str, host: str, path: str) -> Route | None:
        found: _Entry | None = None
        for segments in readings_of(path):
            found = _stricter(found, self._best(method, host, segments))
        return found.route if found else None

    def _best(self, method: str, host: str, segments: tuple[str, ...]) -> _Entry | None:
        takers = (entry for entry in _reached(self._root, segments) if entry.takes(method, host))
        return min(takers, key=lambda entry: (entry.rank, not entry.names(method)), default=None)

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


def _reached(node: _Node, segments: tuple[str, ...]) -> Iterator[_Entry]:
    """Every entry whose template matches."""
    nodes = [node]
    yield from node.rest
    for segment in segments:
        nodes = [below for each in nodes for below in each.below(segment)]
        for each in nodes:
            yield from each.rest
        if not nodes:
            return
    for each in nodes:
        yield from each.ending


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
