"""Batches that are no longer in memory, read again from the journal: in small steps, since calls are served meanwhile.

Segments that are trimmed while this reads had all arrived; each segment can be read alone, so what is read goes on with the next.
"""

from pathlib import Path

import orjson

from metering.store import journal as journals

from .tally import Batch, Tally


class Backlog:
    """One way through a journal, from its beginning until nothing more is on disk; what is written meanwhile is read as well."""

    def __init__(self, directory: Path, worker: str) -> None:
        self._directory, self._worker = directory, worker
        self._tally = Tally()
        self._segment = self._taken = 0  # which is being read, and how many records of it were
        self._payloads: list[bytes] = []  # the next ones, the first of them last
        self.ended = False

    def step(self, most: int) -> list[Batch]:
        """The batches that were cut in the next `most` records, in order."""
        found: list[Batch] = []
        for _ in range(most):
            if not self._payloads and not self._load():
                self.ended = True
                break
            self._taken += 1
            batch = self._tally.apply(orjson.loads(self._payloads.pop()))
            if batch is not None:
                found.append(batch)
        return found

    def _load(self) -> bool:
        """What was written to this segment since it was looked at, else the next one."""
        while True:
            segments = dict(journals.segments(self._directory, self._worker))
            if self._segment in segments and self._read(segments[self._segment]):
                return True
            later = [number for number in segments if number > self._segment]
            if not later:
                return False
            if self._segment not in segments or later[0] != self._segment + 1:
                self._tally = Tally()  # what was trimmed had the cuts of what is not cut here
            self._segment, self._taken = later[0], 0

    def _read(self, path: Path) -> bool:
        try:
            self._payloads = list(journals.read(path))[self._taken :][::-1]
        except FileNotFoundError:
            return False
        return bool(self._payloads)
