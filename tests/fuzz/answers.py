"""Services that answer oddly: well-formed calls, one after another, and for each a response with faults put in.

The law: an answer that a client takes for whole is the one that the service gave to this very call, whole, to the byte. Anything else is
the gateway's own 502, or a connection broken off.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .corpus import ENDS, SIZES
from .origin import DECOY, Script, Seen
from .strict import Fault, Response, Short, response_at

_SECONDS = 10.0
_METHODS = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS")
_ONCE = (b"POST",)  # not asked again where a kept connection turns out to be closed: that may be a 502
_STATUSES = (
    b"200 OK",
    b"200 OK",
    b"200 OK",
    b"404 Not Found",
    b"500 Oops",
    b"503 No",
    b"204 No Content",
    b"304 Not Modified",
    b"206 Part",
    b"299 ",
)
_FRAMINGS = (
    [b"Content-Length: {length}"],
    [b"Content-Length: {length}", b"Content-Length: {length}"],
    [b"Content-Length: {length}", b"Content-Length: 1"],
    [b"Content-Length: 1{length}"],
    [b"Content-Length: 1"],
    [b"Content-Length: +{length}"],
    [b"Content-Length: -1"],
    [b"Content-Length: {length}, {length}"],
    [b"Content-Length: 99999999999999999999"],
    [b"Content-Length:"],
    [b"Content-Length : {length}"],
    [b"Content-Length: {length}", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Content-Length: {length}"],
    [b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: gzip, chunked"],
    [b"Transfer-Encoding: chunked, gzip"],
    [b"Transfer-Encoding: identity"],
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: xchunked"],
    [b"Transfer-Encoding:\x0bchunked"],
    [b"Transfer-Encoding:"],
    [b"Transfer-Encoding: CHUNKED"],
    [b"Connection: close", b"Content-Length: {length}"],
    [b"Connection: Content-Length", b"Content-Length: {length}"],
    [b"Connection: close"],
    [b"Connection: keep-alive"],
    [b"Keep-Alive: timeout=1", b"Content-Length: {length}"],
    [],
)
_LINES = (
    b"HTTP/1.0 {status}", b"HTTP/2.0 {status}", b"HTTP/1.1  {status}", b"HTTP/1.1\t{status}", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 099 X", b"ICY {status}", b"http/1.1 {status}", b"HTTP/1.1 {status}\x00", b"HTTP/1.1 {status}\x1b[2J",
    b"HTTP/1.1 101 Switching",
    b"\r\nHTTP/1.1 {status}", b" HTTP/1.1 {status}", b"HTTP/1.1 -20 X", b"HTTP/1.1 {status}\r\n\r\nHTTP/1.1 {status}",
    b"HTTP/1.1 102 P",
)  # fmt: skip
_ODD_LINES = (
    b"X-Fold: a\r\n b", b"X : y", b"X y", b": y", b"X: \x00", b"X: \r", b"X: a\nY: b", b"X-Ok: caf\xe9", b"Upgrade: x", b"Trailer: X-T",
    b"X-Request-Id: mine", b"RateLimit: mine", b"Date: x", b"X-Large: " + b"v" * 20_000, b"X-Larger: " + b"v" * 400_000, b"HTTP/1.1 200 OK",
)  # fmt: skip
_BEFORE = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 199 X\r\nContent-Length: 5\r\n\r\n",
    b"\r\n",
)
_BEHIND = (DECOY, b"\r\n", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\x00" * 100, b"0\r\n\r\n")


@dataclass
class Step:
    """One call and its answer: the pieces that the service sends, and what it does then."""

    method: bytes
    pieces: list[bytes]
    then: str
    clean: bool
    notes: list[str] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    def truth(self) -> Response | None:
        """The answer as a strict reader has it; None where there is none, or not the whole of it."""
        try:
            response, _ = response_at(self.raw, 0, self.method, ended=self.then == "close", lenient=True)
        except (Fault, Short):
            return None
        return response if response.whole else None


@dataclass
class Plan:
    """The calls of one case, and the key they are made with."""

    case: str
    key: bytes
    steps: list[Step]

    def answer(self, seen: Seen) -> Script:
        step = self.steps[int(seen.request.target.rpartition(b"/")[2])]
        return Script(step.pieces, step.then)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"method": s.method.decode(), "pieces": [p.hex() for p in s.pieces], "then": s.then, "notes": s.notes} for s in self.steps]


def plan(random: Random, case: str, key: bytes) -> Plan:
    return Plan(case, key, [_step(random, case, number) for number in range(random.choice((1, 2, 3, 5)))])


def _step(random: Random, case: str, number: int) -> Step:
    method, status = random.choice(_METHODS), random.choice(_STATUSES)
    body = b"answer %b %d " % (case.encode(), number) + random.choice((b"", b"x" * 50, DECOY, random.randbytes(200), b"y" * 100_000))
    notes: list[str] = []
    framing = list(random.choice(_FRAMINGS[:1] + _FRAMINGS[13:14] + _FRAMINGS[24:25]))
    line, lines, ends = b"HTTP/1.1 {status}", [b"Content-Type: text/plain"], dict[int, bytes]()
    if random.random() < 0.75:
        for _ in range(random.choice((1, 1, 2))):
            what = random.choice(
                ("framing", "framing", "line", "field", "end", "before", "behind", "cut", "cut", "chunk", "bytes", "bodiless")
            )
            notes.append(what)
    framing = list(random.choice(_FRAMINGS)) if "framing" in notes else framing
    line = random.choice(_LINES) if "line" in notes else line
    lines += [random.choice(_ODD_LINES)] if "field" in notes else []
    chunked = any(b"chunked" in each.lower() for each in framing) if random.random() < 0.9 else random.random() < 0.5
    bodiless = method == b"HEAD" or status[:3] in (b"204", b"304")
    lines = [*lines, b"X-Seen: %b-%d" % (case.encode(), number), *(each.replace(b"{length}", b"%d" % len(body)) for each in framing)]
    head = [line.replace(b"{status}", status), *lines, b""]
    if "end" in notes:
        ends[random.randrange(len(head))] = random.choice(ENDS)
    raw = b"".join(each + ends.get(at, b"\r\n") for at, each in enumerate(head))
    if bodiless == ("bodiless" in notes):
        raw += _chunks(random, body, "chunk" in notes) if chunked else body
    raw = (random.choice(_BEFORE) if "before" in notes else b"") + raw
    if "bytes" in notes:
        at = random.randrange(len(raw))
        raw = raw[:at] + random.choice((b"\r\n", b"\n", b"\x00", b"\r", b" ", b"0", b"")) + raw[at + random.randrange(2) :]
    return _finished(random, method, raw, notes)


def _chunks(random: Random, body: bytes, odd: bool) -> bytes:
    cuts = sorted({random.randrange(1, len(body)) for _ in range(random.randrange(4))})
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    strange = random.randrange(len(parts)) if odd else -1
    out = b""
    for at, part in enumerate(parts):
        spelled = random.choice(SIZES) if at == strange else b"{size:x}"
        end = random.choice(ENDS) if at == strange and random.random() < 0.3 else b"\r\n"
        out += spelled.decode("latin-1").format(size=len(part)).encode("latin-1") + b"\r\n" + part + end
    trailers = (
        (b"X-T: 1\r\n", b"Content-Length: 9\r\n", b"X-T : 1\r\n", b"Transfer-Encoding: chunked\r\n", b"X-T: a\nb\r\n")
        if odd
        else (b"", b"X-T: 1\r\n")
    )
    return out + b"0\r\n" + random.choice(trailers) + b"\r\n"


def _finished(random: Random, method: bytes, raw: bytes, notes: list[str]) -> Step:
    """Cut it off, or put something behind; then how the connection goes on: one that waits for more would wait long, so it ends."""
    if "cut" in notes:
        raw = raw[: random.randrange(len(raw) + 1)]
    end, then = len(raw), random.choice(("keep", "keep", "close", "reset"))
    try:
        response, end = response_at(raw, 0, method, ended=False, lenient=True)
        lasting = response.whole
    except (Fault, Short):
        lasting = False
    if then == "keep" and not lasting:
        then = random.choice(("close", "reset"))
    if "behind" in notes:
        raw += random.choice(_BEHIND)
    places = [at for at in range(1, len(raw)) if at < end] or [0]
    at = sorted({random.choice(places) for _ in range(random.choice((0, 0, 1, 3)))} - {0})
    pieces = [raw[start:stop] for start, stop in zip([0, *at], [*at, len(raw)], strict=True)]
    return Step(method, [piece for piece in pieces if piece], then, not notes, notes)


# --- the client --------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of a plan. `paid`: calls answered in full by no 5xx; all others go back."""

    breaches: list[str] = field(default_factory=list)
    whole: int = 0
    gateways: int = 0
    paid: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


