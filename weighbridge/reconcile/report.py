"""The whole of `weighbridge reconcile`: ship, look, look again where something differs, ask Stripe; and what came of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
from redis.asyncio import Redis

from billing.model import conservation
from billing.model.conservation import Books, Difference, Key, Outbox, Place, Told, differences, differences_at_stripe
from billing.stripe.client import StripeApi, StripeCallFailed
from metering.model.clock import Clock, isoformat
from weighbridge.flushing import Flushed, ship

from .look import SQL, Between, Scope, Seen, look

_LOOKS = 5
_AGAIN_SECONDS = 0.5
_AT_ONCE = 8
_STRIPE_HEARS_SECONDS = 35 * 86_400
_MINUTE = 60

Slot = tuple[Place, Key | None]


@dataclass(slots=True)
class Report:
    """`unseen` says what could not be looked at; then nobody knows whether all is conserved."""

    books: dict[Key, Books] = field(default_factory=dict)
    told: dict[Key, Told] = field(default_factory=dict)
    slugs: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    witness: dict[str, Any] | None = None

    @property
    def conserved(self) -> bool:
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        return {
            "conserved": self.conserved,
            "books": [self.to_json_of(books) for _, books in sorted(self.books.items())],
            "in_flight": conservation.totals(self.books) | {"pending": sum(told.outbox.pending for told in self.told.values())},
            "differences": [difference.to_json() | self._whose(difference) for difference in self.differences],
            "unseen": self.unseen,
            "witness": self.witness,
        }

    def _whose(self, difference: Difference) -> dict[str, Any]:
        return {"org": self.slugs.get(difference.key.org_id)} if difference.key else {}

    def to_json_of(self, books: Books) -> dict[str, Any]:
        key, told = books.key, self.told.get(replace(books.key, start_ms=0))
        return {
            "org": self.slugs.get(key.org_id), "org_id": key.org_id, "meter": key.meter, "period_start": isoformat(key.start_ms),
            "admitted": books.admitted, "returned": books.returned, "charged": books.charged,
            "in_postgres": books.flushed, "in_the_store": books.on_the_way, "in_journals_only": books.unshipped,
            "counter": books.counter, "moving": books.moving,
            "rated": books.rated, "reported": books.reported, "unreported": books.unreported, "outbox": books.outbox,
            "stripe": told.summary if told else None,
        }  # fmt: skip


async def reconcile(
    pool: asyncpg.Pool, client: Redis, stripe: StripeApi | None, scope: Scope, clock: Clock, *, ships: bool = True
) -> Report:
    """Raises what the drivers raise. Writes nothing, but has the gateways ship what they have (unless not `ships`)."""
    shipped = Flushed()
    if ships:
        await ship(client, shipped, clock)
    report = Report()
    seen = await _looked(pool, client, scope)
    report.books, report.unseen = seen.books, seen.notes
    report.differences = _found(seen)
    if shipped.unshipped:
        report.unseen.append(f"{', '.join(shipped.unshipped)} did not ship what they have when asked: they hang, or the store is slow")
    await _ask_stripe(pool, stripe, scope, report)
    await _name(pool, report)
    return report


async def _looked(pool: asyncpg.Pool, client: Redis, scope: Scope) -> Seen:
    """What stands in two looks, one after the other, is no passing state."""
    suspects: set[Slot] | None = None
    between = 0
    for _ in range(_LOOKS):
        try:
            seen = await look(pool, client, scope)
        except Between:
            between += 1
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        found = {(difference.place, difference.key) for difference in _found(seen)}
        if not found or (suspects is not None and found <= suspects):
            return seen
        suspects = found
        await asyncio.sleep(_AGAIN_SECONDS)
    if suspects is not None:
        return seen
    sentence = f"in {between} looks Postgres was ahead of the store's generations each time: one of the two was set back"
    return Seen(differences=[Difference(place=Place.BUCKET, units=None, sentence=sentence)])


def _found(seen: Seen) -> list[Difference]:
    return [*seen.differences, *(d for _, books in sorted(seen.books.items()) for d in differences(books))]


# --- Stripe ------------------------------------------------------------------------------------------------------------


async def _ask_stripe(pool: asyncpg.Pool, stripe: StripeApi | None, scope: Scope, report: Report) -> None:
    """Σ of what was delivered against Stripe's summary, over the minutes in which Stripe takes events."""
    until = scope.now_ms // 1000 // _MINUTE * _MINUTE + _MINUTE
    since = until - _STRIPE_HEARS_SECONDS - _STRIPE_HEARS_SECONDS
    rows = await pool.fetch(SQL["told"], since, until, scope.uuids)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(row: Any) -> Told:
        told = Told(key=Key(str(row["org_id"]), row["service"], 0), outbox=_outbox(row))
        if stripe is not None and row["customer"] and row["meter"]:
            async with at_once:
                told.summary = await _summary(pool, stripe, row, since, until, told)
        return told

    try:
        found = await asyncio.gather(*(one(row) for row in rows))
    except StripeCallFailed as exc:
        report.unseen.append(f"Stripe's summaries could not be read: {exc}")
        found = [Told(key=Key(str(row["org_id"]), row["service"], 0), outbox=_outbox(row)) for row in rows]
    if stripe is None and rows:
        report.unseen.append("Stripe's summaries were not read: no STRIPE_API_KEY, or BILLING_ENABLED=false")
    report.told = {told.key: told for told in found}
    report.differences += [difference for told in found for difference in differences_at_stripe(told)]


def _outbox(row: Any) -> Outbox:
    return Outbox(**{name: row[name] for name in ("delivered", "pending", "tried", "dead", "unknown")})


async def _summary(pool: asyncpg.Pool, stripe: StripeApi, row: Any, since: int, until: int, told: Told) -> int:
    """Stripe's sums follow with a delay: what differs is read again, with the rows as they are by then, until two readings agree."""
    found = await stripe.usage_sum(row["meter"], row["customer"], since, until)
    for _ in range(_LOOKS):
        if not differences_at_stripe(replace(told, summary=found)):
            break
        await asyncio.sleep(_AGAIN_SECONDS)
        for now in await pool.fetch(SQL["told"], since, until, [row["org_id"]]):
            if now["service"] == row["service"]:
                told.outbox = _outbox(now)
        again = await stripe.usage_sum(row["meter"], row["customer"], since, until)
        if again == found:
            break
        found = again
    return found


async def _name(pool: asyncpg.Pool, report: Report) -> None:
    every = {key.org_id for key in report.books} | {d.key.org_id for d in report.differences if d.key}
    rows: Sequence[Any] = await pool.fetch(SQL["names"], sorted(every))
    report.slugs = {str(row["id"]): row["slug"] for row in rows}
