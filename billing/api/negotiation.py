"""What a request's header fields ask of us: types, encodings, tags, keys. Pure; refusals are those of RFC 9110."""

import base64
import hashlib
import re

from multidict import CIMultiDictProxy

from metering.model.errors import BadInput, WeighbridgeError

JSON = "application/json"
_LONGEST_KEY = 255
_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
_KEY = re.compile(r"[\x21-\x7e]|[\x21-\x7e][\x20-\x7e]*[\x21-\x7e]")

Headers = CIMultiDictProxy[str]


class NotAcceptable(WeighbridgeError):
    """This path answers with application/json, which Accept rules out."""

    code, http_status = "not_acceptable", 406


class MediaTypeRefused(WeighbridgeError):
    """The body is to be application/json, in UTF-8, and not compressed."""

    code, http_status = "unsupported_media_type", 415


class NoTagOfAChange(WeighbridgeError):
    """Changes are not tied to a tag: leave If-Match and If-Unmodified-Since out."""

    code, http_status = "precondition_failed", 412


class IdempotencyKeyFaulty(BadInput):
    """Idempotency-Key is given once, with 1 to 255 printable ASCII characters."""

    code = "idempotency_key_faulty"


def check_accept(headers: Headers) -> None:
    """Raises NotAcceptable where JSON is ruled out."""
    wishes = ",".join(headers.getall("Accept", []))
    if not wishes.strip():
        return
    found: dict[str, float] = {}
    for wish in wishes.split(","):
        kind, *parameters = (part.strip().lower() for part in wish.split(";"))
        found[kind] = max(found.get(kind, 0.0), _weight(parameters))
    for kind in (JSON, "application/*", "*/*"):  # the most precise that is named decides
        if kind in found:
            if found[kind] > 0:
                return
            break
    raise NotAcceptable


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return 0.0 if re.fullmatch(r"0(?:\.0*)?", value.strip()) else 1.0
    return 1.0


def check_json(headers: Headers) -> None:
    """A body that says of what type it is says JSON. Raises MediaTypeRefused."""
    kind, *parameters = (part.strip().lower() for part in headers.get("Content-Type", JSON).split(";"))
    charset = next((p.partition("=")[2].strip().strip('"') for p in parameters if p.startswith("charset")), "utf-8")
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise MediaTypeRefused(f"the body is to be {JSON}; it is said to be something else")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise MediaTypeRefused("the body is to be in UTF-8")


def check_encoding(headers: Headers) -> None:
    """Raises MediaTypeRefused for a body that is compressed: what it becomes has no bound."""
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise MediaTypeRefused("the body is to be sent as it is, without Content-Encoding")


def check_no_tag(headers: Headers) -> None:
    """Who ties a change to a tag is not to find it made regardless. Raises NoTagOfAChange."""
    if "If-Match" in headers or "If-Unmodified-Since" in headers:
        raise NoTagOfAChange


def etag(text: str) -> str:
    return '"' + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:18]).decode() + '"'


def is_known(tag: str, headers: Headers) -> bool:
    """Whether If-None-Match names the tag. A proxy that compresses makes it weak; it is compared weakly (RFC 9110, 13.1.2)."""
    named = ",".join(headers.getall("If-None-Match", []))
    return named.strip() == "*" or tag.strip('"') in _TAG.findall(named)


def idempotency_key(headers: Headers) -> str | None:
    """With quotes, as the draft of the header has it, or without. Raises IdempotencyKeyFaulty."""
    given = headers.getall("Idempotency-Key", [])
    if not given:
        return None
    key = given[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise IdempotencyKeyFaulty
    return key
