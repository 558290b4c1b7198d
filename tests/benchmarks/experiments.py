"""What is measured, one experiment a function: each runs its proxies in paired rounds and gives rows, figures, or both.

In each round every proxy is loaded once, one after the other, so that whatever the machine is doing meets all of them.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.bench import LARGE_BYTES, OTHER_CORES, PROXY_CORES, CannotRun, Cores, Stage
from tests.benchmarks.figures import Figure
from tests.benchmarks.load import Generator, Seen
from tests.benchmarks.proxies import (
    REFERENCE,
    Direct,
    Gateway,
    GatewayOfTwo,
    GatewayUnmetered,
    NginxProxyPass,
    NginxStreaming,
    NginxTunnel,
    PlainAiohttp,
    Proxy,
)
from tests.benchmarks.report import Block, Row

GATEWAY = Gateway.name
_WARM_UP_SECONDS = 1.0
_ECHO_CONNECTIONS, _ECHO_BYTES = 16, 32


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


@dataclass
class Bench:
    """What the experiments share: the stage, the proxies that run, the load, how long and how often, and what came of it."""

    stage: Stage
    folder: Path
    generator: Generator
    echo: Path
    seconds: float
    rounds: int
    proxies: dict[str, Proxy] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def started(self, made: Sequence[Callable[[], Proxy]], stack: ExitStack) -> None:
        """Start them all; those that cannot run here are named with the reason."""
        for make in made:
            proxy = make()
            stack.callback(proxy.stop)
            try:
                proxy.start(self.stage)
                say(f"  {proxy.name:<16} ready  {proxy.url}")
            except CannotRun as exc:
                proxy.stop()
                self.absent[proxy.name] = str(exc)
                say(f"  {proxy.name:<16} not run: {exc}")
            self.proxies[proxy.name] = proxy

    def running(self, *names: str) -> list[Proxy]:
        return [self.proxies[name] for name in names if name in self.proxies and name not in self.absent]

    def keys(self, number: int) -> Path:
        path = self.folder / f"keys-{number}.txt"
        if not path.exists():
            path.write_text("".join(f"{org.key}\n" for org in self.stage.orgs[:number]))
        return path

    def block(self, name: str, title: str, names: Sequence[str], action: Callable[[Proxy, float], Seen]) -> Block:
        """Paired rounds of `action(proxy, seconds)`, after one that warms up."""
        chosen = [self.proxies[each] for each in names if each in self.proxies]
        block = Block(name, title, [Row(each.name, each.title, absent=self.absent.get(each.name, "")) for each in chosen])
        for row in block.rows:
            if not row.absent:
                row.warm_up = action(self.proxies[row.name], _WARM_UP_SECONDS)
        for turn in range(self.rounds):
            for row in block.rows:
                if not row.absent:
                    row.rounds.append(_watched(self.proxies[row.name], lambda each: action(each, self.seconds)))
            told = "  ".join(f"{row.name} {row.rounds[-1].per_second:,.0f}/s" for row in block.rows if row.rounds)
            say(f"  {title}, round {turn + 1}: {told}")
        self.blocks.append(block)
        return block

    def compare(self, figure: str, block: Block, mine: str, theirs: str, value: Callable[[Seen], float]) -> None:
        """One figure: the ratio of each round."""
        rows = {row.name: row for row in block.rows}
        missing = [self.absent.get(name) or "not part of this run" for name in (mine, theirs) if not (name in rows and rows[name].rounds)]
        if missing:
            self.figures.append(Figure(figure, absent=missing[0]))
            return
        pairs = zip(rows[mine].rounds, rows[theirs].rounds, strict=True)
        self.figures.append(Figure(figure, [value(a) / value(b) if value(b) else float("inf") for a, b in pairs]))


def _watched(proxy: Proxy, action: Callable[[Proxy], Seen]) -> Seen:
    cores, used = Cores(), proxy.cpu_seconds()
    seen = action(proxy)
    spent, proxy_core, load_core = proxy.cpu_seconds() - used, cores.share(PROXY_CORES), cores.share(OTHER_CORES)
    own = spent / cores.seconds
    return replace(
        seen,
        cpu_us_a_call=spent * 1e6 / max(1, seen.requests),
        proxy_core=proxy_core,
        load_core=load_core,
        proxy_share=min(own, proxy_core),
    )


def _per_second(seen: Seen) -> float:
    return seen.per_second


# --- closed loops ------------------------------------------------------------------------------------------------------
def calls(bench: Bench, number: int) -> None:
    """Requests a second of every proxy, with the keys of `number` organizations."""
    keys = bench.keys(number)
    title = f"{number:,} organization{'s' if number > 1 else ''}"
    block = bench.block(f"calls-{number}", title, list(bench.proxies), lambda proxy, seconds: load.run(proxy.url, keys, seconds))
    bench.compare(f"calls-{number}", block, GATEWAY, REFERENCE, _per_second)
    if number != 10_000:
        bench.compare(f"off-{number}", block, GATEWAY, GatewayUnmetered.name, _per_second)
        bench.compare(f"obvious-{number}", block, GATEWAY, PlainAiohttp.name, _per_second)


def differing(bench: Bench) -> None:
    """A gateway that remembers heads must not be flattered by equal ones."""
    keys, names = bench.keys(1), [Direct.name, REFERENCE, GATEWAY]
    title = "1 organization, each call with a traceparent and a path of its own"
    block = bench.block("differing", title, names, lambda proxy, seconds: load.run(proxy.url, keys, seconds, differing=True))
    bench.compare("differing", block, GATEWAY, REFERENCE, _per_second)


def large(bench: Bench, stack: ExitStack) -> None:
    """Bodies of 1 MiB from the service, 8 connections; nginx as it comes, and as it is fastest at this."""
    bench.started([NginxStreaming], stack)
    keys, names = bench.keys(1), [Direct.name, NginxProxyPass.name, NginxStreaming.name, GATEWAY]

    def action(proxy: Proxy, seconds: float) -> Seen:
        seen = bench.generator.run(proxy.url, keys, path="/large", seconds=seconds, connections=8)
        if seen.bytes < seen.passed * LARGE_BYTES:
            raise CannotRun(f"{proxy.name} answered with less than the service did")
        return seen

    block = bench.block("large", "1 MiB responses, 8 connections", names, action)
    bench.compare("large", block, GATEWAY, NginxStreaming.name, lambda seen: seen.megabytes_per_second)


def two_workers(bench: Bench, stack: ExitStack) -> None:
    """CPU a request of two workers that share the proxy's core, against one worker there; 100 organizations."""
    bench.started([GatewayOfTwo], stack)
    keys, names = bench.keys(100), [GATEWAY, GatewayOfTwo.name]
    title = "two workers against one, 100 organizations"
    block = bench.block("two-workers", title, names, lambda proxy, seconds: load.run(proxy.url, keys, seconds))
    bench.compare("two-workers", block, GatewayOfTwo.name, GATEWAY, lambda seen: seen.cpu_us_a_call)


