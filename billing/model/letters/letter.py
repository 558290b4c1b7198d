"""A letter before it is text or HTML: what it says, in order. Pure."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Who writes. Without `public_url` there are no links; `upgrade_url` is where plans are chosen."""

    product: str
    public_url: str | None = None
    upgrade_url: str | None = None
    support: str | None = None
    win_back_code: str | None = None

    def page(self, path: str) -> str | None:
        return None if self.public_url is None else f"{self.public_url}{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Whom it is for. `name` is a person's, where one is known; `language` a tag such as de-AT."""

    organization: str
    name: str | None = None
    language: str | None = None


class Tone(StrEnum):
    """The colour of the HTML."""

    PLAIN = "plain"
    GOOD = "good"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Facts, each a name and what holds."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Points:
    """A list under a line; `numbered` where the order matters."""

    title: str
    items: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """What to press. `url` None: nowhere to go, and it is left out."""

    label: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Code:
    """Something to type elsewhere, such as a coupon."""

    label: str
    code: str


Block = Text | Table | Points | Action | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """`subject` is without the product's name, which the mail puts before it; `small` is the line under everything."""

    language: str
    subject: str
    greeting: str
    blocks: tuple[Block, ...]
    closing: tuple[str, ...]
    small: str
    tone: Tone = Tone.PLAIN

    @property
    def body(self) -> tuple[Block, ...]:
        """Without actions that lead nowhere, empty lists and tables."""
        return tuple(block for block in self.blocks if _says_something(block))


def _says_something(block: Block) -> bool:
    match block:
        case Action(url=url):
            return url is not None
        case Points(items=items):
            return bool(items)
        case Table(rows=rows):
            return bool(rows)
        case _:
            return True
