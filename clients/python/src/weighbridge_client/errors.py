"""What can go wrong. Each error's docstring is its message where it brings none."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Something went wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Unreachable(ClientError):
    """Weighbridge does not answer, or not in a way that could be read."""


class Refused(ClientError):
    """Weighbridge refused. `code` is the word for programs, `details` what belongs to it; `retry_after` is in seconds."""

    def __init__(
        self, status: int, code: str, detail: str, details: Mapping[str, Any] | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.details, self.retry_after = status, code, dict(details or {}), retry_after

    @property
    def away(self) -> bool:
        """A server that cannot answer now, as opposed to one that says no."""
        return self.status >= 500 or self.status == 429


class BufferFull(ClientError):
    """So much usage waits to be told that no more is taken: Weighbridge was away for long, or is asked too seldom."""


class NotSigned(ClientError):
    """This is no event of yours: its signature, or its time, is wrong."""
