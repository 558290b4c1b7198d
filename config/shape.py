"""The base of every file's model: pydantic, made to name all faults at once, each with its line.

A `Shape` knows its words, the words of Weighbridge that this version does not carry out, and where in the file it
stands. A faulty item is reported and read again without its faulty words, so that it hides no other fault.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, ValidationInfo, WrapValidator, model_validator
from pydantic_core import ErrorDetails

from .document import UNREAD, Items, Table
from .faults import Report, did_you_mean, place, unavailable

S = TypeVar("S", bound="Shape")

_KINDS = {
    "string_type": "this is a text",
    "bool_type": "true or false, nothing else",
    "bool_parsing": "true or false, nothing else",
    "list_type": "this is a list: [one, two], or a line with `- ` for each",
    "dict_type": "this is a mapping: {{word: value}}, or `word: value` in lines below, indented",
    "model_type": "this is a mapping: {{word: value}}, or `word: value` in lines below, indented",
    "int_type": "this is a whole number",
    "too_short": "there is nothing in it; write at least one",
    "string_too_short": "this is a text; write at least {min_length} character",
    "string_too_long": "this text is too long; at most {max_length} characters",
    "greater_than_equal": "write at least {ge}",
    "less_than_equal": "write at most {le}",
}


class Shape(BaseModel):
    """`not_built` holds words that are refused with a sentence, and what to do instead."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)
    not_built: ClassVar[dict[str, str]] = {}
    misplaced: ClassVar[dict[str, str]] = {}

    _table: Table = PrivateAttr()

    @property
    def table(self) -> Table:
        """The mapping as it stands in the file, faulty words included."""
        return self._table

    @model_validator(mode="wrap")
    @classmethod
    def _know_the_words(cls, data: Any, handler: Callable[[Any], Self], info: ValidationInfo) -> Self:
        if not isinstance(data, Table):
            return handler(data)
        report = cast(Report, info.context)
        known = cls.words()
        for word in data:
            if word not in known:
                report.fault(data, word, cls._unknown(word))
        cls.contradictions(data, report)
        shape = handler({word: value for word, value in data.items() if word in known})
        shape._table = data.written
        return shape

    @classmethod
    def words(cls) -> frozenset[str]:
        """The words that may stand in it."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        """Report words that do not go together. Sees the raw words, so that it speaks even where others are faulty."""

    @classmethod
    def _unknown(cls, word: str) -> str:
        if word in cls.not_built:
            return unavailable(word, cls.not_built[word])
        if word in cls.misplaced:
            return cls.misplaced[word]
        return f"there is no word `{word}` here" + did_you_mean(word, cls.words())


def _lenient(value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
    if not isinstance(value, Table):
        return handler(value)
    return _without_faults(value, handler, cast(Report, info.context))


def _without_faults(table: Table, build: Callable[[Any], Any], report: Report) -> Any:
    """What `build` makes of the table, its faulty words left out; None where it needs one of them."""
    try:
        return build(table)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for detail in details:
        report.at(*_locate(table, detail), _sentence(detail))
    with report.silenced():
        try:
            return build(_pruned(table, {detail["loc"] for detail in details if detail["type"] != "missing"}))
        except ValidationError:
            return None


def _pruned(value: Any, faulty: set[tuple[int | str, ...]]) -> Any:
    """`value` without what stands at these locations, or at the deepest point of the file that they lead to."""
    if not isinstance(value, Table | Items):
        return value
    rest: Any = type(value)(value.path, value.line)
    if isinstance(value, Table):
        rest.written = value.written
    steps: Any = value if isinstance(value, Table) else range(len(value))
    for step in steps:
        below = {loc[1:] for loc in faulty if loc and loc[0] == step}
        inner: Any = value[step]
        if any(not (loc and isinstance(inner, Table | Items) and _leads_into(inner, loc[0])) for loc in below):
            continue
        kept = _pruned(inner, below) if below else inner
        if isinstance(rest, Table):
            rest[step] = kept
            rest.lines[step] = value.lines[step]
        else:
            rest.append(kept)
            rest.lines.append(value.lines[step])
    return rest


def _leads_into(value: Table | Items, step: int | str) -> bool:
    return step in value if isinstance(value, Table) else isinstance(step, int) and step < len(value)


def _locate(table: Table, detail: ErrorDetails) -> tuple[int, str]:
    """The line and path of a pydantic error: as deep as its location leads into the file."""
    where: Table | Items = table
    line, path = place(where, None)
    for step in detail["loc"]:
        if not _leads_into(where, step):
            break
        inner: Any = where[step]  # type: ignore[index]
        line, path = place(where, step)
        if not isinstance(inner, Table | Items):
            break
        where = inner
    return line, path


def _sentence(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "missing":
        return f"`{detail['loc'][-1]}` is missing"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    return _KINDS[kind].format(**detail.get("ctx", {})) if kind in _KINDS else detail["msg"]


_T = TypeVar("_T")
Lenient = Annotated[_T | None, WrapValidator(_lenient)]
"""An item of a list or mapping: None where it was too faulty to be read; its faults stand in the report."""


def read_shape(shape: type[S], value: Any, report: Report) -> S | None:
    """The file's top. None, with the faults in the report, where there is too little to go on."""
    if value is UNREAD:
        return None
    if value is None:
        report.at(1, "", "the file is empty")
        return None
    if not isinstance(value, Table):
        report.at(1, "", f"the file's top is a mapping with the words {', '.join(sorted(shape.words()))}")
        return None
    made = _without_faults(value, lambda table: shape.model_validate(table, context=report), report)
    return cast(S | None, made)
