"""How far a long command is, on stderr, where somebody looks: in a pipe or a log nothing is written."""

import sys
from types import TracebackType
from typing import Self

_WIDTH = 28


def bar(done: int, total: int) -> str:
    """[==============>.............] as wide as the guide's."""
    if total <= 0 or done >= total:
        return f"[{'=' * _WIDTH}]"
    full = done * _WIDTH // total
    return f"[{('=' * full + '>').ljust(_WIDTH, '.')}]"


class Progress:
    """`with Progress("invoices", 12) as progress: … progress.advance()`"""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._shown = total > 1 and sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def advance(self, by: int = 1) -> None:
        self._done += by
        self._draw()

    def _draw(self) -> None:
        if self._shown:
            sys.stderr.write(f"\r{bar(self._done, self._total)} {self._done:,} of {self._total:,} {self._what}")
            sys.stderr.flush()
