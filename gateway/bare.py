"""An exchange that nobody meters: relay and connections alone, its story told by callbacks instead of a subclass.

For who drives the transport by itself, as the tests of HTTP behaviour do: a compiled Transfer takes no interpreted subclass.
"""

from collections.abc import Callable

from gateway.headers import AddedNames
from gateway.request import Request
from gateway.transfer import Transfer


class Bare(Transfer):
    """`added` are the names and lines that every response gets; see Transfer.to_client."""

    __slots__ = ("_added", "_on_end", "_on_progress")

    def __init__(
        self,
        request: Request,
        added: tuple[AddedNames, bytes],
        on_progress: Callable[["Bare"], None],
        on_end: Callable[["Bare"], None],
    ) -> None:
        super().__init__(request)
        self._added, self._on_progress, self._on_end = added, on_progress, on_end

    def to_client(self) -> tuple[AddedNames, bytes]:
        return self._added

    def progressed(self) -> None:
        self._on_progress(self)

    def finished(self) -> None:
        self._on_end(self)
