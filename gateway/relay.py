"""Forward one request to its upstream and its response back, both streamed.

Wiring:

    pool = UpstreamPool(config.upstreams, clock)                   # one per worker; pool.update(…) when the configuration changes
    relay = Relay(pool, clock, trusted_proxies=["10.0.0.0/8"])     # one per configuration, or one for all; it holds little
    outcome = await relay.forward(request, route, add_headers=[(b"X-Org-Id", b"…")], response_headers=[(b"RateLimit", b"…")])

The bytes are moved in gateway/transfer.py, from protocol to protocol; here are the choice of a connection, the one retry, the time limits.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from config.gateway import Route
from gateway.headers import Passage, TrustedProxies, lines_of
from gateway.outcome import Outcome
from gateway.request import Request
from gateway.service import UpstreamConnection
from gateway.transfer import Transfer
from gateway.upstream import ConnectTimedOut, Target, Unreachable, UpstreamPool
from metering.model.clock import Clock

__all__ = ["Outcome", "Relay"]

_SWEEP_SECONDS = 0.2
_PROGRESS_SECONDS = 1.0
_PASSAGES_REMEMBERED = 4096


class Relay:
    """Forwards requests over a pool's connections."""

    def __init__(
        self,
        pool: UpstreamPool,
        clock: Clock,
        *,
        trusted_proxies: Iterable[str] = (),
        credential_headers: Iterable[str] = ("X-API-Key", "Authorization"),
    ) -> None:
        """`trusted_proxies`: whose X-Forwarded-* is believed, as CIDR blocks. `credential_headers`: what a route that hides
        credentials does not pass on.
        """
        self._pool = pool
        self._clock = clock
        self.trusted = TrustedProxies(trusted_proxies)
        self._credentials = [name.lower().encode() for name in credential_headers]
        self._passages: dict[int, tuple[Route, Passage]] = {}
        self._under_way: set[Transfer] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def forward(
        self,
        request: Request,
        route: Route,
        *,
        add_headers: Sequence[tuple[bytes, bytes]],
        response_headers: Sequence[tuple[bytes, bytes]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Send the request to the route's upstream and the response to the client.

        Never raises for what client or service do. Does not answer when it has nothing from the service to send: the caller does.
        `progress(bytes_in, bytes_out)` is called about once a second while bytes move, with totals.
        """
        if request.client.gone or request.responded:
            return Outcome(ended="client_gone", bytes_in=request.body_bytes)
        started = self._clock.monotonic()
        passage = self._passage(route)
        transfer = Transfer(request, passage, route.timeouts, started, response_headers, progress)
        outcome = transfer.outcome
        self._under_way.add(transfer)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        try:
            targets = self._pool.order(route.upstream)
            target = targets[0] if targets else None
            connection = target.take_idle() if target is not None else None
            if target is None or connection is None:
                target, connection = await self._connect(targets, route, transfer)
            trusted = self.trusted.trusts(request.peer)
            lines = lines_of(add_headers)
            head = passage.request(request, request.peer, request.scheme, trusted, target.authority, target.base_path, lines)
            transfer.start(connection, head)
            await transfer.done
            if not transfer.ended:  # the kept connection had died: once more, over a new one
                self._pool.retries += 1
                transfer.start(await target.take(route.timeouts.connect_s, fresh=True), head)
                await transfer.done
        except ConnectTimedOut as error:
            outcome.ended, outcome.detail = "timeout", str(error)
        except Unreachable as error:
            outcome.ended, outcome.detail = "unreachable", str(error)
        except asyncio.CancelledError:
            transfer.cancel()
            raise
        finally:
            self._under_way.discard(transfer)
            outcome.bytes_in = request.body_bytes
            outcome.upstream_ms = round((self._clock.monotonic() - started) * 1000)
        return outcome

    async def _connect(self, targets: Sequence[Target], route: Route, transfer: Transfer) -> tuple[Target, UpstreamConnection]:
        """Nothing was sent yet, so a target that cannot be reached costs only the time to notice: the next one is asked."""
        failure: Unreachable | None = None
        for target in targets:
            try:
                connection = await target.take(route.timeouts.connect_s)
            except Unreachable as error:
                failure = error
            else:
                transfer.connected(self._clock.monotonic())
                return target, connection
        raise failure or Unreachable("the configuration has no such upstream")

    def _passage(self, route: Route) -> Passage:
        known = self._passages.get(id(route))
        if known is None or known[0] is not route:
            if len(self._passages) >= _PASSAGES_REMEMBERED:
                self._passages.clear()
            known = self._passages[id(route)] = (route, Passage(route, self._credentials))
        return known[1]

    def _sweep(self) -> None:
        """One timer for all exchanges: idle and total times need not be sharp, and never fire early."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep) if self._under_way else None
        now = self._clock.monotonic()
        for transfer in list(self._under_way):
            transfer.check(now, _PROGRESS_SECONDS)
