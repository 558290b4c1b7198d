"""The error tree. An error is named for the fact and carries data; its docstring is its message.

`http_status` and `code` are what a client may see; gateway/responses.py and billing/api turn them into answers.
"""

from typing import Any, ClassVar


class WeighbridgeError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    challenge: str | None = None  # what WWW-Authenticate says, where it is not the plain one

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.details = details
        super().__init__(message or (self.__doc__ or "").strip())


class MeteringError(WeighbridgeError):
    """A call could not be metered."""


class Unauthorized(MeteringError):
    """No valid credential was presented."""

    code, http_status = "unauthorized", 401


class PaymentRequired(MeteringError):
    """The subscription has ended."""

    code, http_status = "payment_required", 402


class QuotaExceeded(MeteringError):
    """The organization spent its allowance for this window."""

    code, http_status, retryable = "quota_exceeded", 429, True


class StoreUnavailable(MeteringError):
    """The counters are out of reach, and the rule for this quota is to refuse."""

    code, http_status, retryable = "metering_unavailable", 503, True


class NotFound(WeighbridgeError):
    """There is no such thing."""

    code, http_status = "not_found", 404


class Conflict(WeighbridgeError):
    """It exists already, or contradicts what exists."""

    code, http_status = "conflict", 409


class BadInput(WeighbridgeError):
    """The input does not make sense."""

    code, http_status = "bad_input", 400


class ConfigFaulty(BadInput):
    """The configuration has faults; nothing was changed."""

    code = "config_faulty"


class DependencyUnavailable(WeighbridgeError):
    """A server this process needs is out of reach or unsuitable."""

    code, http_status, retryable = "dependency_unavailable", 503, True
