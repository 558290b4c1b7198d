"""The hot path as machine code, where it was compiled from the very sources that lie here; else it runs as the Python it is.

`weighbridge compile` (weighbridge/compiling.py) puts what it makes into `_compiled/<digest>` beside this file. The digest is of all
sources that the compiled modules were made from or rely on, and of the Python they were made for: an edited source, or another
Python, finds nothing under its digest, and machine code can never stand for a source that is no longer there.
"""

import hashlib
import sys
import sysconfig
from collections.abc import Sequence
from enum import StrEnum
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

HOT = (
    "gateway.admission", "gateway.adoption", "gateway.balance", "gateway.bare", "gateway.bypasses", "gateway.call", "gateway.charges",
    "gateway.chunked", "gateway.client", "gateway.credentials", "gateway.decisions", "gateway.directory", "gateway.drawing",
    "gateway.downstream", "gateway.draws", "gateway.epochs", "gateway.events", "gateway.exchange", "gateway.failure", "gateway.fields",
    "gateway.flow", "gateway.frames", "gateway.gate", "gateway.handler", "gateway.hands", "gateway.headers", "gateway.health",
    "gateway.http1", "gateway.identity", "gateway.kept", "gateway.limits", "gateway.looks", "gateway.loops", "gateway.memory",
    "gateway.metrics", "gateway.outcome", "gateway.recorder", "gateway.relay", "gateway.reply", "gateway.request", "gateway.reserve",
    "gateway.responses", "gateway.routing", "gateway.running", "gateway.seats", "gateway.server_clock", "gateway.service", "gateway.shapes",
    "gateway.shipper", "gateway.sluice", "gateway.standing", "gateway.tally", "gateway.target", "gateway.tenants", "gateway.transfer",
    "gateway.tunnel", "gateway.units", "gateway.upstream", "gateway.wire", "config.gateway", "metering.store.journal",
    "metering.store.redis.link",
)  # fmt: skip
GROUP = "weighbridge_hot_path"
LIBRARY = f"{GROUP}__mypyc"  # all of them; each module's own file only points into it
PACKAGES = ("gateway", "metering", "config")  # what they are made from, and rely on
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
HERE = Path(__file__).parent


class Choice(StrEnum):
    """What WEIGHBRIDGE_COMPILED asks for."""

    AUTO = "auto"  # compiled where it is compiled
    NO = "no"
    YES = "yes"  # or not at all


class NotCompiled(Exception):
    """Compiled code was asked for, and there is none of these sources."""


def sources(root: Path) -> list[Path]:
    """The files that decide what is compiled, in order."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def digest(root: Path = HERE.parent) -> str:
    """Of the sources and of this Python; the name of the folder for what is made from both."""
    found = hashlib.sha256(f"{sys.implementation.cache_tag} {SUFFIX}".encode())
    for path in sources(root):
        found.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:32]


class _Finder(MetaPathFinder):
    """Finds the compiled modules in their folder, before anybody finds their sources."""

    def __init__(self, folder: Path) -> None:
        self._files = {name: folder / f"{name.replace('.', '/')}{SUFFIX}" for name in (*HOT, LIBRARY)}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        file = self._files.get(fullname)
        return spec_from_file_location(fullname, file) if file is not None else None


def use(choice: str = Choice.AUTO, *, home: Path = HERE) -> str:
    """Let what is imported from now on be the compiled modules, if there are any of these sources. Returns how the hot path runs.

    To be called before any of them is imported. Raises NotCompiled where there are none and `choice` is "yes".
    """
    if choice == Choice.NO:
        return "as Python, as WEIGHBRIDGE_COMPILED=no asks"
    made = home / "_compiled"
    folder = made / digest(home.parent)
    if folder.is_dir():
        sys.meta_path.insert(0, _Finder(folder))
        return "compiled"
    why = f"as Python: it {'was compiled from other sources' if made.is_dir() else 'is not compiled'} (`weighbridge compile`)"
    if choice == Choice.YES:
        raise NotCompiled(f"WEIGHBRIDGE_COMPILED=yes, but the hot path would run {why}")
    return why


def in_use() -> bool:
    """Whether this process runs the compiled modules."""
    return LIBRARY in sys.modules
