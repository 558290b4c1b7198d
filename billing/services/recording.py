"""Usage that is stated by somebody, and not counted by a gateway: recorded, voided, put right.

An event is a row of the ledger, written with its hour and period in one transaction, and is never changed: a void or a correction is a
row of its own. The same transaction leaves what the store's counters must move by; it is taken there right behind it, once, and, where
the store is away, as soon as it answers (`catch_up`). What was used is a fact: no quota refuses it, it only refuses calls that follow.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from billing.model.event import BadEvent, Event, Standing, checked_units, unbilled_because
from billing.model.subscription import STANDINGS
from billing.model.subscription import Standing as Stands
from billing.services import lookup
from billing.services.entitlements import Entitlements
from billing.services.ports import Account, Books, Gateways, GatewaysUnreachable, Unit
from billing.services.ports_events import Bounds, EventRow, Filter
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import Conflict, NotFound
from metering.model.meter import Meter
from metering.model.moves import Held, Moves, Sum, counter_moves
from metering.model.period import period_at, window_at
from metering.model.quota import Window
from metering.model.seeding import kinds

log = logging.getLogger(__name__)

_MOVES_A_TRIP = 200
_PAGE = 100
_NOBODY = "00000000-0000-0000-0000-000000000000"


class NoSuchEvent(NotFound):
    """There is no such event."""

    code = "no_such_event"


class EventVoided(Conflict):
    """The event was voided, or is a void or correction itself."""

    code = "event_voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of one event. `reason` says why it was refused, or why it is not charged for."""

    status: str  # accepted | duplicate | rejected
    id: int | None = None
    billable: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """An organization's calendar and terms, as one transaction sees them."""

    account: Account
    anchor_ms: int
    periods: Sequence[Bounds]
    standing: Standing

    def period_of(self, at_ms: int) -> Bounds:
        """One that has rows, by whatever anchor it was counted; else by the anchor that stands."""
        for start_ms, end_ms in reversed(self.periods):
            if start_ms <= at_ms < end_ms:
                return start_ms, end_ms
        return period_at(self.anchor_ms, at_ms)


