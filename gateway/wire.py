"""The bytes of an admit: what never changes of a charge is packed once, and a script is a join of ready pieces. Pure.

A group's count may be any number, of bytes as of calls; below zero it asks for all of them or none.
The layout is that of lua/admit.lua, where its meaning is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metering.model import keys
from metering.store.redis.link import pack

from .scripts import ADMIT

Word = str | int | bytes


def bulks(words: Iterable[Word]) -> bytes:
    """Arguments, as they stand in a command."""
    packed = pack(tuple(words))
    return packed[packed.index(b"\n") + 1 :]


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
        return bulks((count,))


CALLS_A_SCRIPT = 256
KEYS_A_SCRIPT = 7_000  # with an epoch for each bucket below the 8,000 values that Lua takes at once
COUNTS = _Counts((count, bulks((count,))) for count in range(CALLS_A_SCRIPT + 1))
_ONE = COUNTS[1]
_OWN = tuple(bulks((keys.versions(bucket), keys.marks(bucket))) for bucket in range(keys.BUCKETS))
_EPOCH = tuple(bulks((keys.epoch(bucket),)) for bucket in range(keys.BUCKETS))


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


Asked = tuple[Pieces, int, bytes]
"""One group: its pieces, the number of calls, what it says of slots."""

Section = tuple[int, bytes, bytes, Sequence[Asked]]
"""What a script asks of one bucket: its number, the tag and n as they are packed, the groups."""


def pieces(bucket: int, names: Sequence[str], words: Sequence[Word], *, slots: int) -> Pieces:
    """`words` are those of a charge behind its two sizes. `slots`: how many concurrency limits there are."""
    arguments = 2 + (1 + 3 * slots if slots else 0)
    charge = bulks((packed_array((len(names), arguments, *words)),))
    return Pieces(_alone(bucket, len(names), arguments), bulks(names), len(names), charge, arguments)


@lru_cache(maxsize=16_384)
def _alone(bucket: int, key_count: int, arguments: int) -> bytes:
    """From the command's name to the bucket's own keys. Shared by many charges."""
    return _head(3 + key_count, 5 + arguments) + _OWN[bucket] + _EPOCH[bucket]


def _head(key_count: int, arguments: int) -> bytes:
    return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (3 + key_count + arguments, ADMIT.sha, number(key_count))


def number(n: int) -> bytes:
    """One argument."""
    digits = b"%d" % n
    return b"$%d\r\n%b\r\n" % (len(digits), digits)


def who(worker: str) -> bytes:
    """The first argument of every admit."""
    return bulks((f"a:{worker}",))


def admit_one(who: bytes, tag: bytes, n: bytes, group: Pieces, count: int, slots: bytes) -> bytes:
    """A script of one group."""
    return b"".join((group.alone, group.keys, who, _ONE, tag, n, _ONE, COUNTS[count], group.charge, slots))


def admit(who: bytes, sections: Sequence[Section]) -> bytes:
    """A script of several buckets, or several groups of one."""
    names, words = [], [who, number(len(sections))]
    key_count, arguments = 3 * len(sections), 2 + 3 * len(sections)
    for bucket, tag, n, groups in sections:
        names.append(_EPOCH[bucket])
        words += (tag, n, COUNTS[len(groups)])
        for group, count, slots in groups:
            key_count += group.key_count
            arguments += group.arguments
            names.append(group.keys)
            words += (COUNTS[count], group.charge, slots)
    return b"".join((_head(key_count, arguments), *[_OWN[section[0]] for section in sections], *names, *words))