async def converse(plan: Plan, host: str, port: int) -> Found:
    """Make the calls, over one connection as long as it lasts."""
    found, stream = Found(), None
    for number, step in enumerate(plan.steps):
        stream = stream or await asyncio.open_connection(host, port)
        body = b"hello" if step.method == b"POST" else b""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        head = b"%b /odd/%b/%d HTTP/1.1\r\nHost: a.example\r\nX-API-Key: %b\r\n%b\r\n"
        stream[1].write(head % (step.method, plan.case.encode(), number, plan.key, length) + body)
        response, data, closed = await _answer(stream[0], step.method)
        _judge(plan, number, response, data, closed, found)
        if response is None or response.ends or closed or not response.whole:
            stream[1].transport.abort()
            stream = None
    if stream is not None:
        stream[1].transport.abort()
    return found


async def _answer(reader: asyncio.StreamReader, method: bytes) -> tuple[Response | None, bytes, str]:
    """The next answer, as far as it came; all bytes that did; how the connection ended, if it did."""
    data, closed = b"", ""
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                try:
                    response, at = response_at(data, 0, method, ended=closed == "eof")
                    if response.whole or closed or response.fault:
                        return response, data, closed if at == len(data) or response.fault else "bytes behind it"
                except Short:
                    if closed:
                        return None, data, closed
                piece = await reader.read(1 << 18)
                data, closed = data + piece, closed if piece else "eof"
    except ConnectionError:
        pass
    except Fault as fault:
        return None, data, f"fault: {fault}"
    except TimeoutError:
        return None, data, "nothing in time"
    try:
        response, _ = response_at(data, 0, method, ended=False)
    except (Fault, Short):
        return None, data, "reset"
    return response, data, "reset"


