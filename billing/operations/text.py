"""Text that PostgreSQL can hold: without NUL, and without halves of characters that UTF-8 does not know."""

from collections.abc import Mapping
from typing import Any


def storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def unstorable_field(value: Any, path: str = "") -> str | None:
    """Where in what was said, as JSON has it, there is text that cannot be kept; None: nowhere."""
    if isinstance(value, str):
        return None if storable(value) else path or "(all)"
    if isinstance(value, Mapping):
        return _first([(f"{path}.{name}" if path else str(name), each) for name, each in value.items()])
    if isinstance(value, (list, tuple)):
        return _first([(f"{path}.{number}" if path else str(number), each) for number, each in enumerate(value)])
    return None


def _first(found: list[tuple[str, Any]]) -> str | None:
    for path, value in found:
        if not storable(path):
            return "(all)"  # a name that cannot be repeated
        if (where := unstorable_field(value, path)) is not None:
            return where
    return None
