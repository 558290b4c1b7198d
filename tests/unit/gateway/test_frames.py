"""WebSocket frames counted: what is a message, and that it does not depend on how bytes were cut up."""

import os
import random
from dataclasses import dataclass

import pytest

from gateway.frames import Frames

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    size: int, opcode: int = BINARY, *, final: bool = True, masked: bool = True, bits: int = 0, length_bytes: int | None = None
) -> bytes:
    """One frame of random payload. `length_bytes`: how its length is written (0, 2 or 8), if not as briefly as can be."""
    wide = length_bytes if length_bytes is not None else 0 if size < 126 else 2 if size < 1 << 16 else 8
    second = {0: size, 2: 126, 8: 127}[wide]
    head = bytes([0x80 * final | bits | opcode, 0x80 * masked | second]) + (size.to_bytes(wide, "big") if wide else b"")
    return head + os.urandom(4 * masked + size)


def counted(*frames: bytes, from_client: bool = True) -> int:
    frames_seen = Frames(from_client=from_client)
    assert frames_seen.feed(b"".join(frames))
    assert frames_seen.between
    return frames_seen.messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("from_client", [True, False])
def test_a_frame_of_any_length_is_one_message(size: int, from_client: bool) -> None:
    assert counted(frame(size, masked=from_client), frame(0, TEXT, masked=from_client), from_client=from_client) == 2


@dataclass(frozen=True)
class Row:
    what: str
    frames: list[bytes]
    messages: int


ROWS = [
    Row("pings, pongs and closes", [frame(0, PING), frame(125, PONG), frame(2, CLOSE)], 0),
    Row("fragments of one message", [frame(5, final=False), frame(5, 0, final=False), frame(5, 0)], 1),
    Row("a ping between fragments", [frame(5, final=False), frame(1, PING), frame(5, 0), frame(1)], 2),
    Row("fragments that never end", [frame(5, final=False), *[frame(1, 0, final=False)] * 9], 1),
    Row("a message within an unfinished one", [frame(5, final=False), frame(5), frame(5, 0)], 3),
    Row("continuations of nothing", [frame(5, 0), frame(5, 0), frame(0, 0)], 3),
    Row("a continuation of nothing that goes on", [frame(5, 0, final=False), frame(5, 0)], 1),
    Row("reserved opcodes", [frame(1, 3), frame(1, 7), frame(1, 11), frame(1, 15)], 4),
    Row("bits of extensions", [frame(9, bits=0x40), frame(9, TEXT, bits=0x70), frame(0, PING, bits=0x40)], 2),
    Row("control frames too long", [frame(126, PING), frame(70_000, CLOSE)], 2),
    Row("control frames in fragments", [frame(1, PING, final=False), frame(5)], 2),
    Row("lengths longer than need be", [frame(3, length_bytes=2), frame(3, length_bytes=8), frame(3, PING, length_bytes=2)], 2),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_what_is_a_message(row: Row) -> None:
    assert counted(*row.frames) == row.messages


@pytest.mark.parametrize(
    "head",
    [
        frame(5, masked=False)[:2],
        frame(0, PING, masked=False)[:2],
        bytes([0x82, 0xFF]) + (1 << 63).to_bytes(8, "big"),
    ],
    ids=["no mask from a client", "no mask on a ping", "a length beyond 63 bits"],
)
def test_where_boundaries_are_lost_it_says_so_wherever_the_bytes_are_cut(head: bytes) -> None:
    for cut in range(len(head) + 1):
        frames = Frames(from_client=True)
        assert frames.feed(frame(3))
        assert not (frames.feed(head[:cut]) and frames.feed(head[cut:]))


def test_a_mask_from_a_service_is_a_lost_boundary() -> None:
    assert not Frames(from_client=False).feed(frame(5))


def test_a_message_counts_with_its_first_byte() -> None:
    frames = Frames(from_client=True)
    assert frames.feed(frame(90_000)[:1])
    assert (frames.messages, frames.between) == (1, False)


def test_nothing_of_a_payload_is_kept() -> None:
    frames = Frames(from_client=True)
    frames.feed(frame(1 << 20)[:70_000])
    assert frames._held == b""
    assert frames.messages == 1


def random_stream(dice: random.Random, masked: bool) -> bytes:
    sizes = (0, 1, 2, 5, 124, 125, 126, 127, 300, 65_535, 65_536)
    return b"".join(
        frame(
            dice.choice(sizes),
            dice.randrange(16),
            final=dice.random() < 0.7,
            masked=masked,
            bits=dice.choice((0, 0, 0x40, 0x70)),
            length_bytes=dice.choice((None, None, 8)),
        )
        for _ in range(dice.randrange(1, 30))
    )


def cut_up(dice: random.Random, stream: bytes) -> list[bytes]:
    longest, pieces, at = dice.choice((1, 2, 3, 7, 50, 5_000, 100_000)), [], 0
    if longest < 50:
        stream = stream[:20_000]
    while at < len(stream):
        size = dice.randint(1, longest)
        pieces.append(stream[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("seed", range(150))
def test_any_pieces_of_the_same_bytes_give_the_same_count(seed: int) -> None:
    dice = random.Random(seed)
    from_client = dice.random() < 0.5
    pieces = cut_up(dice, random_stream(dice, from_client))
    whole, one_by_one = Frames(from_client=from_client), Frames(from_client=from_client)
    assert whole.feed(b"".join(pieces))
    assert all(one_by_one.feed(piece) for piece in pieces)
    assert (whole.messages, whole.between) == (one_by_one.messages, one_by_one.between)


@pytest.mark.parametrize("seed", range(150))
def test_bytes_that_are_no_frames_at_all_give_the_same_verdict_however_they_are_cut(seed: int) -> None:
    dice = random.Random(seed)
    pieces = cut_up(dice, dice.randbytes(dice.randrange(1, 3_000)))

    def verdict(fed: list[bytes]) -> tuple[bool, int]:
        frames = Frames(from_client=False)
        return all(frames.feed(piece) for piece in fed), frames.messages

    assert verdict([b"".join(pieces)]) == verdict(pieces)
