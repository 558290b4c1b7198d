"""The differential fuzz run: `make fuzz`, or `python -m tests.fuzz.run --seconds 120 [--seed N] [--replay FILE]`.

Streams of grammar.py go in fragments through a real gateway to origin.py; laws.py judges each. Every case is made from the seed and its
number alone; what breaks a law is saved under build/fuzz, with the bytes, and can be sent again.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import secrets
import socket
import struct
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.integration.rules.rig import KEYS, ORG, Rig, listening, start_rig

from . import answers, laws
from .grammar import Grammar, Stream
from .origin import Origin, Script, Seen, plain_answer
from .strict import Request

LANES = 8  # cases under way at once; each lane is an organization, so that the service knows whose call it sees
FAULTS = Path("build/fuzz")
GROWN_AT_MOST = 64 << 20
_HANG_SECONDS = 10.0
_GRACE_SECONDS = 0.05  # for a stream whose last request never becomes whole
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Report:
    """What a run came to."""

    seed: int
    cases: int = 0
    requests: int = 0
    passed: int = 0
    refused: int = 0
    unseen: int = 0
    doubtful: int = 0
    broken: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        return (
            f"seed {self.seed}: {self.cases} cases, {self.requests} requests in them; {self.passed} answered by the service, "
            f"{self.refused} refused ({kinds}); {self.unseen} of {self.doubtful} broken off were charged unseen; "
            f"{len(self.broken)} breaches"
        )


@dataclass
class Connection:
    """The client's side of one case."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    closed: str = ""
    left: bool = False

    async def read(self) -> None:
        try:
            while data := await self.reader.read(1 << 18):
                self.received += data
            self.closed = "" if self.left else "eof"
        except ConnectionError:
            self.closed = "reset"

    def leave(self) -> None:
        self.left = True
        with contextlib.suppress(OSError):  # it is closed already
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()


