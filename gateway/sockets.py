"""What asyncio does not say about a socket: who is at the other end, and what it has not sent, and how
to break a connection off so that it shows."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios

_NO_LINGER = struct.pack("ii", 1, 0)


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The other end's address; an IPv4 address mapped into IPv6 as IPv4; `unix` for a Unix socket."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple) or not name:
        return "unix"
    address = str(name[0])
    return address[7:] if address.startswith("::ffff:") and "." in address else address.partition("%")[0]


def break_off(transport: asyncio.Transport) -> None:
    """Close with a reset. A plain close would end a body delimited by the connection's end as if it were whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What the kernel still holds for the other side; 0 where it does not say."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:  # it is closed already
        return 0
