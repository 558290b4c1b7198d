"""What header fields ask of the control API."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from billing.api.negotiation import (
    IdempotencyKeyFaulty,
    MediaTypeRefused,
    NotAcceptable,
    NoTagOfAChange,
    check_accept,
    check_encoding,
    check_json,
    check_no_tag,
    etag,
    idempotency_key,
    is_known,
)
from billing.api.sealing import Unsealable, seal


def fields(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


ACCEPTS = [
    (None, True), ("", True), ("*/*", True), ("application/json", True), ("Application/*", True), ("text/html, */*;q=0.1", True),
    ("application/json; charset=utf-8", True), ("text/html", False), ("application/json;q=0", False), ("application/json;q=0, */*", False),
    ("application/problem+json", False), ("*/*;q=0.0", False), ("application/*;q=0, */*;q=1", False), (",", False), ("json", False),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "fits"), ACCEPTS)
def test_an_answer_that_is_ruled_out_is_not_given(wish: str | None, fits: bool) -> None:
    headers = fields() if wish is None else fields(("Accept", wish))
    if fits:
        check_accept(headers)
    else:
        with pytest.raises(NotAcceptable):
            check_accept(headers)


TYPES = [
    (None, True), ("application/json", True), ("application/json; charset=UTF-8", True), ("application/merge-patch+json", True),
    ('APPLICATION/JSON;charset="utf-8"', True), ("application/x-www-form-urlencoded", False), ("text/plain", False), ("", False),
    ("application/json; charset=utf-16", False), ("application/jsonp", False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fits"), TYPES)
def test_a_body_is_json_in_utf_8_or_says_nothing(kind: str | None, fits: bool) -> None:
    headers = fields() if kind is None else fields(("Content-Type", kind))
    if fits:
        check_json(headers)
    else:
        with pytest.raises(MediaTypeRefused):
            check_json(headers)


def test_a_compressed_body_and_a_change_tied_to_a_tag_are_refused() -> None:
    check_encoding(fields(("Content-Encoding", "identity")))
    for coding in ("gzip", "br", "identity, gzip"):
        with pytest.raises(MediaTypeRefused):
            check_encoding(fields(("Content-Encoding", coding)))
    check_no_tag(fields(("If-None-Match", "*")))
    for name in ("If-Match", "If-Unmodified-Since"):
        with pytest.raises(NoTagOfAChange):
            check_no_tag(fields((name, "*")))


def test_a_tag_is_the_answers_own_and_known_again() -> None:
    tag = etag("{}")
    assert (tag == etag("{}"), tag == etag("[]")) == (True, False)
    known = [tag, f"W/{tag}", f'"other", {tag}', f'{tag},"other"', "*", " * "]
    assert [is_known(tag, fields(("If-None-Match", each))) for each in known] == [True] * len(known)
    assert [is_known(tag, fields(*each)) for each in ([], [("If-None-Match", '"other"')], [("If-None-Match", tag.strip('"'))])] == [
        False
    ] * 3


KEYS = [("a", "a"), ('"a b"', "a b"), ("  8e03978e-40d5 ", "8e03978e-40d5"), ("x" * 255, "x" * 255), ('"', '"')]


@pytest.mark.parametrize(("given", "key"), KEYS)
def test_an_idempotency_key_has_quotes_or_none(given: str, key: str) -> None:
    assert idempotency_key(fields(("Idempotency-Key", given))) == key


@pytest.mark.parametrize("given", [("",), ('""',), ("x" * 256,), ("ä",), ("a\tb",), ("a", "a")])
def test_what_is_no_idempotency_key_is_refused(given: tuple[str, ...]) -> None:
    assert idempotency_key(fields()) is None
    with pytest.raises(IdempotencyKeyFaulty):
        idempotency_key(fields(*(("Idempotency-Key", each) for each in given)))


REQUEST = {"credential": "wbt_one", "key": "k", "method": "POST", "target": "/a?org=b", "body": b"{}"}


def test_a_kept_answer_is_read_by_the_same_caller_with_the_same_key_and_request_alone() -> None:
    own = seal(**REQUEST)  # type: ignore[arg-type]
    sealed = own.close(b'{"token": "wbt_secret"}')
    assert seal(**REQUEST).open(sealed) == b'{"token": "wbt_secret"}'  # type: ignore[arg-type]
    assert b"secret" not in sealed
    changes = ({"credential": "wbt_two"}, {"key": "l"}, {"method": "PUT"}, {"target": "/a"}, {"body": b""})
    for change in changes:
        other = seal(**{**REQUEST, **change})  # type: ignore[arg-type]
        assert (other.id == own.id) is not bool({"credential", "key"} & set(change))  # another body under the same key is found out
        assert other.fingerprint != own.fingerprint
        with pytest.raises(Unsealable):
            other.open(sealed)
    for broken in (b"", sealed[:-1], sealed[:5], bytes(len(sealed))):
        with pytest.raises(Unsealable):
            own.open(broken)
