"""Where a worker accepts connections: at its slot's own socket and, while other workers are away, at theirs too.

The kernel spreads connections over the slots' sockets, whether or not anybody accepts there; those for a slot without a worker would
wait until it has one. Which slots are without, the supervisor says (weighbridge/workers.py).
"""

import socket
from collections.abc import Collection, Mapping

from aiohttp import web


class Listeners:
    """`own` and `others` (slot -> descriptor) are listening sockets, inherited, and this object's from now on."""

    def __init__(self, runner: web.BaseRunner, own: int, others: Mapping[int, int]) -> None:
        self._runner, self._own = runner, socket.socket(fileno=own)
        self._others = {slot: socket.socket(fileno=descriptor) for slot, descriptor in others.items()}
        self._covering: dict[int, web.SockSite] = {}

    async def open(self) -> None:
        """Begin to accept at the own one."""
        self._own.setblocking(False)
        await web.SockSite(self._runner, self._own).start()

    async def cover(self, slots: Collection[int]) -> None:
        """Accept for exactly these slots beside the own one."""
        for slot in self._covering.keys() - set(slots):
            await self._covering.pop(slot).stop()
        for slot in set(slots) & self._others.keys() - self._covering.keys():
            again = self._others[slot].dup()  # a site closes what it was given
            again.setblocking(False)
            self._covering[slot] = web.SockSite(self._runner, again)
            await self._covering[slot].start()

    async def leave(self) -> None:
        """For good: a socket that any process holds open keeps connections waiting."""
        await self.cover(())
        for other in self._others.values():
            other.close()
        self._others = {}
