"""The journal on real files: what was flushed is there after anything, and nothing that is not whole is ever read."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.store import journal as journals
from metering.store.journal import Journal, JournalLocked

W = "w0-aa"
PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6)


def written(directory: Path, *payloads: bytes) -> Path:
    """A journal of these records, closed; its only segment."""
    journal = Journal(directory, W)
    for payload in payloads:
        journal.append(payload)
    journal.close()
    return journals.segments(directory, W)[-1][1]


def everything(directory: Path, worker: str = W) -> list[bytes]:
    return [payload for _, path in journals.segments(directory, worker) for payload in journals.read(path)]


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process, with a pipe to it and one from it."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# --- append, flush, read ------------------------------------------------------------------------------------------------


def test_what_was_flushed_is_read_back_in_order(tmp_path: Path) -> None:
    assert list(journals.read(written(tmp_path, b"one", b"2", b"\x00" * 300))) == [b"one", b"2", b"\x00" * 300]


def test_nothing_is_on_disk_before_the_flush(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    journal.append(b"one")
    assert (journal.dirty, everything(tmp_path)) == (True, [])
    journal.flush()
    assert (journal.dirty, everything(tmp_path)) == (False, [b"one"])
    journal.close()


def test_a_reader_in_the_same_directory_sees_a_flush_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    for number in range(3):
        journal.append(b"%d" % number)
        journal.flush()
        assert len(everything(tmp_path)) == number + 1
    journal.close()


def test_the_size_of_the_segment_is_that_of_its_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    journal.append(b"x" * 100)
    journal.flush()
    assert journal.segment_bytes == journals.segments(tmp_path, W)[0][1].stat().st_size == 108
    journal.close()


# --- torn and damaged ---------------------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_gives_its_whole_records_and_no_other(tmp_path: Path) -> None:
    payloads = [b"first", b"2", b"the third", b"4"]
    path = written(tmp_path, *payloads)
    whole = path.read_bytes()
    ends = [sum(8 + len(p) for p in payloads[:count]) for count in range(len(payloads) + 1)]
    for at in range(len(whole) + 1):
        path.write_bytes(whole[:at])
        assert list(journals.read(path)) == payloads[: sum(end <= at for end in ends) - 1]


@settings(max_examples=40)
@given(payloads=PAYLOADS, at=st.integers(0, 400), flipped=st.integers(1, 255))
def test_a_damaged_byte_ends_the_reading_before_its_record(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], at: int, flipped: int
) -> None:
    path = written(tmp_path_factory.mktemp("journal"), *payloads)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at] ^= flipped
    path.write_bytes(data)
    ends = [sum(8 + len(p) for p in payloads[: count + 1]) for count in range(len(payloads))]
    assert list(journals.read(path)) == payloads[: sum(end <= at for end in ends)]


def test_a_length_that_points_past_the_end_is_a_torn_tail(tmp_path: Path) -> None:
    path = written(tmp_path, b"one")
    path.write_bytes(path.read_bytes() + b"\xff\xff\xff\xff" + b"\x00" * 4)
    assert list(journals.read(path)) == [b"one"]


def test_a_tail_of_zeros_as_a_lost_machine_leaves_it_holds_no_usage(tmp_path: Path) -> None:
    path = written(tmp_path, b"one")
    path.write_bytes(path.read_bytes() + b"\x00" * 64)
    assert list(journals.read(path)) == [b"one"]


def test_a_successor_writes_after_a_torn_tail_into_a_segment_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, b"one", b"two")
    path.write_bytes(path.read_bytes()[:-1])
    successor = Journal(tmp_path, W)
    successor.append(b"three")
    successor.close()
    assert everything(tmp_path) == [b"one", b"three"]


# --- segments -----------------------------------------------------------------------------------------------------------


def test_rotating_writes_what_is_buffered_to_the_segment_that_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    journal.append(b"one")
    assert journal.rotate() == 1
    journal.append(b"two")
    journal.close()
    assert [(number, list(journals.read(path))) for number, path in journals.segments(tmp_path, W)] == [(1, [b"one"]), (2, [b"two"])]


def test_a_rotation_that_fails_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    journal.append(b"one")
    (tmp_path / f"{W}.000002.log").mkdir()  # the next segment cannot be made
    with pytest.raises(OSError, match="exists"):
        journal.rotate()
    journal.append(b"two")
    journal.flush()
    assert (journal.segment, list(journals.read(tmp_path / f"{W}.000001.log"))) == (1, [b"one", b"two"])
    (tmp_path / f"{W}.000002.log").rmdir()
    assert journal.rotate() == 1
    journal.close()


def test_segments_come_oldest_first_even_beyond_six_digits(tmp_path: Path) -> None:
    for number in (1_000_000, 2, 999_999):
        (tmp_path / f"{W}.{number:06d}.log").touch()
    assert [number for number, _ in journals.segments(tmp_path, W)] == [2, 999_999, 1_000_000]


def test_a_successor_goes_on_after_the_last_segment(tmp_path: Path) -> None:
    written(tmp_path, b"one")
    successor = Journal(tmp_path, W)
    assert successor.segment == 2
    successor.close()


def test_dropping_deletes_up_to_a_segment_and_never_the_one_being_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    for _ in range(3):
        journal.rotate()
    journal.drop(2)
    assert [number for number, _ in journals.segments(tmp_path, W)] == [3, 4]
    journal.drop(99)
    assert [number for number, _ in journals.segments(tmp_path, W)] == [4]
    journal.append(b"still written")
    journal.close()
    assert everything(tmp_path) == [b"still written"]


def test_workers_do_not_see_each_others_segments(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, "w1-aa"), Journal(tmp_path, "w11-aa")
    first.append(b"mine")
    first.close()
    second.close()
    assert everything(tmp_path, "w11-aa") == []
    assert journals.workers(tmp_path) == ["w1-aa", "w11-aa"]


def test_closing_keeps_the_files_and_destroying_deletes_them(tmp_path: Path) -> None:
    written(tmp_path, b"one")
    journal = Journal(tmp_path, W)
    assert journals.workers(tmp_path) == [W]
    journal.destroy()
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    written(tmp_path, b"one")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


# --- the lock -----------------------------------------------------------------------------------------------------------

_HOLD = """
import sys
from pathlib import Path
from metering.store.journal import Journal
journal = Journal(Path(sys.argv[1]), sys.argv[2])
journal.append(b"written"); journal.flush(); journal.append(b"buffered")
print("held", flush=True); sys.stdin.read()
"""


def test_a_journal_belongs_to_one_process_until_it_dies_and_outlives_its_kill(tmp_path: Path) -> None:
    owner = run(_HOLD, tmp_path, W)
    assert owner.stdout is not None
    with contextlib.closing(owner.stdout):
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(JournalLocked):
            Journal(tmp_path, W)
        owner.kill()
        owner.wait()
    heir = Journal(tmp_path, W)
    assert everything(tmp_path) == [b"written"]
    heir.close()


def test_a_journal_in_use_is_not_opened_twice_in_one_process_either(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    with pytest.raises(JournalLocked):
        Journal(tmp_path, W)
    journal.close()
    Journal(tmp_path, W).close()


def test_who_cannot_begin_a_segment_does_not_keep_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def full(path: object, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".log"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, mode)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space"):
            Journal(tmp_path, W)
    Journal(tmp_path, W).close()


def test_who_finds_it_locked_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path, W)
    before, descriptors = sorted(tmp_path.iterdir()), len(os.listdir("/proc/self/fd"))
    with pytest.raises(JournalLocked):
        Journal(tmp_path, W)
    assert (sorted(tmp_path.iterdir()), len(os.listdir("/proc/self/fd"))) == (before, descriptors)
    journal.close()


# --- no room ------------------------------------------------------------------------------------------------------------

_NO_ROOM = """
import resource, sys
from pathlib import Path
from metering.store.journal import Journal
journal = Journal(Path(sys.argv[1]), sys.argv[2])
journal.append(b"a" * 100); journal.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
journal.append(b"b" * 60); journal.append(b"c" * 60)
for _ in range(2):
    try: journal.flush()
    except OSError as exc: print(type(exc).__name__, journal.dirty, journal.segment_bytes, flush=True)
print(Path(sys.argv[1], sys.argv[2] + ".000001.log").stat().st_size, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(b"d"); journal.flush(); journal.close()
"""


def test_without_room_a_flush_fails_whole_and_succeeds_whole_when_there_is_room(tmp_path: Path) -> None:
    """Of the second write 92 bytes fit: they are cut off again, and nothing is lost or written twice."""
    out, _ = run(_NO_ROOM, tmp_path, W).communicate(timeout=30)
    assert out.splitlines() == ["OSError True 108", "OSError True 108", "108"]
    assert everything(tmp_path) == [b"a" * 100, b"b" * 60, b"c" * 60, b"d"]
