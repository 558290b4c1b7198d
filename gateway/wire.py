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


class _Counts(dict[int, bytes]):
    """Numbers as arguments. Calls are few, so theirs are ready; those of bytes are packed as they come."""

    def __missing__(self, count: int) -> bytes:
        return bulks((count,))


CALLS_A_SCRIPT = 256
COUNTS = _Counts((count, bulks((count,))) for count in range(CALLS_A_SCRIPT + 1))
_OWN_KEYS, _OWN_ARGUMENTS = 3, 3  # of a script, whatever its groups


@dataclass(frozen=True, slots=True)
class Pieces:
    """One group's part of a script, ready but for its count (before `arguments`) and its slots (after them).

    `alone` begins the command of a script that has no other group.
    """

    alone: bytes
    keys: bytes
    key_count: int
    arguments: bytes
    argument_count: int


def pieces(bucket: int, names: Sequence[str], arguments: Sequence[Word], *, slots: int) -> Pieces:
    """`arguments` are those after the count; of each of `slots` concurrency limits three more come later, and one before all."""
    packed, count = bulks(names), 1 + len(arguments) + (1 + 3 * slots if slots else 0)
    return Pieces(_head(bucket, len(names), count) + packed, packed, len(names), bulks(arguments), count)


@lru_cache(maxsize=16_384)
def _head(bucket: int, key_count: int, argument_count: int) -> bytes:
    """From the command's name to the bucket's own keys."""
    key_count += _OWN_KEYS
    total = 3 + key_count + _OWN_ARGUMENTS + argument_count
    own = (keys.versions(bucket), keys.marks(bucket), keys.epoch(bucket))
    return b"*%d\r\n%b" % (total, bulks(("EVALSHA", ADMIT.sha, key_count, *own)))


def who(tag: str, worker: str) -> bytes:
    """The first two arguments of every admit."""
    return bulks((tag, f"a:{worker}"))


def admit_one(who: bytes, n: int, group: Pieces, count: int, slots: bytes) -> bytes:
    """A script of one group."""
    number = b"%d" % n
    return b"".join((group.alone, who, b"$%d\r\n" % len(number), number, b"\r\n", COUNTS[count], group.arguments, slots))


def admit_many(bucket: int, who: bytes, n: int, groups: Sequence[tuple[Pieces, int, bytes]]) -> bytes:
    """A script of several groups: each one's pieces, count, and what it says of slots."""
    parts = [_head(bucket, sum(p.key_count for p, _, _ in groups), sum(p.argument_count for p, _, _ in groups))]
    parts += [p.keys for p, _, _ in groups]
    parts += [who, bulks((n,))]
    for group, count, slots in groups:
        parts += [COUNTS[count], group.arguments, slots]
    return b"".join(parts)
