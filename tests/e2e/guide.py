"""Reads guide.txt: commands, what is answered to their questions, and the lines that they print. Nothing runs here."""

import re
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("guide.txt")
_NAME = re.compile(r"<([a-z]+)>")


@dataclass
class Step:
    """A command, or something that happens outside. `guide` is the command as the guide has it, None where it is beside the guide."""

    line: int
    command: str
    guide: str | None
    outside: bool = False
    answers: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return any(line.startswith("weighbridge:") for line in self.shown)


def steps(text: str | None = None) -> list[Step]:
    found: list[Step] = []
    body = SCRIPT.read_text("utf-8") if text is None else text
    begun = False
    for number, line in enumerate(body.splitlines(), start=1):
        begun = begun or line.startswith("# ")
        if not begun or not line.strip() or line.startswith("# "):
            continue
        if line.startswith("$$ "):
            found.append(Step(number, line[3:], None))
        elif line.startswith("$ "):
            command, _, guide = (part.strip() for part in line[2:].partition("   ##"))
            found.append(Step(number, command, guide or command))
        elif line.startswith("@ "):
            found.append(Step(number, line[2:], None, outside=True))
        elif line.startswith("< "):
            found[-1].answers.append(line[2:])
        else:
            found[-1].shown.append(line)
    return found


def with_known(text: str, known: dict[str, str]) -> str:
    """Names that are known stand for their words."""
    return _NAME.sub(lambda name: known.get(name[1], name[0]), text)


def pattern(line: str) -> re.Pattern[str]:
    """A line that is expected. Columns stand further apart than one space."""
    parts = re.split(r"(…|<[a-z]+>)", line)
    made = "".join(".*" if p == "…" else f"(?P<{p[1:-1]}>\\S+)" if _NAME.fullmatch(p) else re.escape(p) for p in parts)
    return re.compile(made.replace(r"\ .*\ ", r"\s(?:.*\s)?").replace(r"\ .*", r"\s*.*"))


def missing(step: Step, printed: list[str], known: dict[str, str]) -> str | None:
    """The first line that is expected and does not come, in order; what lines name is known from then on."""
    rest = iter(printed)
    for expected in step.shown:
        wanted = pattern(with_known(expected, known))
        found = next((match for line in rest if (match := wanted.fullmatch(line.rstrip()))), None)
        if found is None:
            return expected
        known.update(found.groupdict())
    return None
