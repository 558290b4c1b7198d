"""Take files of usage in: every good row once, every bad one named with its line and reason, in pieces that stay when the rest is lost.

A row is once by its `idempotency_key`, where the file has that column; else by its place in the file. A piece is a run of lines, committed
with the digest of the file up to its end: the same file again, or one that goes on where it ended, begins behind what was read.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from billing.model.event import BadEvent, Event, base_units, checked_at, checked_key, meter_of
from billing.model.import_file import LONGEST_LINE, Reader, Said, reader_of
from billing.services.ports import Books, Unit
from billing.services.ports_events import EventRow, StagedSum
from billing.services.recording import Book, Recording
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.moves import Moves, Sum

PIECE = 20_000  # lines a transaction
_EVERYBODY = "00000000-0000-0000-0000-000000000000"
_SHOWN = 500
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that was not taken, and why. `text` is the line."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an import has come. `skipped`: rows that were in before; `size`: bytes read."""

    lines: int = 0
    accepted: int = 0
    skipped: int = 0
    rejected: int = 0
    size: int = 0


@dataclass(slots=True)
class _Piece:
    """A run of lines between two places of the file, as it is read. `bulk` is what COPY takes; `single` are rows with a key, and levels."""

    before: bytes
    after: bytes
    first: int
    lines: list[bytes]
    skipped: int = 0
    bulk: list[str] = field(default_factory=list)
    single: list[tuple[int, str, Event]] = field(default_factory=list)  # line, organization, event
    rejects: list[Reject] = field(default_factory=list)
    sums: dict[tuple[str, str, int, int, int], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))


