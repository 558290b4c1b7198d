"""A letter as plain text. Pure."""

import textwrap

from billing.model.letters.letter import Action, Block, Code, Letter, Points, Table, Text

_WIDTH = 76


def as_text(letter: Letter) -> str:
    parts = [letter.greeting, *map(_block, letter.body), "\n".join(letter.closing), f"-- \n{_filled(letter.small)}"]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Text(text=text):
            return _filled(text)
        case Table(rows=rows):
            return "\n".join(f"{name}: {value}" for name, value in rows)
        case Points(title=title, items=items, numbered=numbered):
            marks = [f"{number}. " if numbered else "- " for number in range(1, len(items) + 1)]
            lines = [_filled(item, mark) for mark, item in zip(marks, items, strict=True)]
            return "\n".join([title, *lines] if title else lines)
        case Code(label=label, code=code):
            return f"{label} {code}"
        case Action(label=label, url=url):
            return f"{label}:\n{url}"


def _filled(text: str, mark: str = "") -> str:
    """Lines of a width that is read well; what has no space in it, such as an address, stays whole."""
    return textwrap.fill(
        text, _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False, break_on_hyphens=False
    )
