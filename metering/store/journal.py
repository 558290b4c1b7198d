"""An append-only journal: frames of length, CRC and payload, in segments, one set of files per worker incarnation.

Survives `kill -9` of its writer (the page cache does); a torn tail is dropped. What a payload means is
gateway/tally.py. Files of worker W in a directory: `W.lock` (flock held while its owner lives), `W.000001.log`, ….
"""

import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_FRAME = struct.Struct("<II")
_NAME = re.compile(r"(?P<worker>[A-Za-z0-9_-]{1,200})\.\d{6}\.log")
SEGMENT_BYTES = 8 * 2**20


class JournalLocked(Exception):
    """Another process owns this journal."""


class Journal:
    """The files of one worker incarnation. `append` buffers, `flush` writes all of it with one write."""

    def __init__(self, directory: Path, worker: str) -> None:
        self.directory, self.worker = directory, worker
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(directory / f"{worker}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._lock)
            raise JournalLocked(worker) from exc
        self._buffer: list[bytes] = []
        self.unwritten_bytes = 0  # what the last flush could not write, and the next one tries again
        self._fd = -1
        self.segment = max((number for number, _ in segments(directory, worker)), default=0)
        self.segment_bytes = 0
        try:
            self.rotate()
        except OSError:
            os.close(self._lock)  # else this process would hold, for ever, a journal that it does not have
            raise

    def append(self, payload: bytes) -> None:
        """Buffer one record, which must not be empty; nothing is on disk before `flush`."""
        self._buffer.append(_FRAME.pack(len(payload), zlib.crc32(payload)))
        self._buffer.append(payload)

    @property
    def dirty(self) -> bool:
        return bool(self._buffer)

    def flush(self) -> None:
        """Write what is buffered. Raises OSError with the buffer kept and the file cut back to whole records."""
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        try:
            if self.unwritten_bytes:  # what was written of it may still stand there, where the file could not even be cut
                os.ftruncate(self._fd, self.segment_bytes)
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            self._buffer, self.unwritten_bytes = [data], len(data)
            os.ftruncate(self._fd, self.segment_bytes)
            raise
        self.segment_bytes += len(data)
        self.unwritten_bytes = 0
        self._buffer.clear()

    def rotate(self) -> int:
        """Begin a new segment; returns the number of the one that ended (0 for none). Raises OSError with nothing changed."""
        self.flush()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        new = os.open(_segment_path(self.directory, self.worker, self.segment + 1), flags, 0o600)
        if self._fd >= 0:
            os.close(self._fd)  # only now: a descriptor that is closed and still written to would soon be somebody's socket
        self._fd, ended = new, self.segment
        self.segment, self.segment_bytes = self.segment + 1, 0
        return ended

    def drop(self, up_to: int) -> None:
        """Delete every segment numbered `up_to` or lower, but never the one being written."""
        for number, path in segments(self.directory, self.worker):
            if number <= up_to and number != self.segment:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Flush and let go of the files; they stay."""
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def destroy(self) -> None:
        """Delete every file: all of it has arrived."""
        self._buffer.clear()
        for _, path in segments(self.directory, self.worker):
            path.unlink(missing_ok=True)
        (self.directory / f"{self.worker}.lock").unlink(missing_ok=True)
        self.close()


def _segment_path(directory: Path, worker: str, number: int) -> Path:
    return directory / f"{worker}.{number:06d}.log"


def segments(directory: Path, worker: str) -> list[tuple[int, Path]]:
    """The segments of a worker, oldest first."""
    found = [(int(path.name.split(".")[-2]), path) for path in directory.glob(f"{worker}.*.log")]
    return sorted(found)


def workers(directory: Path) -> list[str]:
    """Every worker incarnation that has a journal here."""
    return sorted(path.name.removesuffix(".lock") for path in directory.glob("*.lock"))


def worker_of(path: Path) -> str | None:
    """Whose segment a file is, by its name; None for any other file."""
    match = _NAME.fullmatch(path.name)
    return match["worker"] if match else None


def bytes_of(payloads: Iterable[bytes]) -> int:
    """What these records take in a segment."""
    return sum(_FRAME.size + len(payload) for payload in payloads)


def read(path: Path) -> Iterator[bytes]:
    """The whole records of a segment, up to a torn or damaged one."""
    data = path.read_bytes()
    at = 0
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if not length or len(payload) < length or zlib.crc32(payload) != crc:
            return  # zeros, as a machine that lost power leaves them, would pass for empty records
        yield payload
        at += _FRAME.size + length
