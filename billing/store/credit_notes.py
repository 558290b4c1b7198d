"""Credit notes, receipts and balances in Postgres. The SQL is in credit_notes.sql."""

from decimal import Decimal

import asyncpg

from billing.model.credit_note import Credited, CreditLine, CreditNote
from billing.services.ports_invoice import BalanceEntry, Receipt
from billing.store.refusals import refusals
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "credit_notes.sql")
_ADD_NOTE, _ADD_NOTE_LINE, _NOTES, _NOTE_LINES = (_SQL[name] for name in ("add_note", "add_note_line", "notes", "note_lines"))
_ADD_RECEIPT, _RECEIPTS, _ADD_ENTRY = _SQL["add_receipt"], _SQL["receipts"], _SQL["add_entry"]
_HOLD_BALANCE, _BALANCE = _SQL["hold_balance"], _SQL["balance"]


class CreditNoteTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, note: CreditNote) -> None:
        with refusals():
            await self._connection.execute(
                _ADD_NOTE, note.id, note.org_id, note.invoice_id, note.number, note.currency, note.subtotal, note.tax, note.total,
                note.off_due, note.refunded, note.to_balance, note.reason, to_datetime(note.created_ms),
            )  # fmt: skip
            rows = [(note.id, note.org_id, line.position, line.description, line.amount) for line in note.lines]
            await self._connection.executemany(_ADD_NOTE_LINE, rows)

    async def of_invoice(self, invoice_id: str) -> list[CreditNote]:
        lines: dict[str, list[CreditLine]] = {}
        for row in await self._connection.fetch(_NOTE_LINES, invoice_id):
            line = CreditLine(position=row["position"], description=row["description"], amount=row["amount"])
            lines.setdefault(row["credit_note_id"], []).append(line)
        return [_note(row, tuple(lines.get(row["id"], ()))) for row in await self._connection.fetch(_NOTES, invoice_id)]

    async def credited(self, invoice_id: str) -> Credited:
        rows: dict[int, Decimal] = {}
        notes = await self.of_invoice(invoice_id)
        for line in (line for note in notes for line in note.lines):
            rows[line.position] = rows.get(line.position, Decimal(0)) + line.amount
        return Credited(rows=rows, tax=sum((note.tax for note in notes), Decimal(0)))


def _note(row: asyncpg.Record, lines: tuple[CreditLine, ...]) -> CreditNote:
    return CreditNote(
        id=row["id"], number=row["number"] or row["id"], org_id=str(row["org_id"]), invoice_id=row["invoice_id"],
        currency=row["currency"], lines=lines, subtotal=row["subtotal"], tax=row["tax"], total=row["total"], reason=row["reason"],
        created_ms=to_ms(row["created_at"]), off_due=row["off_due"], refunded=row["refunded"], to_balance=row["to_balance"],
    )  # fmt: skip


class ReceiptTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, receipt: Receipt) -> bool:
        with refusals():
            made = await self._connection.fetchval(
                _ADD_RECEIPT, receipt.org_id, receipt.invoice_id, receipt.kind, receipt.amount, receipt.currency, receipt.method,
                receipt.reference, to_datetime(receipt.at_ms),
            )  # fmt: skip
        return made is not None

    async def of_invoice(self, invoice_id: str) -> list[Receipt]:
        return [
            Receipt(
                org_id=str(row["org_id"]), invoice_id=row["invoice_id"], kind=row["kind"], amount=row["amount"],
                currency=row["currency"], method=row["method"], reference=row["reference"], at_ms=to_ms(row["at"]),
            )
            for row in await self._connection.fetch(_RECEIPTS, invoice_id)
        ]  # fmt: skip


class BalanceTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, entry: BalanceEntry) -> bool:
        with refusals():
            made = await self._connection.fetchval(
                _ADD_ENTRY, entry.org_id, entry.currency, entry.identifier, entry.amount, entry.invoice_id, to_datetime(entry.at_ms)
            )
        return made is not None

    async def of_org(self, org_id: str, currency: str) -> Decimal:
        await self._connection.execute(_HOLD_BALANCE, org_id)
        found: Decimal = await self._connection.fetchval(_BALANCE, org_id, currency)
        return found
