"""What waits to be billed, in Postgres. The SQL is in invoice_items.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.store.rows import from_jsonb, jsonb
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "invoice_items.sql")
_ADD, _WAITING, _TAKE_UP = _SQL["add"], _SQL["waiting"], _SQL["take_up"]


class InvoiceItemTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, items: Sequence[InvoiceItem], now_ms: int) -> None:
        now = to_datetime(now_ms)
        await self._connection.executemany(
            _ADD,
            [
                (
                    item.org_id, item.identifier, item.kind.value, item.description, item.quantity, item.unit_price, item.amount,
                    item.currency, to_datetime(item.period_start_ms), to_datetime(item.period_end_ms), item.meter, jsonb(item.evidence),
                    now,
                )
                for item in items
            ],
        )  # fmt: skip

    async def waiting(self, org_id: str, currency: str) -> list[InvoiceItem]:
        return [_item(row) for row in await self._connection.fetch(_WAITING, org_id, currency)]

    async def take_up(self, item_ids: Sequence[int], invoice_id: str) -> int:
        return len(await self._connection.fetch(_TAKE_UP, list(item_ids), invoice_id))


def _item(row: asyncpg.Record) -> InvoiceItem:
    return InvoiceItem(
        id=row["id"],
        org_id=str(row["org_id"]),
        identifier=row["identifier"],
        kind=ItemKind(row["kind"]),
        description=row["description"],
        quantity=row["quantity"],
        unit_price=row["unit_price"],
        amount=row["amount"],
        currency=row["currency"],
        period_start_ms=to_ms(row["period_start"]),
        period_end_ms=to_ms(row["period_end"]),
        meter=row["meter"],
        evidence=from_jsonb(row["evidence"]),
    )
