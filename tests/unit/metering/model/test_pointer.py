"""JSON pointers by RFC 6901, and the short cut that may say no only where there is nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.pointer import ABSENT, Pointer

# RFC 6901 §5, but for the pointer to the whole document, which is no place for a number of units
DOCUMENT = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5),
        ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_the_examples_of_the_rfc_hold(text: str, value: object) -> None:
    assert Pointer(text).find(DOCUMENT) == value
    assert Pointer(text).may_be_in(json.dumps(DOCUMENT).encode())


@pytest.mark.parametrize("text", ["/foo/2", "/foo/01", "/foo/-", "/foo/-1", "/foo/bar", "/nothing", "/a", "/foo/0/x", "/foo/٣"])
def test_what_is_not_there_is_absent(text: str) -> None:
    assert Pointer(text).find(DOCUMENT) is ABSENT


def test_null_is_a_value() -> None:
    assert Pointer("/usage").find({"usage": None}) is None


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("usage.total_tokens", "/usage/total_tokens"), ("#/usage", "/usage"), ("$.usage.x", "/usage/x"), ("usage/x", "/usage/x"),
     ("", "/usage/total_tokens")],
)  # fmt: skip
def test_what_is_no_pointer_is_refused_with_the_nearest_that_is_one(text: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"write it like {nearest}$"):
        Pointer(text)


def test_a_tilde_that_escapes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="another ~"):
        Pointer("/a~2")


_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["a", "b", "usage", "0", "1", "~", "/", '"'])
_documents = st.recursive(
    st.integers() | st.none() | st.booleans() | _names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner),
    max_leaves=8,
)


def _places(document: Any, at: str = "") -> list[tuple[str, Any]]:
    found = [(at, document)] if at else []
    steps = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for name, inner in steps:
        found += _places(inner, f"{at}/{str(name).replace('~', '~0').replace('/', '~1')}")
    return found


@given(_documents, st.booleans())
def test_every_place_of_a_document_is_found_and_never_ruled_out(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    for place, value in _places(document):
        assert Pointer(place).find(document) == value
        assert Pointer(place).may_be_in(text)


def test_a_name_in_escapes_is_not_ruled_out_and_a_text_without_the_name_is() -> None:
    assert Pointer("/usage").may_be_in(b'{"\\u0075sage": 1}')
    assert not Pointer("/usage").may_be_in(b'{"choices": [{"delta": "of no usage here"}]}')
