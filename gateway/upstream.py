"""The way to the services: every upstream's targets, kept through changes of the configuration.

Who is next is decided in gateway/balance.py, who is well in gateway/health.py and gateway/probes.py; a target's connections are kept
in gateway/target.py. What is done with a connection: gateway/transfer.py.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from config.gateway import Health, Tls, Upstream
from gateway.balance import Group
from gateway.dial import Address, context
from gateway.headers import VIA
from gateway.health import verdict
from gateway.probes import Probed, Probes
from gateway.target import Busy, ConnectTimedOut, Target, Unreachable
from metering.model.clock import Clock

__all__ = ["Busy", "ConnectTimedOut", "Target", "Unreachable", "UpstreamPool", "verdict"]

_REMEMBERED_SECONDS: Final = 600.0  # a call that was routed before its upstream was removed has found its connection by then

_Kept = dict[tuple[str, str], Target]


class UpstreamPool:
    """The targets of all upstreams."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
        *,
        keepalive_seconds: float = 4.0,
        on_retry: Callable[[str], None] = lambda upstream: None,
        on_ejection: Callable[[str, str], None] = lambda upstream, target: None,
        via: bytes = VIA,
    ) -> None:
        """Kept connections are closed after `keepalive_seconds` without use, a little before servers do (uvicorn and node: 5 s),
        since a request that meets a closing connection may be lost. `on_retry` and `on_ejection` are told when, and of whom.
        `via`: who we are when we ask how a target is.

        Raises ValueError for an address or a certificate that is none.
        """
        self._clock = clock
        self._sweep_seconds = min(1.0, keepalive_seconds / 4)
        self._sweeps = round(keepalive_seconds / self._sweep_seconds)
        self._told_retry, self._told_ejection = on_retry, on_ejection
        self._groups: dict[str, Group] = {}
        self._tls: dict[str, Tls] = {}
        self._gone: dict[str, tuple[Group, float]] = {}
        self._probes = Probes(via)
        self._sweeper: asyncio.TimerHandle | None = None
        self.retries = 0
        self.update(upstreams)

    def choose(self, upstream: str) -> Target | None:
        """The target of the next call; None where there is no such upstream.

        An upstream that was removed a moment ago still serves the calls that were routed to it before.
        """
        group = self._groups.get(upstream)
        if group is None:
            group = self._gone[upstream][0] if upstream in self._gone else None
            return group.choose() if group is not None else None
        return group.only or group.choose()

    def order(self, upstream: str, first: Target | None = None) -> Sequence[Target]:
        """The targets to try, `first` (or the one whose turn it is) leading; those that are out or full come last."""
        group = self._groups.get(upstream) or (self._gone[upstream][0] if upstream in self._gone else None)
        return group.order(first) if group is not None else ()

    def targets(self, upstream: str) -> Sequence[Target]:
        """All targets of an upstream, for those who show their health."""
        group = self._groups.get(upstream)
        return group.targets if group is not None else ()

    async def probe(self) -> None:
        """Ask the targets whether they are well, as the configuration says, for ever."""
        await self._probes.run()

    # A new configuration

    def update(self, upstreams: Mapping[str, Upstream]) -> None:
        """Take over a new configuration. Targets that stay keep their connections, their health and their counts; others finish what
        they are at.

        Raises ValueError for an address or a certificate that is none; then nothing has changed.
        """
        now = self._clock.monotonic()
        old = {(name, target.url): target for name, group in self._groups.items() for target in group.targets}
        new: _Kept = {}
        for name, upstream in upstreams.items():
            self._make(name, upstream, old, new)
        self._gone = {name: kept for name, kept in self._gone.items() if name not in upstreams and now < kept[1]}
        self._gone |= {name: (group, now + _REMEMBERED_SECONDS) for name, group in self._groups.items() if name not in upstreams}
        for place, target in old.items():
            if new.get(place) is not target:
                target.retire()
        self._groups = {name: self._group(name, upstream, new) for name, upstream in upstreams.items()}
        self._tls = {name: upstream.tls for name, upstream in upstreams.items()}
        self._ask(upstreams)

    def _make(self, name: str, upstream: Upstream, old: _Kept, new: _Kept) -> None:
        """The upstream's targets, into `new`. A connection made under other rules of TLS is of no more use."""
        same = self._tls.get(name) == upstream.tls
        tls: ssl.SSLContext | None = None
        for url in upstream.targets:
            kept = old.get((name, url)) if same or not url.startswith("https:") else None
            if kept is None and tls is None and url.startswith("https:"):
                tls = context(upstream.tls)
            new[(name, url)] = kept or Target(Address(url, tls, upstream.tls.server_name), self._clock, self._watch)

    def _group(self, name: str, upstream: Upstream, kept: _Kept) -> Group:
        targets = [kept[(name, url)] for url in upstream.targets]
        weights = upstream.weights or (1,) * len(targets)
        for target, weight in zip(targets, weights, strict=True):
            target.weight = weight
        group = Group(targets, upstream.balance, upstream.ejection, self._clock, lambda target: self._told_ejection(name, target.url))
        counts_5xx = upstream.ejection is not None and upstream.ejection.count_5xx
        for target in targets:
            target.apply(
                bound=upstream.max_connections,
                queue=upstream.queue,
                count_5xx=counts_5xx,
                changed=group.changed,
                on_failure=group.failed,
                on_retry=lambda: self._retried(name),
            )
        return group

    def _ask(self, upstreams: Mapping[str, Upstream]) -> None:
        asked: dict[Probed, Health] = {}
        for name, upstream in upstreams.items():
            for target in self._groups[name].targets:
                if upstream.health is not None:
                    asked[target] = upstream.health
                else:
                    target.unwatched()
        self._probes.set(asked)

    def _retried(self, upstream: str) -> None:
        self.retries += 1
        self._told_retry(upstream)

    # Kept connections

    def _watch(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        """Close connections unused for too long; goes on while any are open."""
        self._sweeper = None
        for group in self._groups.values():
            for target in group.targets:
                target.close_idle(self._sweeps)
                if target.open:
                    self._watch()

    def close(self) -> None:
        """Close all idle connections; those at work are closed within a second of being given back."""
        self._sweeps = 0
        self._sweep()
