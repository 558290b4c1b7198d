"""Faults on demand: what a test asks to go wrong with the next requests.

POST /_sandbox/faults {"kind": "stored_error", "times": 1, "path": "/v1/billing/meter_events", "method": "POST"}

kind                 done?   stored?   what the client sees
rate_limit           no      no        429
server_error         no      no        500, gone with the next try
stored_error         no      yes       500, and again for the same idempotency key
stored_error_after   yes     yes       500 although it was done, and again for the same idempotency key
timeout_before       no      no        nothing: the connection is held, then dropped
timeout_after        yes     yes       nothing: the connection is held, then dropped
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    STORED_ERROR = "stored_error"
    STORED_ERROR_AFTER = "stored_error_after"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"


@dataclass(slots=True, kw_only=True)
class Fault:
    """`path` is a prefix; empty matches every path. `hold_seconds` is how long a timeout keeps the client waiting."""

    kind: Kind
    times: int = 1
    path: str = ""
    method: str = "POST"
    hold_seconds: float = 0.0


class Faults:
    """The faults still to happen, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, one of its times used up."""
        for fault in self.waiting:
            if fault.method == method and path.startswith(fault.path):
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                return fault
        return None
