"""How an exchange ended. Pure."""

from dataclasses import dataclass
from typing import Literal

Ended = Literal["complete", "client_gone", "unreachable", "timeout", "upstream_reset", "bad_response", "cut", "busy"]


@dataclass(slots=True, eq=False)
class Outcome:
    """How an exchange ended.

    `complete`: the client was sent the whole response. `client_gone`: it left, or broke the rules in its body and was told so.
    `unreachable`: no connection to the service. `timeout`: connecting, silence, or the whole took too long. `upstream_reset`: the
    service broke off; if `first_byte_sent`, the client's connection was broken off too. `bad_response`: what it sent is no HTTP.
    `busy`: all connections to the service were in use, for too long or for too many who wait.
    `cut`: a limit let no more bytes pass, or a tunnel go on; if `first_byte_sent`, what was sent is broken off.
    `status` and `response_headers` are the upstream's. Bytes are those of bodies, without framing: `bytes_in` as read from the
    client, `bytes_out` as written to it. `upstream_ms` runs from the search for a connection to the end. `first_byte_sent`: a part
    of the upstream's response went to the client; where it is False and the client is not gone, the caller answers. `unsent`: no
    service was sent a byte of the request. `detail` is for logs.
    """

    status: int | None = None
    ended: Ended = "complete"
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_sent: bool = False
    upstream_ms: int = 0
    response_headers: list[tuple[bytes, bytes]] | None = None
    retried: bool = False
    unsent: bool = False
    detail: str = ""