# --- a given rate ------------------------------------------------------------------------------------------------------
def half_load(bench: Bench, number: int) -> None:
    """p99 of both at half of what the slower one managed in the closed loops."""
    before = next((block for block in bench.blocks if block.name == f"calls-{number}"), None)
    speeds = [row.median("per_second") for row in before.rows if row.name in (REFERENCE, GATEWAY) and row.rounds] if before else []
    if len(speeds) < 2:
        bench.figures.append(
            Figure(f"p99-{number}", absent=bench.absent.get(REFERENCE, "half of what load is not known without the closed loops"))
        )
        return
    rate, keys = min(speeds) / 2, bench.keys(number)
    title = f"{rate:,.0f} requests/s, {number:,} organization{'s' if number > 1 else ''}"
    block = bench.block(
        f"half-{number}",
        title,
        [REFERENCE, GATEWAY],
        lambda proxy, seconds: bench.generator.run(proxy.url, keys, rate=rate, seconds=seconds),
    )
    bench.compare(f"p99-{number}", block, GATEWAY, REFERENCE, lambda seen: seen.p99_us)


# --- tunnels -----------------------------------------------------------------------------------------------------------
def echo(bench: Bench, stack: ExitStack) -> None:
    """Messages there and back over WebSockets; both ends are echo.c. nginx shows what two reads and two writes a message cost at least."""
    gateway = bench.running(GATEWAY)
    if not gateway:
        bench.figures.append(Figure("echo", absent=bench.absent.get(GATEWAY, "")))
        return
    key = bench.stage.orgs[0].key

    def action(proxy: Proxy, seconds: float) -> Seen:
        url = bench.stage.echo_url if proxy.name == Direct.name else proxy.url
        return load.echoes(bench.echo, url, key, _ECHO_CONNECTIONS, seconds, _ECHO_BYTES)

    try:
        action(gateway[0], 1)
    except CannotRun as exc:
        bench.figures.append(Figure("echo", absent=str(exc)))
        say(f"  WebSocket echo: {exc}")
        return
    bench.started([NginxTunnel], stack)
    title = f"WebSocket echo, messages of {_ECHO_BYTES} bytes, {_ECHO_CONNECTIONS} connections; requests are messages"
    block = bench.block("echo", title, [Direct.name, NginxTunnel.name, GATEWAY], action)
    bench.compare("echo", block, GATEWAY, Direct.name, _per_second)
