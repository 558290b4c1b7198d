"""Reads the project as syntax: who imports whom over whole chains, who reads the clock, the environment, who spells Redis keys.

Nothing is imported, so a process's wiring cannot hide what a module would pull in later.
`ROOMS` is the import table of the architecture. A module is in the room with the longest name that is a prefix of its own.
A `wiring.py`, a `__main__.py` and the front door (weighbridge/) put processes together and may import what those run;
for the gateway's there is still a list of what must not be in the process at all (`NEVER`).
"""

import ast
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

PACKAGES = ("metering", "billing", "gateway", "aggregator", "config", "weighbridge")
BESIDE = ("weighbridge_client",)  # a distribution of its own, clients/python

_CONFIG = {"metering.model", "config", "yaml", "pydantic", "pydantic_core"}
_REDIS = {"redis", "hiredis"}
_POSTGRES = {"metering.model", "metering.store.postgres", "asyncpg"}
_BILLING = {"metering.model", "billing.model", "billing.services"}

ROOMS: dict[str, set[str]] = {  # room -> what it may reach beside the standard library and itself, through any chain
    "metering": set(),
    "metering.model": set(),
    "metering.outgoing": {"metering.model", "aiohttp"},
    "metering.store": set(),
    "metering.store.redis": {"metering.model"} | _REDIS,
    "metering.store.journal": {"metering.model"},
    "metering.store.postgres": _POSTGRES,
    "metering.store.migrate": _POSTGRES | {"metering.store.migrations"},
    "config": _CONFIG | {"billing.model"},
    "config.settings": _CONFIG,
    "config.gateway": _CONFIG,
    "config.gateway_read": _CONFIG,
    "gateway": _CONFIG | _REDIS | {"metering.outgoing", "metering.store.redis", "metering.store.journal"}
    | {"aiohttp", "httptools", "uvloop", "orjson", "prometheus_client", "jwt"},
    "billing": set(),
    "billing.model": {"metering.model"},
    "billing.services": {"metering.model", "billing.model"},
    "billing.store": _BILLING | _POSTGRES,
    "billing.stripe": _BILLING | _POSTGRES | {"stripe", "aiohttp", "config.settings"} | _CONFIG,
    "billing.stripe.sandbox": {"metering.model", "aiohttp", "orjson"},
    "billing.channels": _BILLING | _POSTGRES | {"metering.outgoing", "aiohttp"},
    "billing.documents": {"metering.model", "metering.outgoing", "billing.model", "aiohttp", "fpdf", "PIL"},
    "billing.reports": _BILLING | _POSTGRES,
    "billing.operations": _BILLING | {"pydantic"},
    "billing.api": _BILLING | {"billing.operations", "pydantic", "aiohttp", "orjson", "prometheus_client", "graphql"}
    | {"cryptography", "multidict"},
    "aggregator": _BILLING | _POSTGRES | _CONFIG | _REDIS | {"metering", "prometheus_client", "aiohttp", "orjson"},
}  # fmt: skip
FRONT_DOOR = "weighbridge"
NEVER: dict[str, set[str]] = {"gateway": {"billing", "aggregator", "weighbridge", "asyncpg", "stripe", "metering.store.postgres"}}
SOLE_IMPORTER = {"stripe": "billing.stripe", "fpdf": "billing.documents"}  # the front door included

# Distribution name -> import name where they differ, and what comes inside a declared package.
PARTS_OF = {
    "pydantic_core": "pydantic",  # its error types live there, pinned by it to the exact version
    "PIL": "fpdf",  # it draws pictures with it
    "multidict": "aiohttp",  # its header fields are such
    "yarl": "aiohttp",  # its API takes and gives yarl.URL
}
WORKS_BY_BEING_INSTALLED = {
    "mypy": "make lint",
    "py-spy": "make profile",
    "ruff": "make lint",
    "schemathesis": "make contract",
    "pytest-aiohttp": "brings asyncio_mode, which pyproject.toml sets",
    "pytest-timeout": "brings timeout, which pyproject.toml sets",
    "pytest-xdist": "brings --numprocesses, which the Makefile passes",
    "types-pyyaml": "read by mypy",
}

