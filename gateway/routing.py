"""Which route a request takes. Pure; the path is normalized to be matched and travels on as it came.

Laws: the most specific wins, whatever its place in the file: literal paths before `{name}` before `*`; then more literal
segments; then, for one path, a route bound to the host before any host, and to the method before any method.
A path that services could read in several ways (`%2F`, `\\`, `;x`, `..`) takes the strictest of all readings: one that
requires a caller before an open one, then the more specific. So no odd spelling leads around a route's quota.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_letters, digits
from typing import Final

from config.gateway import GatewayConfig, Route
from config.paths import Form, form_of, pattern_of, readings_of, segments_of, specificity

MOST_CACHED: Final = 4_096
MOST_HOSTS: Final = 1_024
_MOST_METHODS: Final = 64
_LONGEST_METHOD: Final = 32
_MISSES: Final = 16  # after so many paths in a row that were not remembered, only so often one is
_LONGEST_CACHED: Final = 512  # bytes of method, host and path; longer ones are matched anew, so that they cannot fill memory
_PLAIN: Final = bytes(byte if chr(byte) in f"{ascii_letters}{digits}/._~-" else 255 - byte for byte in range(256))
"""A path that this leaves as it is, has no escapes, nor what anybody could take for one."""

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


@dataclass(slots=True)
class _Step:
    """A place in the tree as the calls of one host and method see it: of several routes that end here, the one that wins."""

    literal: "dict[str, _Step]" = field(default_factory=dict)
    patterns: "list[tuple[re.Pattern[str] | None, _Step]]" = field(default_factory=list)  # None: any segment
    ending: "_Ranked | None" = None
    rest: "_Ranked | None" = None

    @property
    def empty(self) -> bool:
        return not (self.literal or self.patterns or self.ending or self.rest)


_Ranked = tuple[Rank, bool, Route]


class _View:
    """The routes that calls of one host and method can take, and a memory of what was asked."""

    __slots__ = ("known", "misses", "root")

    def __init__(self, tree: _Node, host: str, method: str) -> None:
        self.root = _seen_by(tree, host, method)
        self.known: dict[bytes, Route] = {}
        self.misses = 0

    def find(self, raw_path: bytes) -> Route | None:
        if raw_path.startswith(b"/") and raw_path.translate(_PLAIN) == raw_path:
            plain = raw_path[1:].decode("latin-1").split("/")
            for segment in plain:
                if not segment or segment.startswith("."):
                    break
            else:  # it has one reading
                best = _best(self.root, plain)
                return best[2] if best is not None else None
        found: _Ranked | None = None
        for segments in readings_of(raw_path.decode("latin-1")):
            found = _stricter(found, _best(self.root, segments))
        return found[2] if found else None


class Router:
    """The routes of one configuration, and a bounded memory of what was asked."""

    def __init__(self, config: GatewayConfig) -> None:
        self._root = _Node()
        self._hosts: set[str] = set()  # that routes name
        self._methods: set[str] = set()
        self._views: dict[str, dict[str, _View]] = {}  # by host as it came and method; hosts that no route names share theirs
        self._count = 0
        for route in config.routes:
            self._add(route)

    def match(self, method: str, host: str, raw_path: bytes) -> Route | None:
        """The route of a request, or None. `raw_path` is the path as it came, without the query; `host` may have a port."""
        views = self._views.get(host)
        if views is None:
            views = self._views_at(host)
        view = views.get(method)
        if view is None:
            view = self._view_at(views, host, method)
        route = view.known.get(raw_path)
        if route is not None:
            view.misses = 0
            return route
        view.misses += 1
        route = view.find(raw_path)
        if route is not None and (view.misses < _MISSES or not view.misses % _MISSES) and len(raw_path) <= _LONGEST_CACHED:
            self._keep(view, raw_path, route)
        return route

    def _keep(self, view: _View, raw_path: bytes, route: Route) -> None:
        if self._count >= MOST_CACHED:
            for views in self._views.values():
                for each in views.values():
                    each.known.clear()
            self._count = 0
        view.known[raw_path] = route
        self._count += 1

    def _views_at(self, host: str) -> dict[str, _View]:
        views = self._views.get(self._named(host))
        if views is None:
            views = self._views[self._named(host)] = {}
        if len(self._views) >= MOST_HOSTS:
            self._views = {name: each for name, each in self._views.items() if name in self._hosts or not name}
        if len(host) <= _LONGEST_CACHED:
            self._views[host] = views
        return views

    def _view_at(self, views: dict[str, _View], host: str, method: str) -> _View:
        """Methods that no route names are all one. HEAD is not: it may do what GET may."""
        named = method if method in self._methods or method == "HEAD" else ""
        view = views.get(named)
        if view is None:
            view = views[named] = _View(self._root, self._named(host), named)
        if len(views) < _MOST_METHODS and len(method) <= _LONGEST_METHOD:
            views[method] = view
        return view

    def _named(self, host: str) -> str:
        """The host as routes write it; empty for one that none of them names."""
        bare = _bare(host)
        return bare if bare in self._hosts else ""

    def _add(self, route: Route) -> None:
        segments = segments_of(route.path)
        self._hosts.update(route.hosts)
        self._methods.update(route.methods or ())
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


def _seen_by(node: _Node, host: str, method: str) -> _Step:
    """What is left of the tree below `node` for calls of this host and method."""
    step = _Step(ending=_first(node.ending, host, method), rest=_first(node.rest, host, method))
    for name, below in node.literal.items():
        seen = _seen_by(below, host, method)
        if not seen.empty:
            step.literal[name] = seen
    others: list[tuple[re.Pattern[str] | None, _Node]] = [*node.mixed.values()]
    if node.parameter is not None:
        others.append((None, node.parameter))
    for pattern, below in others:
        seen = _seen_by(below, host, method)
        if not seen.empty:
            step.patterns.append((pattern, seen))
    return step


def _first(entries: Sequence[_Entry], host: str, method: str) -> _Ranked | None:
    ranked = [(entry.rank, not entry.names(method), entry.route) for entry in entries if entry.takes(method, host)]
    return min(ranked, key=_order, default=None)


def _order(ranked: _Ranked) -> tuple[Rank, bool]:
    return ranked[0], ranked[1]


def _best(root: _Step, segments: Sequence[str]) -> _Ranked | None:
    """Of every route whose template matches, the most specific."""
    best, steps = root.rest, [root]
    for segment in segments:
        below: list[_Step] = []
        for step in steps:
            literal = step.literal.get(segment)
            if literal is not None:
                below.append(literal)
            if step.patterns:
                below += [each for pattern, each in step.patterns if pattern is None or pattern.fullmatch(segment)]
        if not below:
            return best
        steps = below
        for step in steps:
            if step.rest is not None and (best is None or _order(step.rest) < _order(best)):
                best = step.rest
    for step in steps:
        if step.ending is not None and (best is None or _order(step.ending) < _order(best)):
            best = step.ending
    return best


def _stricter(one: _Ranked | None, other: _Ranked | None) -> _Ranked | None:
    """Of two readings of a path, the one that asks more of the caller."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda ranked: (ranked[2].auth == "none", ranked[0]))


def _bare(host: str) -> str:
    """A Host field without its port, in small letters."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")
