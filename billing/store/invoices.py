"""Invoices and their lines in Postgres. The SQL is in invoices.sql; what keeps one that is final as it is, in the migrations."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from billing.model.invoice import Invoice, Issuer, Line, LineKind, State, Totals
from billing.services.ports_invoice import Place
from billing.store.refusals import refusals
from billing.store.rows import from_jsonb, instant, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.model.errors import Conflict
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "invoices.sql")
_ADD, _SAVE, _ADD_LINE, _LINES, _GET, _LOCK, _FIND = (
    _SQL[name] for name in ("add", "save", "add_line", "lines", "get", "lock", "find")
)  # fmt: skip
_DROP_LINES, _RELEASE, _DROP, _COUNT, _NEXT, _PAGE = (
    _SQL[name] for name in ("drop_lines", "release", "drop", "count", "next_number", "page")
)  # fmt: skip
_DIGITS = 6


class InvoiceTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, invoice: Invoice) -> bool:
        with refusals():
            if await self._connection.fetchval(_ADD, *_values(invoice)) is None:
                return False
            await self._write_lines(invoice)
        return True

    async def get(self, ref: str, *, lock: bool = False) -> Invoice | None:
        rows = await self._connection.fetch(_LOCK if lock else _GET, ref)
        return (await self._whole(rows))[0] if rows else None

    async def of_org(self, org_id: str, limit: int = 100) -> list[Invoice]:
        return await self.find(org_id=org_id, limit=limit)

    async def find(
        self, *, org_id: str | None = None, states: Sequence[State] = (), from_ms: int | None = None, to_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Invoice]:  # fmt: skip
        words = [state.value for state in states] or None
        return await self._whole(await self._connection.fetch(_FIND, org_id, words, instant(from_ms), instant(to_ms), limit))

    async def page(
        self, *, org_id: str | None, states: Sequence[State], from_ms: int | None, to_ms: int | None, after: Place | None, limit: int
    ) -> list[Invoice]:  # fmt: skip
        words = [state.value for state in states] or None
        place = after or (None, None, None)
        return await self._whole(await self._connection.fetch(_PAGE, org_id, words, instant(from_ms), instant(to_ms), *place, limit))

    async def save(self, invoice: Invoice) -> None:
        with refusals():
            await self._connection.execute(_SAVE, *_values(invoice))

    async def upsert(self, invoice: Invoice) -> None:
        """Its own id stays, whatever the mirror calls it."""
        known = await self.get(invoice.stripe_id or invoice.id, lock=True)
        if known is None:
            if await self.add(invoice):
                return
            raise Conflict(f"there is another invoice {invoice.identifier}")
        kept = replace(invoice, id=known.id, identifier=known.identifier)
        if kept.lines != known.lines:
            with refusals():
                await self._connection.execute(_DROP_LINES, known.id)
                await self._write_lines(kept)
        if kept != known:
            await self.save(kept)

    async def drop(self, invoice_id: str) -> None:
        await self._connection.execute(_DROP_LINES, invoice_id)
        await self._connection.execute(_RELEASE, invoice_id)
        await self._connection.execute(_DROP, invoice_id)

    async def count(self, org_id: str, prefix: str) -> int:
        return int(await self._connection.fetchval(_COUNT, org_id, prefix))

    async def next_number(self, name: str) -> str:
        row = await self._connection.fetchrow(_NEXT, name)
        return f"{row['prefix']}-{row['last']:0{_DIGITS}d}"

    async def _write_lines(self, invoice: Invoice) -> None:
        rows = [_line_values(invoice.id, position, line) for position, line in enumerate(invoice.lines, 1)]
        await self._connection.executemany(_ADD_LINE, rows)

    async def _whole(self, rows: Sequence[asyncpg.Record]) -> list[Invoice]:
        lines: dict[str, list[Line]] = {}
        for row in await self._connection.fetch(_LINES, [row["id"] for row in rows]):
            lines.setdefault(row["invoice_id"], []).append(_line(row))
        return [_invoice(row, tuple(lines.get(row["id"], ()))) for row in rows]


def _values(invoice: Invoice) -> tuple[Any, ...]:
    sums = invoice.totals
    return (
        invoice.id, invoice.org_id, invoice.issuer.value, invoice.identifier, invoice.state.value, invoice.currency, invoice.number,
        sums.subtotal, sums.discount, sums.tax, sums.total, sums.credit, sums.amount_due, invoice.amount_paid, invoice.credited,
        sums.carried, invoice.tax_rate, sums.tax_inclusive, to_datetime(invoice.period_start_ms), to_datetime(invoice.period_end_ms),
        to_datetime(invoice.created_ms), instant(invoice.finalized_ms), instant(invoice.due_ms), instant(invoice.paid_ms),
        instant(invoice.closed_ms), invoice.attempts, instant(invoice.next_attempt_ms), invoice.stripe_id, invoice.payment_method,
        jsonb(invoice.seller), jsonb(invoice.buyer),
    )  # fmt: skip


def _line_values(invoice_id: str, position: int, line: Line) -> tuple[Any, ...]:
    return (
        invoice_id, position, line.kind.value, line.description, line.quantity, line.unit_price, line.amount, line.meter,
        instant(line.period_start_ms), instant(line.period_end_ms), line.item_id, line.reference, jsonb(line.evidence),
    )  # fmt: skip


def _line(row: asyncpg.Record) -> Line:
    return Line(
        kind=LineKind(row["kind"]), description=row["description"], amount=row["amount"], quantity=row["quantity"],
        unit_price=row["unit_price"], meter=row["meter"], period_start_ms=ms(row["period_start"]), period_end_ms=ms(row["period_end"]),
        item_id=row["item_id"], reference=row["reference"], evidence=from_jsonb(row["evidence"]),
    )  # fmt: skip


def _invoice(row: asyncpg.Record, lines: tuple[Line, ...]) -> Invoice:
    sums = Totals(
        subtotal=row["subtotal"], discount=row["discount"], tax=row["tax"], tax_inclusive=row["tax_inclusive"], total=row["total"],
        credit=row["credit"], amount_due=row["amount_due"], carried=row["carried"],
    )  # fmt: skip
    return Invoice(
        id=row["id"], org_id=str(row["org_id"]), issuer=Issuer(row["issuer"]), identifier=row["identifier"] or row["id"],
        state=State(row["status"]), currency=row["currency"], lines=lines, totals=sums, tax_rate=row["tax_rate"],
        period_start_ms=to_ms(row["period_start"]), period_end_ms=to_ms(row["period_end"]), created_ms=to_ms(row["created_at"]),
        number=row["number"], finalized_ms=ms(row["finalized_at"]), due_ms=ms(row["due_at"]), paid_ms=ms(row["paid_at"]),
        closed_ms=ms(row["closed_at"]), amount_paid=row["amount_paid"], credited=row["credited"], attempts=row["attempt_count"],
        next_attempt_ms=ms(row["next_retry"]), stripe_id=row["stripe_id"], payment_method=row["payment_method"],
        seller=from_jsonb(row["seller"]), buyer=from_jsonb(row["buyer"]),
    )  # fmt: skip
