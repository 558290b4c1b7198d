"""A request as the handler gets it: a parsed head, and a body that still streams."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.http1 import RequestHead

if TYPE_CHECKING:
    from gateway.client import ClientConnection


class Request(RequestHead):
    """One request: its head parsed, its body still streaming. The head's fields are in gateway.http1.RequestHead.

    `target` is path and query as they came, `path` the same without the query, `host` in lower case without its port, `authority`
    the Host field as it came, `peer` the address at the other end of the socket (behind a proxy: see headers.TrustedProxies).
    """

    __slots__ = ("body_bytes", "body_ended", "buffered", "client", "peer", "responded", "scheme", "trailers")

    client: "ClientConnection"
    peer: str
    scheme: str

    def __init__(self) -> None:
        self.body_bytes = 0
        self.body_ended = False
        self.buffered: list[bytes] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.responded = False

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer in full. Content-Length, Date and Connection are added; to HEAD, and with 204 and 304, no body is sent.

        A small body still under way is read and dropped; before a large one, or one that waits for `100 Continue`, the connection
        is closed. Does nothing if the client has gone or was answered already.
        """
        self.client.respond(self, status, headers, body)