class Importing:
    """`org_id` None in `run`: the rows say whose they are."""

    def __init__(self, books: Books, recording: Recording, clock: Clock) -> None:
        self._books, self._recording, self._clock = books, recording, clock

    async def run(self, org_id: str | None, body: AsyncIterator[bytes], *, dry_run: bool = False) -> AsyncIterator[Progress | Reject]:
        """What happens, as it happens; the last is a Progress. Raises NoHeader, BadInput for what is no file of rows."""
        file, total = _File(body), Progress()
        read = await file.header()
        if read is None:
            yield total
            return
        work = _Reading(self, org_id, read, dry_run=dry_run)
        coming = asyncio.ensure_future(work.next_piece(file))
        try:
            while (piece := await coming) is not None:
                coming = asyncio.ensure_future(work.next_piece(file))
                taken = 0 if dry_run else await self._take(org_id, piece, work.books)
                accepted = len(piece.bulk) + len(piece.single) if dry_run else taken
                again = len(piece.lines) - len(piece.rejects) - accepted - piece.skipped
                total = replace(
                    total, lines=total.lines + len(piece.lines), accepted=total.accepted + accepted, size=file.size,
                    skipped=total.skipped + piece.skipped + again, rejected=total.rejected + len(piece.rejects),
                )  # fmt: skip
                for reject in sorted(piece.rejects, key=lambda each: each.line):
                    yield reject
                yield total
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def known(self, org_id: str | None, before: bytes) -> list[tuple[int, bytes]]:
        async with self._books.transaction() as unit:
            return await unit.imports.pieces(org_id or _EVERYBODY, before)

    async def book(self, ref: str) -> Book | None:
        async with self._books.transaction() as unit:
            org = await unit.orgs.find(ref)
            return await self._recording.book(unit, org.id) if org is not None else None

    @property
    def meters(self) -> Mapping[str, Meter]:
        return self._recording.meters

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def _take(self, org_id: str | None, piece: _Piece, books: Mapping[str, Book | None]) -> int:
        """In one transaction; returns how many rows are new."""
        if not (piece.bulk or piece.single or piece.rejects):
            return 0
        orgs = sorted({key[0] for key in piece.sums} | {org for _, org, _ in piece.single})
        async with self._books.transaction() as unit:
            rows = len(piece.lines) - piece.skipped
            if not await unit.imports.begin(org_id or _EVERYBODY, piece.before, rows, piece.after, len(piece.rejects)):
                return 0  # somebody reads the same file just now, and has this piece
            if piece.bulk:
                await unit.imports.stage("".join(piece.bulk).encode())
            new = await self._claimed(unit, piece, {book.account.org.id: book for book in books.values() if book is not None})
            await unit.events.lock(sorted({keys.bucket_of(org) for org in orgs}))
            sums = [StagedSum(*key, units, events) for key, (units, events) in piece.sums.items()]
            await unit.imports.add_up(sums)
            for org in orgs:
                mine = tuple(Sum(s.meter, s.hour_ms, s.start_ms, s.end_ms, s.units) for s in sums if s.org_id == org and s.units)
                if mine:
                    await unit.events.leave_move(Moves(org, mine))
            for org in orgs:
                levels = [row for row in new if row.org_id == org and row.level]
                if levels:
                    await self._recording.hold(unit, next(b for b in books.values() if b is not None and b.account.org.id == org), levels)
        await self._recording.tell(orgs)
        return len(piece.bulk) + len(new)

    async def _claimed(self, unit: Unit, piece: _Piece, books: Mapping[str, Book]) -> list[EventRow]:
        """Rows with a key, and levels: those that are new, written."""
        new = list[EventRow]()
        for org_id in sorted({org for _, org, _ in piece.single}):
            mine = [(line, event) for line, org, event in piece.single if org == org_id]
            ids = await unit.events.ids(len(mine))
            wanted = dict[str, tuple[int, bytes]]()
            for (_, event), number in zip(mine, ids, strict=True):
                if event.key is not None:
                    wanted.setdefault(event.key, (number, event.fingerprint))
            taken = {**wanted, **(await unit.events.claim(org_id, wanted) if wanted else {})}
            for (line, event), number in zip(mine, ids, strict=True):
                first = taken[event.key] if event.key is not None else (number, b"")
                if first[0] == number:
                    new.append(self._row(event, number, books[org_id], piece))
                elif first[1] != event.fingerprint:
                    reason = f"the idempotency key stands for another event, {first[0]}"
                    piece.rejects.append(Reject(line=line, reason=reason, text=_text(piece.lines[line - piece.first])))
        if new:
            await unit.events.insert(new)
        return new

    def _row(self, event: Event, number: int, book: Book, piece: _Piece) -> EventRow:
        start_ms, end_ms = book.period_of(event.at_ms)
        if not event.level:
            sums = piece.sums[book.account.org.id, event.meter, event.at_ms // _HOUR_MS * _HOUR_MS, start_ms, end_ms]
            sums[0], sums[1] = sums[0] + event.units, sums[1] + 1
        org_id = book.account.org.id
        return EventRow(
            id=number, org_id=org_id, meter=event.meter, units=event.units, at_ms=event.at_ms, start_ms=start_ms, end_ms=end_ms,
            source="import", metadata=event.metadata, level=event.level, part=event.part,
        )  # fmt: skip


class _Reading:
    """Makes pieces of a file's lines, ahead of those that are being written."""

    def __init__(self, importing: Importing, org_id: str | None, read: Reader, *, dry_run: bool) -> None:
        self._importing, self._org_id, self._read, self._dry_run = importing, org_id, read, dry_run
        self.books: dict[str, Book | None] = {}

    async def next_piece(self, file: "_File") -> _Piece | None:
        before, first = file.place, file.line + 1
        lines = await file.take(PIECE)
        if not lines:
            return None
        skipped = 0
        if not self._dry_run:
            while known := await self._importing.known(self._org_id, before):
                fitting = [(count, after) for count, after in known if _leads(before, lines[skipped : skipped + count], count, after)]
                if not fitting:
                    break
                count, before = fitting[0]
                skipped += count
        file.place = _behind(before, lines[skipped:]) if skipped < len(lines) else before
        piece = _Piece(before, file.place, first, lines, skipped)
        said = await asyncio.to_thread(self._said, piece)
        await self._find({row.org for _, row in said})
        await asyncio.to_thread(self._build, piece, said)
        return piece

    def _said(self, piece: _Piece) -> list[tuple[int, Said]]:
        found, read = [], self._read
        for number, raw in enumerate(piece.lines[piece.skipped :], start=piece.first + piece.skipped):
            try:
                if len(raw) > LONGEST_LINE:
                    raise BadEvent(f"the line is longer than {LONGEST_LINE:,} bytes")
                line = raw.decode()
                if line.strip():
                    found.append((number, read(line.rstrip("\r\n"))))
                else:
                    raise BadEvent("the line is empty")
            except BadEvent as exc:
                piece.rejects.append(Reject(line=number, reason=str(exc), text=_text(raw)))
            except UnicodeDecodeError:
                piece.rejects.append(Reject(line=number, reason="the line is not UTF-8", text=_text(raw)))
        return found

    async def _find(self, refs: set[str]) -> None:
        if self._org_id is not None:
            if self._org_id not in self.books:
                self.books[self._org_id] = self.books[""] = await self._importing.book(self._org_id)
            own = self.books[self._org_id]
            if own is not None:
                self.books[own.account.org.slug] = own
            return
        for ref in refs - self.books.keys() - {""}:
            self.books[ref] = await self._importing.book(ref)

    def _build(self, piece: _Piece, said: Sequence[tuple[int, Said]]) -> None:
        now_ms, meters = self._importing.now_ms(), self._importing.meters
        spans: dict[str, tuple[int, int]] = {}
        for number, row in said:
            try:
                book = self.books.get(row.org)
                if book is None:
                    raise BadEvent(self._nobody(row.org))
                meter = meters.get(row.service) or meter_of(row.service, meters)
                units = _units(row.quantity, meter)
                at_ms = checked_at(row.at_ms, now_ms)
                if row.key or meter.kind is Kind.LEVEL:
                    event = Event(
                        meter=meter.name, units=units, at_ms=at_ms, metadata=row.metadata, key=checked_key(row.key),
                        level=meter.kind is Kind.LEVEL,
                    )  # fmt: skip
                    piece.single.append((number, book.account.org.id, event))
                    continue
                start_ms, end_ms = spans.get(row.org, (0, 0))
                if not start_ms <= at_ms < end_ms:
                    start_ms, end_ms = spans[row.org] = book.period_of(at_ms)
                org_id = book.account.org.id
                sums = piece.sums[org_id, meter.name, at_ms // _HOUR_MS * _HOUR_MS, start_ms, end_ms]
                sums[0] += units
                sums[1] += 1
                metadata = "\\N" if row.metadata is None else row.metadata.replace("\\", "\\\\")
                piece.bulk.append(f"{at_ms}\t{start_ms}\t{org_id}\t{meter.name}\t{units}\t{metadata}\n")
            except BadEvent as exc:
                piece.rejects.append(Reject(line=number, reason=str(exc), text=_text(piece.lines[number - piece.first])))

    def _nobody(self, ref: str) -> str:
        if self._org_id is not None:
            return "the row belongs to another organization"
        return f"there is no organization {ref[:64]!r}" if ref else "the row does not say whose it is, in org_id"


class _File:
    """A body as lines, and how much of it has been read."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body, self._rest, self._ended = body, list[bytes](), False
        self._tail = b""
        self.size, self.line, self.place = 0, 0, b""

    async def header(self) -> Reader | None:
        """Raises NoHeader; None: there is nothing in it."""
        first = await self.take(1)
        if not first:
            return None
        try:
            read, is_header = reader_of(first[0].decode())
        except UnicodeDecodeError:
            raise BadInput("the file is not UTF-8 text") from None
        if is_header:
            self.place = _behind(self.place, first)
        else:
            self._rest, self.line = [*first, *self._rest], 0
        return read

    async def take(self, count: int) -> list[bytes]:
        """The next lines, with their ends."""
        while len(self._rest) < count and not self._ended:
            piece = await anext(self._body, None)
            if piece is None:
                self._ended = True
                if self._tail:
                    self._rest.append(self._tail + b"\n")
                    self._tail = b""
                break
            self.size += len(piece)
            lines = (self._tail + piece).split(b"\n")
            self._tail = lines.pop()
            if len(self._tail) > 2 * LONGEST_LINE:
                raise BadInput(f"a line is longer than {LONGEST_LINE:,} bytes: this is no file of rows")
            self._rest += [line + b"\n" for line in lines]
        found, self._rest = self._rest[:count], self._rest[count:]
        self.line += len(found)
        return found


def _leads(before: bytes, lines: Sequence[bytes], count: int, after: bytes) -> bool:
    """Whether so many lines, behind a place, lead to another."""
    return len(lines) == count and _behind(before, lines) == after


def _behind(before: bytes, lines: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(before + b"".join(lines), digest_size=20).digest()


def _units(text: str, meter: Meter) -> int:
    if meter.show_size == 1 and text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    return base_units(text.strip(), meter, below_zero=True)


def _text(raw: bytes) -> str:
    return raw[:_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n")
