"""The bytes of an admit: what never changes of a charge is packed once, and a script is a join of ready pieces. Pure.

A group's count may be any number, of bytes as of calls; below zero it asks for all of them or none.
The layout is that of lua/admit.lua, where its meaning is.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from metering.model import keys
from metering.store.redis.link import pack

from .scripts import ADMIT

Word = str | int | bytes
Counted = tuple[int, int | None, int]
"""What a charge says of one quota: cost of one call, limit (None: it only counts), expires_ms."""


def bulks(words: Iterable[Word]) -> bytes:
    """Arguments, as they stand in a command."""
    packed = pack(tuple(words))
    return packed[packed.index(b"\n") + 1 :]


def packed(words: list[str]) -> bytes:
    """A command. What a batch says is put together here in a third of the time that `pack` takes, which takes words of all kinds."""
    parts = [f"*{len(words)}\r\n"]
    for word in words:
        parts.append(f"${len(word)}\r\n{word}\r\n")
    text = "".join(parts)
    return text.encode() if text.isascii() else pack(tuple(words))


def _element(word: Word) -> bytes:
    """One element of a MessagePack array. Every reader knows raw 16."""
    if isinstance(word, int):
        if 0 <= word < 128:
            return word.to_bytes(1, "big")
        return b"\xce" + word.to_bytes(4, "big") if 0 <= word < 2**32 else b"\xd3" + word.to_bytes(8, "big", signed=True)
    text = word.encode() if isinstance(word, str) else word
    return (bytes((0xA0 | len(text),)) if len(text) < 32 else b"\xda" + len(text).to_bytes(2, "big")) + text


def packed_array(words: Sequence[Word]) -> bytes:
    """MessagePack; Redis and Valkey read it without being asked twice."""
    return b"\xdc" + len(words).to_bytes(2, "big") + b"".join(map(_element, words))


class _Counts(dict[int, bytes]):
    """Numbers as arguments. Calls are few, so theirs are ready; those of bytes are packed as they come."""

    def __missing__(self, count: int) -> bytes:
        return number(count)


def number(n: int) -> bytes:
    """One argument."""
    digits = b"%d" % n
    return b"$%d\r\n%b\r\n" % (len(digits), digits)


CALLS_A_SCRIPT = 256
KEYS_A_SCRIPT = 7_000  # with an epoch for each bucket below the 8,000 values that Lua takes at once
COUNTS = _Counts((count, number(count)) for count in range(CALLS_A_SCRIPT + 1))
_ONE, _SEVERAL = COUNTS[1], bulks(("+",))
_OWN = tuple(bulks((keys.versions(bucket), keys.marks(bucket))) for bucket in range(keys.BUCKETS))
_EPOCH = tuple(bulks((keys.epoch(bucket),)) for bucket in range(keys.BUCKETS))
_HEAD_ARGUMENTS = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """One group's part of a script, ready but for its count (before `charge`) and its slots (after it).

    `alone` begins the command of a script that has no other group, up to the group's keys. `arguments`: how many, slots with them.
    """

    alone: bytes
    keys: bytes
    key_count: int
    charge: bytes
    arguments: int


def pieces(
    bucket: int,
    names: Sequence[str],
    *,
    ticket: int,
    org_id: str,
    version: str,
    from_ms: int,
    until_ms: int,
    quotas: Sequence[Counted],
    more: Sequence[Word] = (),
    slots: int = 0,
) -> Pieces:
    """`names` are the keys that the limits stand on; `more` is what throttles, rates and slots say, `slots` how many there are of these."""
    arguments = 2 + (1 + 3 * slots if slots else 0)
    charge = packed_charge(
        len(names), arguments,
        ticket=ticket, org_id=org_id, version=version, from_ms=from_ms, until_ms=until_ms, quotas=quotas, more=more,
    )  # fmt: skip
    return Pieces(_alone(bucket, len(names), arguments), bulks(names), len(names), bulks((charge,)), arguments)


def packed_charge(
    names: int,
    arguments: int,
    *,
    ticket: int,
    org_id: str,
    version: str,
    from_ms: int,
    until_ms: int,
    quotas: Sequence[Counted],
    more: Sequence[Word] = (),
) -> bytes:
    """The last argument of a group but for what it says of slots."""
    tid, org, entitlement = str(ticket).encode(), org_id.encode(), version.encode()
    head = struct.pack(">HHHBddB", names, arguments, len(quotas), 1 if more else 0, from_ms, until_ms, len(tid))
    words = [head, tid, len(org).to_bytes(2, "big"), org, len(entitlement).to_bytes(1, "big"), entitlement]
    words += [struct.pack(">ddd", cost, inf if limit is None else limit, expires_ms) for cost, limit, expires_ms in quotas]
    if more:
        words.append(packed_array(more))
    return b"".join(words)


@lru_cache(maxsize=16_384)
def _alone(bucket: int, key_count: int, arguments: int) -> bytes:
    """From the command's name to the bucket's own keys. Shared by many charges."""
    return _head(3 + key_count, _HEAD_ARGUMENTS + arguments) + _OWN[bucket] + _EPOCH[bucket]


def _head(key_count: int, arguments: int) -> bytes:
    return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (3 + key_count + arguments, ADMIT.sha, number(key_count))


def who(worker: str) -> bytes:
    """The first argument of every admit."""
    return bulks((f"a:{worker}",))


class Script:
    """An admit: `bucket` begins what is asked of one, `group` adds to it."""

    __slots__ = ("_arguments", "_buckets", "_first", "_groups", "_key_count", "_keys", "_own", "_words")

    def __init__(self) -> None:
        self._buckets = self._groups = self._key_count = self._arguments = 0
        self._first: Pieces | None = None
        self._own: list[bytes] = []
        self._keys: list[bytes] = []
        self._words: list[bytes] = []

    def bucket(self, bucket: int, groups: int) -> None:
        self._buckets += 1
        self._key_count += 3
        self._own.append(_OWN[bucket])
        self._keys.append(_EPOCH[bucket])
        if groups != 1:
            self._arguments += 2
            self._words += (_SEVERAL, number(groups))

    def group(self, group: Pieces, count: int, slots: bytes) -> None:
        if not self._groups:
            self._first = group
        self._groups += 1
        self._key_count += group.key_count
        self._arguments += group.arguments
        self._keys.append(group.keys)
        words = self._words
        words.append(COUNTS[count])
        words.append(group.charge)
        if slots:
            words.append(slots)

    def packed(self, caller: bytes) -> bytes:
        """The command. `caller`: who, n and the tag, as they are packed."""
        if self._groups == 1 and self._first is not None:
            return b"".join([self._first.alone, self._first.keys, caller, _ONE, *self._words])
        head = _head(self._key_count, _HEAD_ARGUMENTS + self._arguments)
        return b"".join([head, *self._own, *self._keys, caller, number(self._buckets), *self._words])
