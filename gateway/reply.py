"""The head of a service's response, and the common one read without llhttp.

Pure. Common is: HTTP/1.1, the head whole in the first read, a status of 2xx to 5xx that has a body, one Content-Length, no
Transfer-Encoding, no Upgrade. Such a head is read here as strictly as llhttp does, or found by its bytes; every other goes llhttp's
way (gateway/service.py), which decides and words the fault.
"""

import re
from typing import Any

from gateway.fields import FIELD
from gateway.memory import Memory

_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\x20-\x7e]*)(?=\r\n)")
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength:[ \t]*[0-9]{1,15}\r\n")
_UNCOMMON_STATUS = (204, 304)
_UNCOMMON = frozenset((b"transfer-encoding", b"upgrade", b"proxy-connection"))
_MOST_DERIVED = 8

_MOST_HEADS, _MOST_HEAD_BYTES, _LONGEST_HEAD = 2_048, 1_048_576, 1_024


class ResponseHead:
    """A response's head: status and reason as they came, `fields` in order, `names` the same in lower case.

    `fault` says why it cannot be passed on, empty if it can. Equal heads may share one; what others derive from it they keep in
    `memo`. `kept`: more responses will bring this head.
    """

    __slots__ = ("content_length", "fault", "fields", "keep_alive", "kept", "memo", "names", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, fields: list[tuple[bytes, bytes]], content_length: int | None, *, keep_alive: bool
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.names = [name.lower() for name, _ in fields]
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.fault = ""
        self.kept = False
        self.memo: dict[Any, Any] = {}

    def remember(self, key: Any, value: Any) -> None:
        """Keep what was derived, if equal responses will come."""
        if self.kept:
            if len(self.memo) >= _MOST_DERIVED:
                self.memo.clear()
            self.memo[key] = value


_heads: Memory[ResponseHead] = Memory(_MOST_HEADS, _MOST_HEAD_BYTES, _LONGEST_HEAD)
_known_heads = _heads.known


def common_head(data: bytes) -> tuple[ResponseHead, int] | None:
    """The head that `data` begins with and where it ends; None if it is not common."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    block = data[:end]
    head = _known_heads.get(block)
    if head is None:
        head = read_common(block)
        if head is None:
            return None
        head.kept = _heads.keep(block, head)
    return head, end


def read_common(block: bytes) -> ResponseHead | None:
    """`block` is one head up to and with its blank line."""
    line = _STATUS.match(block)
    if line is None or _LENGTH.search(block) is None or b" \r\n" in block or b"\t\r\n" in block:
        return None
    fields = FIELD.findall(block)
    if len(fields) != block.count(b"\n") - 2:  # each line is a field, from its beginning to its end
        return None
    head = ResponseHead(int(line[1]), line[2], fields, None, keep_alive=True)
    if head.status in _UNCOMMON_STATUS or not _UNCOMMON.isdisjoint(head.names):
        return None
    seen = False
    for name, (_, value) in zip(head.names, fields, strict=True):
        if name == b"content-length":
            if head.content_length is not None or not value.isdigit() or len(value) > 15:
                return None
            head.content_length = int(value)
        elif name == b"connection":
            option = value.lower()
            if seen or option not in (b"close", b"keep-alive"):
                return None
            seen = True
            head.keep_alive = option == b"keep-alive"
    return None if head.content_length is None else head
