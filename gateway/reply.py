"""The head of a service's response, remembered by its bytes where it comes again.

Pure. llhttp reads every head first (gateway/service.py). What a remembered head says needs no second reading: its status and fields,
and that its body is counted by one Content-Length. Heads of any other kind are not remembered.
"""

from typing import Any, Final

from gateway.memory import Memory

_WITHOUT_BODY: Final = (204, 304)
_UNCOUNTED: Final = frozenset((b"transfer-encoding", b"upgrade"))
_MOST_DERIVED: Final = 8
_STATUS_AT: Final = 9  # in a status line (RFC 9112 §4)
_STATUS_END: Final = 12

_MOST_HEADS: Final = 2_048
_MOST_HEAD_BYTES: Final = 1_048_576
_LONGEST_HEAD: Final = 1_024
_heads: "Memory[ResponseHead]" = Memory(_MOST_HEADS, _MOST_HEAD_BYTES, _LONGEST_HEAD)
known_heads: Final = _heads.known


class ResponseHead:
    """A response's head: status and reason as they came, `fields` in order, `names` the same in lower case.

    `fault` says why it cannot be passed on, empty if it can. `bodiless`: no body follows such a status. Equal heads may share one;
    what others derive from it they keep in `memo`. `kept`: more responses will bring this head.
    """

    __slots__ = ("bodiless", "content_length", "fault", "fields", "keep_alive", "kept", "memo", "names", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: list[tuple[bytes, bytes]], *, keep_alive: bool) -> None:
        self.status = status
        self.bodiless = status in _WITHOUT_BODY
        self.reason = reason
        self.fields = fields
        self.names = names = [name.lower() for name, _ in fields]
        # llhttp let only digits pass, once
        self.content_length = int(fields[names.index(b"content-length")][1]) if b"content-length" in names else None
        self.keep_alive = keep_alive
        self.fault = ""
        self.kept = False
        self.memo: dict[Any, Any] = {}

    @property
    def is_counted(self) -> bool:
        """Whether its body, if it is not to HEAD, is as many bytes as Content-Length says, and nothing else."""
        if self.content_length is None or self.fault or self.bodiless:
            return False
        return _UNCOUNTED.isdisjoint(self.names)

    def remember(self, key: Any, value: Any) -> None:
        """Keep what was derived, if equal responses will come."""
        if self.kept:
            if len(self.memo) >= _MOST_DERIVED:
                self.memo.clear()
            self.memo[key] = value


def remember_head(block: bytes, head: ResponseHead) -> None:
    """`block` is all that came before the body, and `head` what llhttp read in it; but for an interim one that nobody is told of."""
    if len(head.fields) == block.count(b"\r\n") - 2 and block[_STATUS_AT:_STATUS_END] == b"%d" % head.status:
        head.kept = _heads.keep(block, head)