class Recording:
    """`meters` is what is counted; `bills`, `at_stripe`: whether anything is charged, and by whom."""

    def __init__(
        self, books: Books, gateways: Gateways, entitlements: Entitlements, clock: Clock, *, meters: Mapping[str, Meter], bills: bool,
        at_stripe: bool,
    ) -> None:  # fmt: skip
        self._books, self._gateways, self._entitlements, self._clock = books, gateways, entitlements, clock
        self.meters, self._bills, self._at_stripe = meters, bills, at_stripe

    async def record(self, org_ref: str, events: Sequence[Event | BadEvent]) -> list[Recorded]:
        """Each by itself, in one transaction. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            book = await self.book(unit, (await lookup.organization(unit, org_ref)).id)
            found = await self._record(unit, book, events)
        await self.tell([book.account.org.id])
        return found

    async def page(self, which: Filter, after: tuple[int, int] | None, limit: int) -> list[EventRow]:
        """Newest first."""
        async with self._books.transaction() as unit:
            return await unit.events.page(which, after, limit)

    async def show(self, org_ref: str, event_id: int) -> EventRow:
        """Raises NoSuchEvent."""
        async with self._books.transaction() as unit:
            found = await unit.events.find((await lookup.organization(unit, org_ref)).id, event_id)
        if found is None:
            raise NoSuchEvent(f"there is no event {event_id}", id=event_id)
        return found[0]

    async def void(self, org_ref: str, event_id: int, reason: str | None = None) -> EventRow:
        """It never was. Once; raises NoSuchEvent, EventVoided."""
        async with self._books.transaction() as unit:
            book, row, net = await self._standing_event(unit, org_ref, event_id)
            key = f":void:{event_id}"
            (new_id,) = await unit.events.ids(1)
            if await unit.events.claim(row.org_id, {key: (new_id, b"")}):
                raise EventVoided(f"event {event_id} was voided before")
            against = self._against(row, new_id, "void", 0 if row.level else -net, reason)
            await unit.events.insert([against])
            if row.level:
                await self._unhold(unit, book, row)
            else:
                await self._add(unit, book, [against])
        await self.tell([row.org_id])
        return against

    async def correct(self, org_ref: str, event_id: int, units: int, reason: str | None = None) -> EventRow:
        """It was so many base units: the difference is a row of its own. Raises NoSuchEvent, EventVoided, BadEvent."""
        async with self._books.transaction() as unit:
            book, row, net = await self._standing_event(unit, org_ref, event_id)
            meter = self.meters.get(row.meter) or Meter(name=row.meter, unit=row.meter)
            checked_units(units, meter)
            if await unit.events.claimed(row.org_id, [f":void:{event_id}"]):
                raise EventVoided(f"event {event_id} was voided: record what is true as a new one")
            (new_id,) = await unit.events.ids(1)
            difference = self._against(row, new_id, "correction", units if row.level else units - net, reason)
            if row.level or difference.units:
                await unit.events.insert([difference])
                await (self.hold(unit, book, [difference]) if row.level else self._add(unit, book, [difference]))
        await self.tell([row.org_id])
        return difference

    async def book(self, unit: Unit, org_id: str) -> Book:
        (account,) = await unit.orgs.accounts([org_id])
        entitlement = await self._entitlements.compiled(unit, account)
        pays = account.subscription is not None and STANDINGS[account.subscription.state] is Stands.PLAN
        standing = Standing(
            spec=account.spec if pays else None, quotas=entitlement.quotas_at(self._clock.now_ms()), bills=self._bills,
            at_stripe=self._at_stripe,
        )  # fmt: skip
        return Book(account, entitlement.anchor_ms, await unit.events.periods(org_id), standing)

    # --- events ----------------------------------------------------------------------------------------------------------

    async def _record(self, unit: Unit, book: Book, events: Sequence[Event | BadEvent]) -> list[Recorded]:
        org_id, now_ms = book.account.org.id, self._clock.now_ms()
        good = [(at, event) for at, event in enumerate(events) if isinstance(event, Event)]
        ids = dict(zip((at for at, _ in good), await unit.events.ids(len(good)), strict=True))
        first = dict[str, tuple[int, bytes]]()
        for at, one in good:
            if one.key is not None:
                first.setdefault(one.key, (ids[at], one.fingerprint))
        known = {**first, **(await unit.events.claim(org_id, first) if first else {})}
        found, rows = list[Recorded](), list[EventRow]()
        for at, event in enumerate(events):
            if isinstance(event, BadEvent):
                found.append(Recorded(status="rejected", reason=str(event)))
                continue
            taken = known.get(event.key, (ids[at], b"")) if event.key is not None else (ids[at], b"")
            if taken[0] != ids[at]:
                found.append(_again(event, taken))
                continue
            start_ms, end_ms = book.period_of(event.at_ms)
            rows.append(
                EventRow(
                    id=ids[at], org_id=org_id, meter=event.meter, units=event.units, at_ms=event.at_ms, start_ms=start_ms, end_ms=end_ms,
                    source="record", metadata=event.metadata, level=event.level, part=event.part,
                )
            )  # fmt: skip
            why = unbilled_because(event.meter, end_ms, now_ms, book.standing)
            found.append(Recorded(status="accepted", id=ids[at], billable=why is None, reason=why))
        await self._write(unit, book, rows)
        return found

    async def _write(self, unit: Unit, book: Book, rows: Sequence[EventRow]) -> None:
        if not rows:
            return
        await unit.events.insert(rows)
        await unit.events.lock([keys.bucket_of(book.account.org.id)])
        counted = [row for row in rows if not row.level]
        if counted:
            await self._add(unit, book, counted)
        if len(counted) < len(rows):
            await self.hold(unit, book, [row for row in rows if row.level])

    async def _add(self, unit: Unit, book: Book, rows: Sequence[EventRow]) -> None:
        await unit.events.add_up(rows)
        sums = defaultdict[tuple[str, int, int, int], int](int)
        for row in rows:
            sums[row.meter, window_at(Window.HOUR, 0, row.at_ms)[0], row.start_ms, row.end_ms] += row.units
        await unit.events.leave_move(Moves(book.account.org.id, tuple(Sum(*key, units) for key, units in sums.items() if units)))

    async def hold(self, unit: Unit, book: Book, rows: Sequence[EventRow]) -> None:
        """Levels that are written, of one organization, into their history; its bucket is locked."""
        held = await unit.events.hold(book.account.org.id, rows, book.anchor_ms, self._clock.now_ms())
        await self._held(unit, book, held, {row.meter: min(r.at_ms for r in rows if r.meter == row.meter) for row in rows})

    async def _unhold(self, unit: Unit, book: Book, row: EventRow) -> None:
        held = await unit.events.unhold(row, book.anchor_ms, self._clock.now_ms())
        await self._held(unit, book, held, {row.meter: row.at_ms})

    async def _held(self, unit: Unit, book: Book, held: Sequence[Held], since: Mapping[str, int]) -> None:
        org_id, now_ms = book.account.org.id, self._clock.now_ms()
        for meter, at_ms in since.items():
            start_ms, end_ms = book.period_of(at_ms)
            while start_ms <= now_ms:  # each period that the level reaches into has its mean
                await unit.events.open_period(org_id, meter, start_ms, end_ms)
                start_ms, end_ms = book.period_of(end_ms)
            await unit.events.average(org_id, meter, now_ms, since_ms=at_ms)
        await unit.events.leave_move(Moves(org_id, (), tuple(held)))

    async def _standing_event(self, unit: Unit, org_ref: str, event_id: int) -> tuple[Book, EventRow, int]:
        """Under the lock of its bucket: what it comes to stays so until the transaction ends."""
        org = await lookup.organization(unit, org_ref)
        await unit.events.lock([keys.bucket_of(org.id)])
        found = await unit.events.find(org.id, event_id)
        if found is None:
            raise NoSuchEvent(f"there is no event {event_id}", id=event_id)
        row, net = found
        if row.corrects is not None:
            raise EventVoided(f"event {event_id} is a {row.source} of event {row.corrects}: void or correct that one")
        book = await self.book(unit, org.id)
        start_ms = row.start_ms
        ends = dict(book.periods).get(start_ms) or period_at(start_ms, row.at_ms)[1]
        return book, replace(row, end_ms=ends), net

    def _against(self, row: EventRow, new_id: int, source: str, units: int, reason: str | None) -> EventRow:
        return replace(row, id=new_id, units=units, source=source, corrects=row.id, metadata=_reason(row, reason))

    # --- the live copy ---------------------------------------------------------------------------------------------------

    async def tell(self, org_ids: Sequence[str]) -> bool:
        """Have counters take what was left for them; False where the store is out of reach, and then it waits."""
        try:
            for bucket in sorted({keys.bucket_of(org_id) for org_id in org_ids}):
                await self._move(bucket)
        except GatewaysUnreachable as exc:
            log.warning("counters will hear of what was recorded when the store answers: %s", exc)
            return False
        return True

    async def catch_up(self) -> int:
        """Everything that waits; returns how many buckets had something. Raises GatewaysUnreachable."""
        async with self._books.transaction() as unit:
            buckets = await unit.events.pending_buckets()
        for bucket in buckets:
            await self._move(bucket)
        return len(buckets)

    async def look_after_levels(self) -> int:
        """Periods that began have what is held in them, those that ended their final mean; returns how many. Behind the end of a period
        it comes before anybody bills it (aggregator/wiring.py)."""
        now_ms, after, done = self._clock.now_ms(), (_NOBODY, ""), 0
        while True:
            async with self._books.transaction() as unit:
                page = await unit.events.due_levels(now_ms, after, _PAGE)
                for org_id, meter, last_end_ms, since_ms in page:
                    book = await self.book(unit, org_id)
                    await unit.events.lock([keys.bucket_of(org_id)])
                    held = await unit.events.held(org_id, [meter], book.anchor_ms, now_ms)
                    at_ms = min(ms for ms in (last_end_ms, since_ms, now_ms) if ms is not None)
                    await self._held(unit, book, held, {meter: at_ms})
                    after = (org_id, meter)
            await self.tell([org_id for org_id, _, _, _ in page])
            done += len(page)
            if len(page) < _PAGE:
                return done

    async def _move(self, bucket: int) -> None:
        while True:
            async with self._books.transaction() as unit:
                waiting = await unit.events.pending(bucket, _MOVES_A_TRIP)
            if not waiting:
                return
            standing = await self._gateways.standing(sorted({each.moves.org_id for each in waiting}))
            now_ms = self._clock.now_ms()
            counted = {org_id: set(kinds(entitlement)) for org_id, entitlement in standing.items()}
            mark = await self._gateways.move(
                bucket, [(each.seq, counter_moves(each.moves, counted.get(each.moves.org_id, ()), now_ms)) for each in waiting]
            )
            if mark is None or mark < waiting[0].seq:
                return  # recovery is at it, and sets what these would have moved
            async with self._books.transaction() as unit:
                await unit.events.moved(bucket, mark)
            if len(waiting) < _MOVES_A_TRIP:
                return


def _again(event: Event, taken: tuple[int, bytes]) -> Recorded:
    if taken[1] != event.fingerprint:
        return Recorded(status="rejected", id=taken[0], reason=f"the idempotency key stands for another event, {taken[0]}")
    return Recorded(status="duplicate", id=taken[0])


def _reason(row: EventRow, reason: str | None) -> str | None:
    said = json.loads(row.metadata) if row.metadata else {}
    if reason:
        said["reason"] = reason
    return json.dumps(said, ensure_ascii=False, sort_keys=True) if said else None
