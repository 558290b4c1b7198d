"""The configuration's files as one set: read together, named by the hash of their contents, kept as the last good one.

Kubernetes swaps a mounted folder by one symlink (`..data`); the set is read from the folder that the link leads to, and
read again where it was swapped meanwhile.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from metering.model.errors import BadInput

from .faults import Fault

FILES = ("gateway.yaml", "meters.yaml", "plans.yaml")
OPTIONAL = ("orgs.yaml",)
LAST_GOOD = "last-good-config.json"

_ATTEMPTS = 20


class ConfigMissing(BadInput):
    """There is no folder with a configuration."""

    code = "config_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """File name → text. `unread` names what is missing or no text, with the reason.

    `targets` replace those of the default upstream (`--upstream`), whatever gateway.yaml says.
    """

    texts: Mapping[str, str]
    unread: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Twelve hex digits of the contents' hash: equal files, equal versions. `targets` are no content."""
        content = json.dumps([sorted(self.texts.items()), sorted(self.unread)], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def with_targets(self, *targets: str) -> "FileSet":
        return replace(self, targets=targets)

    def to_json(self) -> str:
        """The inverse of `from_json`; what a worker is handed."""
        return json.dumps({"texts": dict(self.texts), "unread": dict(self.unread), "targets": self.targets}, indent=1)

    @staticmethod
    def from_json(text: str) -> "FileSet":
        value = json.loads(text)
        return FileSet(texts=value["texts"], unread=value["unread"], targets=tuple(value["targets"]))

    def faults(self) -> list[Fault]:
        """What is missing or unreadable."""
        return [Fault(name, 0, "", reason) for name, reason in self.unread.items()]


def read_set(folder: Path) -> FileSet:
    """The files of `folder` as they stood together. Raises ConfigMissing where there is no such folder."""
    if not folder.is_dir():
        raise ConfigMissing(f"there is no folder {folder}; `weighbridge init` writes a configuration, --config DIR names another")
    before = _fingerprint(folder)
    for _ in range(_ATTEMPTS):
        found = _read_once(folder)
        after = _fingerprint(folder)
        if before == after:
            return found
        before = after
    raise ConfigMissing(f"the files in {folder} change faster than they can be read")


def _where(folder: Path, name: str) -> Path:
    """The file behind its links: two names behind one swapped link lead into one folder."""
    return Path(os.path.realpath(folder / name))


def _fingerprint(folder: Path) -> list[tuple[str, int, int, int] | None]:
    found: list[tuple[str, int, int, int] | None] = []
    for name in (*FILES, *OPTIONAL):
        path = _where(folder, name)
        try:
            stat = path.stat()
            found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def _read_once(folder: Path) -> FileSet:
    texts: dict[str, str] = {}
    unread: dict[str, str] = {}
    for name in (*FILES, *OPTIONAL):
        try:
            texts[name] = _where(folder, name).read_bytes().decode("utf-8")
        except FileNotFoundError:
            if name in FILES:
                unread[name] = f"there is no such file in {folder}; `weighbridge init` writes one to start from"
        except UnicodeDecodeError as error:
            unread[name] = f"the file is no UTF-8 text (byte {error.start})"
        except OSError as error:
            unread[name] = f"the file cannot be read: {error.strerror}"
    return FileSet(texts=texts, unread=unread)


def save_last_good(folder: Path, files: FileSet) -> None:
    """Keep a set that had no faults. Written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{LAST_GOOD}.{os.getpid()}"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(files.to_json())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / LAST_GOOD)


def load_last_good(folder: Path) -> FileSet | None:
    """The set kept last, or None where there is none that can be read."""
    try:
        return FileSet.from_json((folder / LAST_GOOD).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
