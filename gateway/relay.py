"""Give each exchange a connection to its upstream, once more where that is safe, and watch its time.

Wiring:

    pool = UpstreamPool(config.upstreams, clock)                   # one per worker; pool.update(…) when the configuration changes
    relay = Relay(pool, clock, trusted_proxies=["10.0.0.0/8"])     # one per configuration, or one for all; it holds little
    transfer = SomeTransfer(request)                               # a Transfer that says what becomes of it when it has ended
    transfer.to_service = b"\\r\\nX-Org-Id: …"
    relay.begin(transfer, route, clock.monotonic())

The bytes are moved in gateway/transfer.py, from protocol to protocol; here are the choice of a connection, the one retry, the sweep.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from config.gateway import Route
from gateway.headers import VIA, Passage, TrustedProxies
from gateway.outcome import Ended
from gateway.transfer import Transfer
from gateway.upstream import Busy, ConnectTimedOut, Target, Unreachable, UpstreamPool, verdict
from metering.model.clock import Clock

__all__ = ["Relay"]

_SWEEP_SECONDS: Final = 0.2
_PROGRESS_SECONDS: Final = 1.0
_ENDINGS: Final[dict[type[Unreachable], Ended]] = {ConnectTimedOut: "timeout", Busy: "busy"}
_PASSAGES_REMEMBERED: Final = 4096


class Relay:
    """Forwards requests over a pool's connections."""

    def __init__(
        self,
        pool: UpstreamPool,
        clock: Clock,
        *,
        trusted_proxies: Iterable[str] = (),
        credential_headers: Iterable[str] = ("X-API-Key", "Authorization"),
        proxied_headers: Iterable[str] = (),
        via: bytes = VIA,
    ) -> None:
        """`trusted_proxies`: whose X-Forwarded-* is believed, as CIDR blocks. `credential_headers`: what a route that hides
        credentials does not pass on. `proxied_headers`: what only a trusted proxy may send. `via`: who we are to those before and
        behind us.
        """
        self._pool = pool
        self.monotonic = clock.monotonic
        self.trusted = TrustedProxies(trusted_proxies)
        self._credentials = [name.lower().encode() for name in credential_headers]
        self.via = via
        self._proxied = [name.lower().encode() for name in proxied_headers]
        self._passages: dict[int, tuple[Route, Passage]] = {}
        self._last: tuple[Route, Passage] | None = None
        self._under_way: set[Transfer] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    def begin(self, transfer: Transfer, route: Route, now: float) -> None:
        """Send the request to the route's upstream and the response to the client; `transfer.finished` runs when that has ended.

        `now` by the monotonic clock. Never raises for what client or service do. Does not answer when it has nothing from the service
        to send.
        """
        transfer.aim(self, route, self.passage(route), now)
        if transfer.client.gone or transfer.request.responded:
            transfer.end("client_gone")
            return
        self._under_way.add(transfer)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        target = self._pool.choose(route.upstream)
        if target is None:
            transfer.end("unreachable", "the configuration has no such upstream")
            return
        transfer.target = target
        target.begun()
        connection = target.take_idle()
        if connection is None:
            transfer.client.run(self._connect(transfer, route, target))
        else:
            transfer.start(connection, self._head(transfer, target))

    def _head(self, transfer: Transfer, target: Target) -> bytes:
        request = transfer.request
        trusted = self.trusted.trusts(request.peer)
        return transfer.passage.request(
            request, request.peer, request.scheme, trusted, target.authority, target.base_path, transfer.to_service
        )

    async def _connect(self, transfer: Transfer, route: Route, chosen: Target, *, fresh: bool = False) -> None:
        """Nothing was sent yet, or nothing arrived, so a target that cannot be reached costs only the time to notice: the next is asked."""
        failure: Unreachable | None = None
        try:
            for target in self._tries(route, chosen):
                if target is not chosen:
                    self._pass_on(transfer, target)
                try:
                    connection = await target.take(route.timeouts.connect_s, fresh=fresh)
                except Unreachable as error:
                    failure = failure if isinstance(failure, Busy) else error  # where one is merely busy, it is worth asking again
                    if transfer.over:  # its client left meanwhile
                        return
                else:
                    transfer.connected(self.monotonic())
                    transfer.start(connection, self._head(transfer, target))
                    return
        except asyncio.CancelledError:
            transfer.cancel()
            raise
        self._pass_on(transfer, None)
        transfer.end(_ENDINGS.get(type(failure) if failure is not None else Unreachable, "unreachable"), str(failure))

    def _tries(self, route: Route, chosen: Target) -> Iterator[Target]:
        yield chosen
        for target in self._pool.order(route.upstream, chosen):
            if target is not chosen:
                yield target

    @staticmethod
    def _pass_on(transfer: Transfer, target: Target | None) -> None:
        """From one target, which has counted its failure itself, to the next, or to none."""
        before, transfer.target = transfer.target, target
        if before is not None:
            before.ended(None)
        if target is not None:
            target.begun()

    def again(self, transfer: Transfer) -> None:
        """The kept connection had died: once more, over a new one."""
        target, route = transfer.target, transfer.route
        assert target is not None
        assert route is not None
        target.retried()
        transfer.client.run(self._connect(transfer, route, target, fresh=True))

    def over(self, transfer: Transfer) -> None:
        """It has ended: nothing more to watch."""
        self._under_way.discard(transfer)
        target = transfer.target
        if target is not None:
            target.ended(verdict(transfer.ended, transfer.status, target.count_5xx))

    def passage(self, route: Route) -> Passage:
        """The route's rules for header fields."""
        last = self._last
        if last is not None and last[0] is route:
            return last[1]
        known = self._passages.get(id(route))
        if known is None or known[0] is not route:
            if len(self._passages) >= _PASSAGES_REMEMBERED:
                self._passages.clear()
            known = self._passages[id(route)] = (route, Passage(route, self._credentials, self.via, self._proxied))
        self._last = known
        return known[1]

    def _sweep(self) -> None:
        """One timer for all exchanges: idle and total times need not be sharp, and never fire early."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep) if self._under_way else None
        now = self.monotonic()
        for transfer in list(self._under_way):
            transfer.check(now, _PROGRESS_SECONDS)
