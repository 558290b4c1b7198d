"""What is wrong with a configuration file: where, and what to do about it.

A `Report` gathers every fault of one file, so that an operator sees all of them at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches

from metering.model.meter import Meter

from .document import Items, Table, join
from .secret_words import without_secrets


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`line` counts from 1; 0 where no line is meant (a missing file). `path` is like plans.pro.quotas[0].limit."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@dataclass(slots=True)
class Report:
    """The faults and warnings of one file, and the meters that its words may refer to (None: they could not be read)."""

    file: str
    meters: Mapping[str, Meter] | None = None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    _silent: bool = False

    def at(self, line: int, path: str, message: str) -> None:
        fault = Fault(self.file, line, without_secrets(path), without_secrets(message))
        if fault not in self.faults and not self._silent:
            self.faults.append(fault)

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """What is read again without its faulty parts has been reported already."""
        before, self._silent = self._silent, True
        yield
        self._silent = before

    def fault(self, where: Table | Items, key: str | int | None, message: str) -> None:
        """A fault at a key of a table or an item of a list; at the table itself for None."""
        self.at(*place(where, key), message)

    def meter(self, name: str) -> Meter | None:
        return self.meters.get(name) if self.meters is not None else None

    def unknown_meter(self, name: object) -> str | None:
        """A sentence where there is no such meter, as far as meters.yaml could be read."""
        if self.meters is None or not isinstance(name, str) or name in self.meters:
            return None
        return f"there is no meter `{name}` in meters.yaml{did_you_mean(name, self.meters)}"

    def warn(self, where: Table | Items, key: str | int | None, message: str) -> None:
        line, path = place(where, key)
        warning = Fault(self.file, line, path, without_secrets(message))
        if warning not in self.warnings and not self._silent:
            self.warnings.append(warning)


def place(where: Table | Items, key: str | int | None) -> tuple[int, str]:
    """Line and path of `key` in `where`."""
    if key is None:
        return where.line, where.path
    if isinstance(where, Table):
        return where.lines.get(str(key), where.line), join(where.path, str(key))
    return where.lines[int(key)], f"{where.path}[{key}]"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a sentence about an unknown word: the nearest known one, or all of them where they are few."""
    words = sorted(known)
    near = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    if not words:
        return ""
    return f"; known: {', '.join(words[:20])}" + (", …" if len(words) > 20 else "")


def unavailable(word: str, instead: str = "") -> str:
    """The sentence for a word of Weighbridge's language that this version does not carry out."""
    return f"`{word}` is not available in this version of Weighbridge" + (f": {instead}" if instead else "; leave it out")
