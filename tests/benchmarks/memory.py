"""What a worker holds in memory: with many idle connections, and after many organizations called once."""

import hashlib
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from metering.model import keys
from tests.benchmarks.bench import CannotRun, Org, Stage, resident_bytes, worker_of
from tests.benchmarks.experiments import Bench, say
from tests.benchmarks.figures import Figure
from tests.benchmarks.proxies import Gateway

_MIB = 2**20
_SETTLE_SECONDS = 2.0  # what was freed, and what is sent once a second, is out of the way
_AT_ONCE = 5_000
_LEGS = (0.1, 0.3, 1.0)
_MANY_IDLE = 10_000
_ENOUGH = 1_000_000  # a worker remembers fewer than 30 % of these; before it forgets any, its memory grows


class GatewayOfIdle(Gateway):
    name = "weighbridge-idle"


class GatewayOfMany(Gateway):
    name = "weighbridge-many"


@dataclass(frozen=True)
class Held:
    """A worker's memory at one moment."""

    what: str
    bytes: int

    def row(self) -> str:
        return f"| {self.what} | {self.bytes / _MIB:,.0f} |"


def _resident(gateway: Gateway, what: str) -> Held:
    time.sleep(_SETTLE_SECONDS)
    held = Held(what, resident_bytes(worker_of(gateway.pid)))
    say(f"  {what}: {held.bytes / _MIB:,.0f} MiB")
    return held


def idle(bench: Bench, connections: int) -> list[Held]:
    """A worker with so many keep-alive connections, each after one call."""
    with ExitStack() as stack:
        gateway = GatewayOfIdle()
        stack.callback(gateway.stop)
        try:
            gateway.start(bench.stage)
            found = [_resident(gateway, "a worker that has just started")]
            passed = stack.enter_context(bench.generator.held(gateway.url, bench.keys(100), connections))
            if passed != connections:
                raise CannotRun(f"only {passed:,} of {connections:,} calls passed")
            found.append(_resident(gateway, f"{connections:,} idle keep-alive connections, each after one call"))
        except CannotRun as exc:
            bench.figures.append(Figure("idle", absent=str(exc)))
            return []
    enough = connections >= _MANY_IDLE
    bench.figures.append(Figure("idle", [found[-1].bytes / _MIB]) if enough else Figure("idle", absent=f"needs {_MANY_IDLE:,} connections"))
    return found


def many(bench: Bench, organizations: int) -> list[Held]:
    """A worker that so many organizations call, each once; looked at after a tenth, after three, at the end."""
    with ExitStack() as stack:
        gateway, found, called = GatewayOfMany(), list[Held](), 0
        stack.callback(gateway.stop)
        try:
            gateway.start(bench.stage)
            keys_file = _published(bench.stage, gateway.store_url, bench.folder / "many.txt", organizations)
            for leg in _LEGS:
                upto = round(organizations * leg)
                seen = bench.generator.run(gateway.url, keys_file, requests=upto - called, skip=called, connections=64)
                called = upto
                if seen.failed:
                    raise CannotRun(f"{seen.failed:,} of {seen.requests:,} calls failed")
                found.append(_resident(gateway, f"{upto:,} organizations seen once ({seen.per_second:,.0f} new ones a second)"))
        except CannotRun as exc:
            bench.figures.append(Figure("seen", absent=str(exc)))
            return found
    enough = organizations >= _ENOUGH
    bench.figures.append(
        Figure("seen", [found[-1].bytes / found[-2].bytes]) if enough else Figure("seen", absent=f"needs {_ENOUGH:,} organizations")
    )
    return found


def _published(stage: Stage, store_url: str, keys_file: Path, organizations: int) -> Path:
    """As control publishes them, but a million in a minute: what the store holds of one organization, under other names."""
    like = stage.orgs[0]
    with Redis.from_url(store_url) as store:
        entitlement, record = store.get(keys.entitlement(like.id)), store.get(keys.api_key(like.sha256))
        version = store.hget(keys.versions(keys.bucket_of(like.id)), like.id)
    assert isinstance(entitlement, bytes)
    assert isinstance(record, bytes)
    assert isinstance(version, bytes)
    with socket.socket(socket.AF_UNIX) as wire, keys_file.open("w") as file:
        wire.connect(store_url.removeprefix("unix://"))
        for start in range(0, organizations, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, organizations))
            commands = []
            for number in numbers:
                key, org_id = f"seen-{number:08d}", f"00000000-0000-4000-9000-{number:012x}"
                file.write(key + "\n")
                commands += _commands(like, key, org_id, entitlement, record, version)
            wire.sendall(b"".join(commands))
            _take_answers(wire, 3 * len(numbers))
    say(f"  {organizations:,} organizations published")
    return keys_file


def _commands(like: Org, key: str, org_id: str, entitlement: bytes, record: bytes, version: bytes) -> list[bytes]:
    old, new = like.id.encode(), org_id.encode()
    return [
        _command(b"SET", keys.entitlement(org_id).encode(), entitlement.replace(old, new)),
        _command(b"SET", keys.api_key(hashlib.sha256(key.encode()).hexdigest()).encode(), record.replace(old, new)),
        _command(b"HSET", keys.versions(keys.bucket_of(org_id)).encode(), new, version),
    ]


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def _take_answers(wire: socket.socket, count: int) -> None:
    """As many lines as commands; none may be an error."""
    while count:
        data = wire.recv(1 << 16)
        if not data or b"-" in data:
            raise CannotRun(f"the store does not take the organizations: {data[:100]!r}")
        count -= data.count(b"\n")


def table(found: list[Held]) -> str:
    return "\n".join(["| a worker's memory | MiB |", "|---|--:|", *(held.row() for held in found)])
