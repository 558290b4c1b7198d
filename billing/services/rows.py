"""Rows of a few tables, as somebody composes the question: what dashboards ask for."""

from typing import Any

from billing.model.rowquery import RowQuery
from billing.services.ports import Books


class Rows:
    """`org_id`: of that organization alone, whatever is asked; None: of all of them. Both raise RowsTakeTooLong."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def find(self, query: RowQuery, *, org_id: str | None) -> list[dict[str, Any]]:
        async with self._books.transaction(keep=False, org=org_id) as unit:
            return await unit.rows.find(query)

    async def aggregate(self, query: RowQuery, *, org_id: str | None) -> dict[str, Any]:
        async with self._books.transaction(keep=False, org=org_id) as unit:
            return await unit.rows.aggregate(query)