def _judge(plan: Plan, number: int, response: Response | None, data: bytes, closed: str, found: Found) -> None:
    step, truth = plan.steps[number], plan.steps[number].truth()
    where = f"call {number} ({step.method.decode()}, {'+'.join(step.notes) or 'clean'}, then {step.then})"
    if closed not in ("", "eof", "reset"):
        found.breaches.append(f"{where}: the client got no HTTP: {closed}: {data[:200]!r}")
        return
    if response is None or not response.whole:
        found.kinds["broken off"] += 1
        if step.clean and truth is not None and step.then != "reset":  # a reset may overtake what was sent before it
            found.breaches.append(f"{where}: a whole answer did not arrive: {data[:200]!r}, {closed}")
        return
    if not response.all(b"x-seen"):
        _gateways_own(where, step, truth, response, found)
        return
    if truth is not None and truth.all(b"x-seen") != response.all(b"x-seen"):
        found.breaches.append(f"{where}: an answer to another call: {response.all(b'x-seen')}")
    found.whole += 1
    found.paid += response.status < 500
    if truth is None:
        found.breaches.append(f"{where}: looks whole and was not: {data[-120:]!r}")
    elif (truth.status, truth.body) != (response.status, response.body):
        found.breaches.append(f"{where}: {response.status} {response.body[:80]!r}, not {truth.status} {truth.body[:80]!r}")


def _gateways_own(where: str, step: Step, truth: Response | None, response: Response, found: Found) -> None:
    """An answer without the service's mark: the gateway's, unless the mark was lost in the service's own."""
    found.gateways += 1
    found.kinds[str(response.status)] += 1
    service_s = truth is not None and not truth.all(b"x-seen")
    if response.status not in (502, 504) and not service_s:
        found.breaches.append(f"{where}: {response.status} out of nowhere")
    elif service_s and response.status == truth.status:
        found.paid += response.status < 500
    elif step.clean and truth is not None and step.then != "reset" and step.method not in _ONCE:
        found.breaches.append(f"{where}: a whole answer became {response.status}")
