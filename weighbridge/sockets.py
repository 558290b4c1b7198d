"""Listening sockets: one a worker slot, all on one port (SO_REUSEPORT), bound before any process starts."""

import errno
import os
import socket

from metering.model.errors import WeighbridgeError

_BACKLOG = 4096


class PortTaken(WeighbridgeError):
    """Another program listens on this port already."""

    code = "port_taken"


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        if not shared:
            listener.listen(1)  # with SO_REUSEADDR only listening shows that somebody else does
    except OSError as exc:
        listener.close()
        raise _reason(exc, host, port) from exc
    return listener


def _reason(exc: OSError, host: str, port: int) -> WeighbridgeError:
    if exc.errno == errno.EADDRINUSE:
        return PortTaken(f"port {port} on {host} is taken by another program")
    return PortTaken(f"port {port} on {host} cannot be used: {os.strerror(exc.errno or 0)}")


def check_free(host: str, port: int) -> None:
    """Raises PortTaken if anyone listens on `port`; a second gateway would share it unnoticed otherwise."""
    if port:
        _bound(host, port, shared=False).close()


def free_port(host: str, preferred: int = 0) -> int:
    """`preferred` if nobody has it, else any that is free now."""
    try:
        listener = _bound(host, preferred, shared=False)
    except PortTaken:
        listener = _bound(host, 0, shared=False)
    with listener:
        return int(listener.getsockname()[1])


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets on one port (0: any). The kernel spreads connections over them.

    Raises PortTaken. Whoever holds these sockets keeps the port open while a worker is away: connections wait.
    """
    check_free(host, port)
    first = _bound(host, port, shared=True)
    number = first.getsockname()[1]
    sockets = [first, *(_bound(host, number, shared=True) for _ in range(count - 1))]
    for listener in sockets:
        listener.setblocking(False)
        listener.listen(_BACKLOG)
    return sockets
