"""Path templates, and how a request's path is normalized to be matched with them. Pure.

A template is literal segments, `{name}` for one segment or a part of one, and at the end `*` for all that follows.
A request is matched, never rewritten: the service gets the path as it came.
"""

import re
from collections.abc import Iterator
from enum import IntEnum

_PLAIN = frozenset(map(chr, range(0x20, 0x7F))) - frozenset("/%\\;{}*")  # characters that an escape may stand for
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})*")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
_SEPARATOR = re.compile(r"%2f|%5c|\\", re.IGNORECASE)
_PARAMETERS = re.compile(r"(?:;|%3b)[^/]*", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"[;\\]|%(?:2f|5c|3b)", re.IGNORECASE)
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


class Form(IntEnum):
    """What a segment of a template is; the lower, the more specific."""

    LITERAL = 0
    MIXED = 1  # {name}.pdf
    PARAMETER = 2
    REST = 3  # the last segment is *


def check_template(text: str) -> str:
    """The template, as it is. Raises ValueError with a sentence where it is none."""
    if not text.startswith("/"):
        raise ValueError(f"a path begins with a slash: /{text}")
    if "?" in text or "#" in text:
        raise ValueError(f"{text}: a path ends before the ? or #; routes do not look at queries")
    segments = text[1:].split("/")
    names: list[str] = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "*" and last:
            continue
        if segment == "" and not last:
            raise ValueError(f"{text}: an empty segment (`//`) never matches; take one slash out")
        if segment in (".", ".."):
            raise ValueError(f"{text}: `{segment}` never matches; write the path without it")
        if "*" in segment:
            raise ValueError(f"{text}: `*` stands alone, as the last segment: /docs/*; for one segment write {{name}}")
        names += _PARAMETER.findall(segment)
        _check_segment(text, segment)
    if len(names) != len(set(names)):
        raise ValueError(f"{text}: a name stands twice; give each {{name}} its own")
    return text


def _check_segment(text: str, segment: str) -> None:
    literal = _PARAMETER.sub("", segment)
    if "{" in literal or "}" in literal:
        raise ValueError(f"{text}: in braces stands a name of letters, digits and underscores: {{id}}")
    if "}{" in segment:
        raise ValueError(f"{text}: two names without anything between them cannot be told apart")
    if not _LITERAL.fullmatch(literal):
        raise ValueError(f"{text}: spaces and characters beyond ASCII are written as escapes: %20")


def segments_of(path: str, *, keep_dots: bool = False) -> tuple[str, ...]:
    """The segments of a path or template, normalized. `/a/%2e%2e//b/` is `/b`.

    Escapes of plain characters are undone, others stand in capitals; no empty segments, no slash at the end, and no dot
    segments unless they are to be kept. The path of a request is its bytes read as Latin-1.
    """
    path = _ESCAPE.sub(_spelled, path) if "%" in path else path
    path = path if path.isascii() and path.isprintable() else _BEYOND_ASCII.sub(_escaped, path)
    found: list[str] = []
    for segment in path.split("/"):
        if segment in (".", "..") and not keep_dots:
            if segment == ".." and found:
                found.pop()
        elif segment:
            found.append(segment)
    return tuple(found)


def readings_of(path: str) -> Iterator[tuple[str, ...]]:
    """The path as services may read it, the usual reading first.

    A lenient one parts segments at `%2F`, `%5C` and `\\`, and drops `;…` from each; a literal one takes `..` for a name.
    """
    lenient = _PARAMETERS.sub("", _SEPARATOR.sub("/", path)) if _AMBIGUOUS.search(path) else None
    for text in (path, lenient):
        if text is None:
            continue
        yield segments_of(text)
        if _DOTS.search(text):
            yield segments_of(text, keep_dots=True)


def _spelled(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _PLAIN else f"%{match[1].upper()}"


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("latin-1", "replace"))


def form_of(segment: str) -> Form:
    if segment == "*":
        return Form.REST
    if _PARAMETER.fullmatch(segment):
        return Form.PARAMETER
    return Form.MIXED if _PARAMETER.search(segment) else Form.LITERAL


def pattern_of(segment: str) -> re.Pattern[str]:
    """What a segment with names in it matches: at least one character for each."""
    parts = _PARAMETER.split(segment)
    return re.compile("".join(re.escape(part) if index % 2 == 0 else "[^/]+" for index, part in enumerate(parts)))


def shape_of(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The template without its names: two templates of one shape match the same paths."""
    return tuple(_PARAMETER.sub("{}", segment) for segment in segments)


def specificity(segments: tuple[str, ...]) -> tuple[int, int, tuple[int, ...]]:
    """Sorts templates, the most specific first: literal before named before `*`; then more literal segments; then
    the one whose segments are more literal from the left.
    """
    forms = tuple(form_of(segment) for segment in segments)
    kind = 2 if Form.REST in forms else 1 if any(forms) else 0
    return kind, -sum(form is Form.LITERAL for form in forms), (*forms, *((Form.REST,) if kind != 2 else ()))