class Fuzz:
    """One run against one rig. Services that answer oddly are another upstream, at the socket `odd`."""

    def __init__(self, rig: Rig, odd: socket.socket, seed: int) -> None:
        self._rig = rig
        self.report = Report(seed)
        self.origin = Origin([rig.service, odd], self._answer)
        self._scripts: dict[str, answers.Plan] = {}
        self._late: dict[int, deque[Request]] = {}  # of cases that were broken off: what was under way may reach the service a moment later
        self._doubtful: Counter[int] = Counter()
        self._returned: Counter[int] = Counter()

    # --- running ----------------------------------------------------------------------------------------------------------

    async def run(self, *, cases: int | None = None, seconds: float | None = None) -> Report:
        """So many cases, or for so long; half of them hostile clients, half odd services. Then the sums."""
        worker, until = self._rig.worker, time.monotonic() + (seconds or 1e9)
        await self.origin.start()
        numbers = iter(range(cases or sys.maxsize))
        more = await self._batch(numbers, min(until, time.monotonic() + 3), 200)
        rss = self._rig.rss()
        while more and time.monotonic() < until and not self.report.broken[20:]:
            more = await self._batch(numbers, until, 500)
        await self._sums()
        if self._rig.worker != worker or self._rig.process.poll() is not None:
            self.report.broken.append("the worker died")
        elif self._rig.rss() - rss > GROWN_AT_MOST:
            self.report.broken.append(f"the worker grew by {(self._rig.rss() - rss) >> 20} MiB")
        self.report.broken += [f"the service got no HTTP: {fault}" for fault in self.origin.faults]
        await self.origin.stop()
        return self.report

    async def _batch(self, numbers: Iterator[int], until: float, size: int) -> bool:
        """Up to `size` cases on all lanes, while there is time; whether there are more to come."""
        batch = itertools.islice(numbers, size)

        async def lane(org: int) -> int:
            done = 0
            while time.monotonic() < until and (number := next(batch, None)) is not None:
                await self.case(number, org)
                done += 1
            return done

        done = sum(await asyncio.gather(*(lane(org) for org in range(1, LANES + 1))))
        return done == size or time.monotonic() >= until

    async def case(self, number: int, org: int) -> None:
        random = Random(f"{self.report.seed}:{number}")
        self.report.cases += 1
        if number % 2:
            plan = answers.plan(random, f"{number:x}", KEYS[org].encode())
            broken = await self.answers(plan, org)
            raw = {"plan": plan.to_json()}
        else:
            stream = Grammar(random, f"{number:x}", KEYS[org].encode()).stream()
            broken, transcript = await self.requests(stream, org)
            raw = {"sent": stream.data.hex(), "cuts": stream.cuts, "notes": stream.notes, **transcript.to_json()}
        if broken:
            self._save(number, broken, raw)

    def _save(self, number: int, broken: list[str], raw: dict[str, object]) -> None:
        FAULTS.mkdir(parents=True, exist_ok=True)
        path = FAULTS / f"{self.report.seed}-{number}.json"
        path.write_text(json.dumps({"seed": self.report.seed, "case": number, "breaches": broken, **raw}, indent=1))
        self.report.broken += [f"{path}: {each}" for each in broken]

    def _answer(self, seen: Seen) -> Script:
        plan = self._scripts.get(seen.case) if seen.request.target.startswith(b"/odd/") else None
        return plan.answer(seen) if plan is not None else plain_answer(seen)

    # --- hostile clients --------------------------------------------------------------------------------------------------

    async def requests(self, stream: Stream, org: int) -> tuple[list[str], laws.Transcript]:
        wanted, end = laws.expected(stream)
        self.report.requests += len(wanted)
        transcript = await self._converse(stream, wanted, end, org)
        responses, _ = laws.responses_of(transcript, wanted)
        for response in responses:
            if response.all(b"x-seen"):
                self.report.passed += 1
            else:
                self.report.refused += 1
                self.report.kinds[str(response.status)] += 1
        answered = sum(1 for response in responses if response.all(b"x-seen"))
        if not len(transcript.seen) == answered == len(wanted) or not transcript.closed:
            self._doubtful[org] += 1
            self._late.setdefault(org, deque(maxlen=20)).extend(wanted)
        return laws.breaches(stream, transcript), transcript

    async def _converse(self, stream: Stream, wanted: list[Request], end: str, org: int) -> laws.Transcript:
        connection = Connection(*await asyncio.open_connection(self._rig.host, self._rig.port))
        reading = asyncio.ensure_future(connection.read())
        bounds = [0, *stream.cuts, len(stream.data)]
        for start, stop in itertools.pairwise(bounds):
            if connection.closed:
                break
            connection.writer.write(stream.data[start:stop])
            await asyncio.sleep(0)
        timed_out = False
        if not stream.leaves:
            timed_out = not await self._until_quiet(connection, reading, wanted, end)
        connection.leave()
        await reading
        return laws.Transcript(bytes(connection.received), connection.closed, timed_out, await self._seen(org))

    async def _until_quiet(self, connection: Connection, reading: asyncio.Future[None], wanted: list[Request], end: str) -> bool:
        """Until the gateway closes; or, where it rightly waits for more, until all that can be answered is."""
        deadline = time.monotonic() + _HANG_SECONDS
        whole = sum(1 for request in wanted if request.whole)
        quiet_since, size = time.monotonic(), -1
        while not reading.done():
            await asyncio.wait([reading], timeout=0.01)
            now = time.monotonic()
            if len(connection.received) != size:
                quiet_since, size = now, len(connection.received)
            if end != "close" and now - quiet_since > _GRACE_SECONDS and connection.received.count(b"HTTP/1.1 ") >= whole:
                return True
            if now > deadline:
                return False
        return True

    async def _seen(self, org: int) -> list[Seen]:
        """What the service saw of this case, once nothing of it is under way any more. What an earlier one left behind is passed over."""
        name = ORG.format(org)
        deadline = time.monotonic() + _HANG_SECONDS
        while any(not seen.ended for seen in self.origin.seen.get(name, ())):
            if time.monotonic() > deadline:
                self.report.broken.append("a call went on at the service though its client had gone")
                break
            await asyncio.sleep(0.002)
        late = self._late.get(org, ())
        return [seen for seen in self.origin.forget(name) if not any(laws.begins(seen.request, request) for request in late)]

    # --- odd services -----------------------------------------------------------------------------------------------------

    async def answers(self, plan: answers.Plan, org: int) -> list[str]:
        """Well-formed calls, one after another, to a service that answers as the plan says."""
        self._scripts[plan.case] = plan
        try:
            found = await answers.converse(plan, self._rig.host, self._rig.port)
        finally:
            del self._scripts[plan.case]
        seen = await self._seen(org)
        self.report.requests += len(plan.steps)
        self.report.passed += found.whole
        self.report.refused += found.gateways
        self.report.kinds.update(found.kinds)
        self._returned[org] += len(seen) - found.paid
        return found.breaches

    # --- sums -------------------------------------------------------------------------------------------------------------

    async def _sums(self) -> None:
        """Charged is what the service saw, less what went back; a call cut off before the service read it may be charged unseen."""
        for org in range(1, LANES + 1):
            heads = self.origin.heads.get(ORG.format(org), 0) - self._returned[org]
            counter, before = self._rig.counter(org=org), -1
            while counter != before:  # returns arrive within a second or so
                before = counter
                await asyncio.sleep(1.5 if org == 1 else 0.05)
                counter = self._rig.counter(org=org)
            self.report.unseen += counter - heads
            self.report.doubtful += self._doubtful[org]
            if not heads <= counter <= heads + self._doubtful[org]:
                self.report.broken.append(
                    f"organization {org} was charged {counter}; the service saw {heads} that pay, {self._doubtful[org]} in doubt"
                )


# --- the command ----------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS") or "120"))
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument("--cases", type=int, help="so many cases, instead of --seconds")
    parser.add_argument("--replay", type=Path, help="a file under build/fuzz: its case alone, from its seed")
    options = parser.parse_args()
    only = None
    if options.replay:
        saved = json.loads(options.replay.read_text())
        options.seed, only = saved["seed"], saved["case"]
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="wb-fuzz-") as folder, fuzz_rig(Path(folder)) as (rig, odd):
        report = asyncio.run(_run(rig, odd, options, only))
    for each in report.broken:
        say(each)
    say(str(report))
    return 1 if report.broken else 0


@contextlib.contextmanager
def fuzz_rig(folder: Path) -> Iterator[tuple[Rig, socket.socket]]:
    """A gateway with a second service at /odd/*: what that one does to its connections shall not touch the calls of the first."""
    odd = listening()
    upstream = f'  odd: {{targets: ["http://127.0.0.1:{odd.getsockname()[1]}"]}}'
    rig = start_rig(folder, upstreams=upstream, routes="  - {path: /odd/*, upstream: odd}")
    try:
        yield rig, odd
    finally:
        rig.stop()
        odd.close()


async def _run(rig: Rig, odd: socket.socket, options: argparse.Namespace, only: int | None) -> Report:
    fuzz = Fuzz(rig, odd, options.seed)
    if only is None:
        return await fuzz.run(cases=options.cases, seconds=None if options.cases else options.seconds)
    await fuzz.origin.start()
    await fuzz.case(only, 1)
    await fuzz.origin.stop()
    return fuzz.report


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