CLOCK = {"time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "datetime.datetime.now", "datetime.datetime.utcnow",
         "datetime.datetime.today", "datetime.date.today"}  # fmt: skip
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
MAY_READ_THE_CLOCK = {"metering.model.clock"}
MAY_READ_THE_ENVIRONMENT = {"config.settings", "weighbridge.cli.main", "weighbridge.gateway_host"}  # the last two are processes
KEY_GRAMMAR = "metering.model.keys"
KEY_AT_REDIS = re.compile(r"wb:(\{|key|slug|changed|asked|workers|routes|$)")
SPELLS_OTHER_KEYS = {
    "billing.stripe": re.compile(r"wb:(\{|key|slug|changed|asked|workers|routes)")
}  # idempotency keys at Stripe begin alike


@dataclass(frozen=True)
class Source:
    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def puts_together(self) -> bool:
        return self.path.name in ("wiring.py", "__main__.py")


class Project:
    """The modules under `root`, and what each of them imports."""

    def __init__(self, root: Path, packages: tuple[str, ...] = PACKAGES) -> None:
        self.modules: dict[str, Source] = {}
        for path in sorted(p for package in packages for p in (root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.modules[name] = Source(name, path, ast.parse(path.read_text(), str(path)))
        self._imports = {name: set(self._resolved(source)) for name, source in self.modules.items()}

    def imports(self, name: str) -> set[str]:
        """Project modules by full name (with the packages above them), the others by top-level name."""
        return self._imports[name]

    def _resolved(self, source: Source) -> Iterator[str]:
        for target in imported_names(source):
            known = target
            while known and known not in self.modules:
                known = known.rpartition(".")[0]
            if not known:  # not ours
                yield target.partition(".")[0]
            while known:
                yield known
                known = known.rpartition(".")[0]

    def chain(self, start: str, forbidden: set[str]) -> list[str] | None:
        """The shortest chain of imports from `start` into something forbidden."""
        queue, seen = deque([[start]]), {start}
        while queue:
            path = queue.popleft()
            if len(path) > 1 and within(path[-1], forbidden):
                return path
            for target in sorted(self._imports.get(path[-1], ())):
                if target not in seen:
                    seen.add(target)
                    queue.append([*path, target])
        return None

    def reached(self, start: str) -> dict[str, str]:
        """Everything imported from `start` through any chain -> who imports it there."""
        found, queue = {start: ""}, deque([start])
        while queue:
            name = queue.popleft()
            for target in sorted(self._imports.get(name, ())):
                if target not in found:
                    found[target] = name
                    queue.append(target)
        return found


def imported_names(source: Source) -> Iterator[str]:
    """Every name an import could load, at any depth of the file; `from a import b` may mean a.b. Literal import_module too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = source.package.split(".")[: len(source.package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            if not (node.args and isinstance(node.args[0], ast.Constant)):
                raise AssertionError(f"{source.name}:{node.lineno} imports a module whose name is computed; the table cannot hold it")
            yield str(node.args[0].value)


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def room_of(name: str) -> str | None:
    """The room with the longest name above `name`."""
    rooms = [room for room in ROOMS if within(name, {room})]
    return max(rooms, key=len, default=None)


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def import_faults(project: Project) -> list[str]:
    """Every chain that leaves its room, once for each room and last step."""
    faults: dict[tuple[str, str, str], str] = {}
    for start, source in project.modules.items():
        if within(start, {FRONT_DOOR}) or source.puts_together:
            continue
        room = room_of(start)
        if room is None:
            faults[start, "", ""] = f"{start}: stands in no room of the import table"
            continue
        for target, importer in project.reached(start).items():
            if not importer or is_standard(target) or may(room, target, project):
                continue
            chain = project.chain(start, {target}) or [start, target]
            if all(may(room, step, project) for step in chain[1:-1]):  # else the earlier step is the fault
                faults.setdefault((room, chain[-2], target), f"{' → '.join(chain)}: {room} may not use {target}")
    return sorted(faults.values())


def may(room: str, target: str, project: Project) -> bool:
    """A package above something allowed comes along: importing a.b runs a."""
    allowed = ROOMS[room] | {room}
    if target in project.modules and any(place.startswith(target + ".") for place in allowed):
        return True
    return within(target, allowed)


def never_faults(project: Project) -> list[str]:
    """Chains into what must not be in a process at all, wiring included; and imports of what has one importer."""
    faults = []
    for room, forbidden in NEVER.items():
        for start in (name for name in project.modules if within(name, {room})):
            if chain := project.chain(start, forbidden):
                faults.append(f"{' → '.join(chain)}: {room} never reaches {chain[-1]}")
    for package, owner in SOLE_IMPORTER.items():
        for name in project.modules:
            if package in project.imports(name) and not within(name, {owner}):
                faults.append(f"{name} → {package}: only {owner} imports {package}")
    return faults


def third_party(project: Project) -> dict[str, str]:
    """Import name -> a module that imports it."""
    found: dict[str, str] = {}
    for name in project.modules:
        for target in project.imports(name):
            if target not in project.modules and not is_standard(target) and target.partition(".")[0] not in (*PACKAGES, *BESIDE, "tests"):
                found.setdefault(target, name)
    return found


def named_packages(project: Project) -> set[str]:
    """String constants: a package that holds a program is found by its name, not imported."""
    trees = (source.tree for source in project.modules.values())
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", distribution, maxsplit=1)[0]).lower()


@cache
def _installed() -> dict[str, set[str]]:
    """Distribution -> its top-level import names."""
    found: dict[str, set[str]] = {}
    for module, owners in packages_distributions().items():
        for owner in owners:
            found.setdefault(normal(owner), set()).add(module)
    return found


def import_names(distribution: str) -> set[str]:
    return _installed().get(distribution) or {distribution.replace("-", "_")}


def dependency_faults(product: Project, tests: Project, pyproject: str) -> list[str]:
    """Declared and not used, or used and not declared."""
    declared = tomllib.loads(pyproject)
    extras = [name for names in declared["project"].get("optional-dependencies", {}).values() for name in names]
    shipped = {normal(name) for name in [*declared["project"]["dependencies"], *extras]}
    dev = {normal(name) for name in declared.get("dependency-groups", {}).get("dev", [])}
    faults = []
    for group, distributions, project in (("the product", shipped, product), ("the tests", dev, tests)):
        used = third_party(project).keys() | named_packages(project)
        unused = {name for name in distributions if not import_names(name) & used} - WORKS_BY_BEING_INSTALLED.keys()
        faults += [f"{name} is declared and {group} never imports it" for name in sorted(unused)]
    known = {name for distribution in shipped for name in import_names(distribution)}
    known_to_tests = known | {name for distribution in dev for name in import_names(distribution)}
    for project, names in ((product, known), (tests, known_to_tests)):
        for name, module in sorted(third_party(project).items()):
            if name not in names and PARTS_OF.get(name) not in names:
                faults.append(f"{module} imports {name}, which pyproject.toml does not declare")
    return faults


def looks_up(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything looked up through an import: `from os import environ` and `os.environ` are the same."""
    aliases: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            aliases |= {(alias.asname or alias.name): alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            aliases |= {(alias.asname or alias.name): f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(source.tree):
        steps: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            steps.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in aliases:
            yield inner.lineno, ".".join([aliases[inner.id], *reversed(steps)])


def surroundings_faults(project: Project) -> list[str]:
    """Wall clock and environment, read where they may not be."""
    faults = []
    for name, source in project.modules.items():
        for what, names, allowed in (("the clock", CLOCK, MAY_READ_THE_CLOCK), ("the environment", ENVIRONMENT, MAY_READ_THE_ENVIRONMENT)):
            if name in allowed or source.puts_together:
                continue
            faults += sorted({f"{name}:{line} reads {what} ({found})" for line, found in looks_up(source) if found in names})
    return faults


def key_faults(project: Project) -> list[str]:
    """Redis keys spelled outside the grammar. A docstring may name them."""
    faults = []
    for name, source in project.modules.items():
        if name == KEY_GRAMMAR:
            continue
        spelling = next((pattern for room, pattern in SPELLS_OTHER_KEYS.items() if within(name, {room})), KEY_AT_REDIS)
        prose = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and id(node) not in prose and isinstance(node.value, str) and spelling.search(node.value):
                faults.append(f"{name}:{node.lineno} spells a Redis key ({node.value!r}); {KEY_GRAMMAR} does that")
    return faults
