"""What a hostile client sends: streams of requests out of a grammar, with faults put in where servers are known to disagree.

Pure: a number generator in, a Stream out; the same seed gives the same bytes.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from .corpus import (
    CONNECTIONS,
    CROWDS,
    ENDS,
    FRAMINGS,
    HOSTS,
    METHODS,
    NAMES,
    SIZES,
    TARGETS,
    VALUES,
    VERSIONS,
    Lines,
)


@dataclass
class Stream:
    """One client's bytes. `clean`: nothing was put in, so every request must be answered by the service."""

    case: str
    data: bytes
    cuts: list[int]
    clean: bool
    leaves: bool  # it goes away without waiting for what is missing
    notes: list[str] = field(default_factory=list)


@dataclass
class _Draft:
    """A request before it is bytes."""

    line: list[bytes]
    lines: Lines
    framing: Lines
    body: bytes
    chunks: list[bytes] | None
    sizes: list[bytes]
    trailers: Lines
    ends: dict[int, bytes] = field(default_factory=dict)

    def render(self) -> bytes:
        names = {"length": len(self.body), "other": len(self.body) // 2}
        framing = [line.replace(b"{length}", b"%d" % names["length"]).replace(b"{other}", b"%d" % names["other"]) for line in self.framing]
        head = [b" ".join(self.line), *self.lines, *framing, b""]
        out = b"".join(line + self.ends.get(at, b"\r\n") for at, line in enumerate(head))
        return out + (self.body if self.chunks is None else self._chunked())

    def _chunked(self) -> bytes:
        out = b""
        for at, chunk in enumerate(self.chunks or ()):
            spelled = self.sizes[at].decode("latin-1").format(size=len(chunk)).encode("latin-1")
            out += spelled + self.ends.get(-1 - 2 * at, b"\r\n") + chunk + self.ends.get(-2 - 2 * at, b"\r\n")
        last = b"".join(line + b"\r\n" for line in self.trailers)
        return out + b"0" + self.ends.get(-99, b"\r\n") + last + self.ends.get(-98, b"\r\n")


class Grammar:
    """Makes the streams of one case. `keyed` is the line that says who calls."""

    def __init__(self, random: Random, case: str, key: bytes) -> None:
        self._random, self._case = random, case.encode()
        self._keyed = b"X-API-Key: " + key
        self._number = 0
        self._blank = False

    def stream(self) -> Stream:
        random = self._random
        drafts = [self._draft() for _ in range(random.choice((1, 1, 2, 2, 3, 5)))]
        notes: list[str] = []
        if random.random() < 0.8:
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                notes.append(self._spoil(random.choice(drafts)))
        data = b"".join(self._between() + draft.render() for draft in drafts)
        if random.random() < 0.25:
            data = self._scramble(data)
            notes.append("bytes")
        data += self._last()
        cuts = self._cuts(data)
        if cuts and self._blank:
            notes.append("blank")  # a blank line that comes in two pieces may be refused
        return Stream(self._case.decode(), data, cuts, not notes, random.random() < 0.05, notes)

    def _between(self) -> bytes:
        lines = self._random.choice((0, 0, 0, 0, 1, 2))
        self._blank |= lines > 0
        return b"\r\n" * lines

    def _last(self) -> bytes:
        """A last request that closes: where both readers agree on everything before it, it is answered."""
        return self._head(b"GET", self._path(b"end")) + self._keyed + b"\r\nConnection: close\r\n\r\n"

    def _head(self, method: bytes, path: bytes) -> bytes:
        return method + b" " + path + b" HTTP/1.1\r\nHost: a.example\r\n"

    def _path(self, kind: bytes) -> bytes:
        self._number += 1
        return b"/%b/%b/%d" % (kind, self._case, self._number)

    def _draft(self) -> _Draft:
        random = self._random
        method = random.choice(METHODS)
        body = self._body() if method not in (b"GET", b"HEAD") or random.random() < 0.2 else b""
        lines = [b"Host: a.example", self._keyed, b"X-Fuzz: %d" % self._number]
        lines += [random.choice(NAMES) + b": " + random.choice(VALUES) for _ in range(random.choice((0, 0, 1, 3)))]
        if random.random() < 0.15:
            lines.append(b"Connection: " + random.choice([each for each in CONNECTIONS if each not in (b"close", b"upgrade")]))
        random.shuffle(lines)
        draft = _Draft([method, self._path(b"f"), b"HTTP/1.1"], lines, [], body, None, [], [])
        if body and random.random() < 0.5:
            self._chunk(draft)
        elif body or random.random() < 0.2:
            draft.framing = [b"Content-Length: {length}"]
        return draft

    def _chunk(self, draft: _Draft) -> None:
        random = self._random
        cuts = sorted({random.randrange(1, len(draft.body)) for _ in range(random.randrange(4))} if len(draft.body) > 1 else [])
        bounds = [0, *cuts, len(draft.body)]
        draft.chunks = [draft.body[start:end] for start, end in pairwise(bounds)]
        draft.sizes = [random.choice((b"{size:x}", b"{size:X}", b"0{size:x}", b"{size:x};a=b")) for _ in draft.chunks]
        draft.trailers = random.choice(([], [], [b"X-Sum: 1"], [b"Content-Length: 5"], [b"X-Org-Id: mine", b"X-Sum: 2"]))
        draft.framing = [b"Transfer-Encoding: chunked"]

    def _body(self) -> bytes:
        """Bodies that would be requests to whoever loses count."""
        random = self._random
        smuggled = self._head(b"GET", self._path(b"smuggled")) + self._keyed + b"\r\n\r\n"
        choices = (
            b"x", b"hello", smuggled, smuggled * 2, b"0\r\n\r\n" + smuggled, b"\r\n" + smuggled, b"5\r\nhello\r\n0\r\n\r\n" + smuggled,
            random.randbytes(random.choice((1, 10, 1000))), b"x" * random.choice((100, 5_000, 70_000)), b"\r\n\r\n",
            b"x=" + smuggled + b"y",
            smuggled[:-2], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )  # fmt: skip
        return random.choice(choices)

    # --- faults -----------------------------------------------------------------------------------------------------------

    def _spoil(self, draft: _Draft) -> str:
        spoilers = (
            self._framing, self._framing, self._framing, self._size, self._size, self._line_end, self._line_end, self._version,
            self._target,
            self._host, self._twice, self._space, self._method, self._connection, self._key, self._many,
        )  # fmt: skip
        spoiler = self._random.choice(spoilers)
        spoiler(draft)
        return spoiler.__name__.strip("_")

    def _framing(self, draft: _Draft) -> None:
        draft.framing = list(self._random.choice(FRAMINGS))
        if self._random.random() < 0.5 and draft.chunks is None and draft.body:
            framing = draft.framing
            self._chunk(draft)
            draft.framing = framing

    def _size(self, draft: _Draft) -> None:
        if draft.chunks is None:
            draft.body = draft.body or self._body()
            self._chunk(draft)
        draft.sizes[self._random.randrange(len(draft.sizes))] = self._random.choice(SIZES)

    def _line_end(self, draft: _Draft) -> None:
        places = [*range(len(draft.lines) + len(draft.framing) + 2), -99, -98, *range(-1 - 2 * len(draft.sizes), 0)]
        draft.ends[self._random.choice(places)] = self._random.choice(ENDS)

    def _version(self, draft: _Draft) -> None:
        draft.line[-1] = self._random.choice(VERSIONS)

    def _target(self, draft: _Draft) -> None:
        draft.line[1] = self._random.choice(TARGETS).replace(b"{path}", draft.line[1])

    def _method(self, draft: _Draft) -> None:
        draft.line[0] = self._random.choice(
            (b"get", b"BREW", b"CONNECT", b"G E T", b"", b"GET\x00", b"PRI", b"TRACE", b"G(T", b"\x16\x03\x01", b"POST ")
        )

    def _host(self, draft: _Draft) -> None:
        at = next((at for at, line in enumerate(draft.lines) if line.startswith(b"Host")), 0)
        draft.lines[at] = self._random.choice(HOSTS)

    def _twice(self, draft: _Draft) -> None:
        lines = draft.framing if draft.framing and self._random.random() < 0.6 else draft.lines
        lines.insert(self._random.randrange(len(lines) + 1), self._random.choice(lines))

    def _space(self, draft: _Draft) -> None:
        lines = draft.framing if draft.framing and self._random.random() < 0.5 else draft.lines
        at = self._random.randrange(len(lines))
        name, _, value = lines[at].partition(b":")
        lines[at] = self._random.choice(
            (name + b" :" + value, name + b"\t:" + value, b" " + lines[at], b"\t" + lines[at], name + b":" + value + b" \t", name + value,
             name + b":\x0b" + value, name + b"\x00:" + value, b":" + value, name + b"::" + value, name + b":\r\n" + value,
             name.upper() + b":" + value)
        )  # fmt: skip

    def _connection(self, draft: _Draft) -> None:
        draft.lines.append(b"Connection: " + self._random.choice(CONNECTIONS))

    def _key(self, draft: _Draft) -> None:
        draft.lines = [b"X-API-Key: nobody" if line == self._keyed and self._random.random() < 0.9 else line for line in draft.lines]

    def _many(self, draft: _Draft) -> None:
        draft.lines += self._random.choice(CROWDS)

    def _scramble(self, data: bytes) -> bytes:
        random, changed = self._random, bytearray(data)
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randrange(len(changed))
            what = random.randrange(5)
            if what == 0:
                changed[at] = random.choice(b"\r\n\x00 \t:;,0\xff") if random.random() < 0.7 else random.randrange(256)
            elif what == 1:
                changed[at:at] = random.choice(
                    (b"\r\n", b"\n", b"\r", b" ", b"\x00", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b":", b"\t")
                )
            elif what == 2:
                del changed[at : at + random.choice((1, 1, 2, 10))]
            elif what == 3:
                end = at + random.choice((1, 5, 40))
                changed[at:at] = changed[at:end]
            else:
                changed = changed[at:] + changed[:at] if random.random() < 0.1 else changed
            if not changed:
                changed = bytearray(b"\r\n")
        return bytes(changed)

    def _cuts(self, data: bytes) -> list[int]:
        """Where the stream is cut into pieces: nowhere, anywhere, around line ends, or after every byte of a stretch."""
        random, size = self._random, len(data)
        kind = random.randrange(6)
        if kind < 2 or size < 2:
            return []
        if kind == 2:
            start = random.randrange(size)
            return list(range(max(start, 1), min(start + 200, size)))
        if kind == 3:
            ends = [at + shift for at in range(size) if data[at] in b"\r\n" for shift in (0, 1)]
            return sorted({at for at in random.sample(ends, min(len(ends), 20)) if 0 < at < size})
        return sorted({random.randrange(1, size) for _ in range(random.choice((1, 2, 5, 20)))})
