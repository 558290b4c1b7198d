"""JSON pointers (RFC 6901): a place in a JSON document, such as /usage/total_tokens. Pure."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

ABSENT: Final = object()
"""What stands at a place that a document does not have."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_PLAIN = re.compile(r"[A-Za-z0-9_. -]+")  # names that JSON can spell in another way only by \\u escapes


@dataclass(frozen=True, slots=True)
class Pointer:
    """One place. Raises ValueError, with a sentence, for a text that is no pointer."""

    text: str
    tokens: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _mark: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text
        if not text.startswith("/"):
            nearest = "/" + text.removeprefix("#").removeprefix("$").strip("./").replace(".", "/")
            raise ValueError(f"`{text}` is no JSON pointer (RFC 6901); write it like {nearest if text else '/usage/total_tokens'}")
        if re.search("~(?![01])", text):
            raise ValueError(f"in a JSON pointer (RFC 6901) `~` is written ~0 and a `/` within a name ~1; `{text}` has another ~")
        tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))
        object.__setattr__(self, "tokens", tokens)
        names = [token for token in tokens if _PLAIN.fullmatch(token) and not _INDEX.fullmatch(token)]
        object.__setattr__(self, "_mark", b'"%b"' % names[-1].encode() if names else b"")

    def may_be_in(self, text: bytes) -> bool:
        """False where this JSON text cannot have the place: cheaper than reading it, and never wrong about one that has it."""
        return self._mark in text or b"\\u" in text

    def find(self, document: Any) -> Any:
        """What stands there; ABSENT where nothing does."""
        for token in self.tokens:
            if isinstance(document, dict):
                document = document.get(token, ABSENT)
            elif isinstance(document, list) and _INDEX.fullmatch(token) and int(token) < len(document):
                document = document[int(token)]
            else:
                return ABSENT
        return document
