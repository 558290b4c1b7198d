"""Tell when the configuration's files have changed. Polling: it sees edits, renames, and Kubernetes' symlink swaps alike."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from metering.model.errors import BadInput

from .files import FileSet, read_set


async def watch(folder: Path, known: str, *, interval_seconds: float = 1.0) -> AsyncIterator[FileSet]:
    """Yield each new set once it reads the same twice in a row; `known` is the version that is in force already.

    A set with faults is yielded too: who asked says so, and keeps the old one. While the folder is away, nothing changes.
    """
    seen: str | None = None
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            files = await asyncio.to_thread(read_set, folder)
        except (BadInput, OSError):
            seen = None
            continue
        if files.version != known and files.version == seen:
            known = files.version
            yield files
        seen = files.version
