"""Rows of a few tables as somebody asks for them (billing/model/rowquery.py), in SQL. Names come from the list there, values go beside."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from billing.model.rowquery import COMPARED, SUMMED, TABLES, Check, Compare, Condition, Every, Kind, Never, RowQuery
from billing.services.ports_rows import RowsTakeTooLong

_SIGNS = {
    Compare.EQUAL: "=", Compare.OTHER: "<>", Compare.GREATER: ">", Compare.AT_LEAST: ">=", Compare.LESS: "<", Compare.AT_MOST: "<=",
}  # fmt: skip
_PATIENCE = "SELECT set_config('statement_timeout', '5000', true)"


class RowTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def find(self, query: RowQuery) -> list[dict[str, Any]]:
        values: list[Any] = []
        return [dict(row) for row in await self._fetch(_select(query, values), values)]

    async def aggregate(self, query: RowQuery) -> dict[str, Any]:
        """{"count": n, "sum": {column: …}, "avg": …, "min": …, "max": …} over the rows that the query finds."""
        values: list[Any] = []
        inner, columns = _select(query, values), TABLES[query.table]
        wanted = [(f, name) for f in ("sum", "avg") for name, kind in columns.items() if kind in SUMMED]
        wanted += [(f, name) for f in ("min", "max") for name, kind in columns.items() if kind in COMPARED]
        figures = ", ".join(f'{f}("{name}") AS f{n}' for n, (f, name) in enumerate(wanted))
        (row,) = await self._fetch(f"SELECT count(*) AS count, {figures} FROM ({inner}) found", values)  # noqa: S608  names of the list alone
        answer: dict[str, Any] = {"count": row["count"], "sum": {}, "avg": {}, "min": {}, "max": {}}
        for n, (figure, name) in enumerate(wanted):
            answer[figure][name] = row[f"f{n}"]
        return answer

    async def _fetch(self, sql: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        await self._connection.execute(_PATIENCE)
        try:
            return list(await self._connection.fetch(sql, *values))
        except asyncpg.QueryCanceledError as exc:
            raise RowsTakeTooLong from exc


def _select(query: RowQuery, values: list[Any]) -> str:
    columns = TABLES[query.table]
    sql = f'SELECT {", ".join(_quoted(name) for name in columns)} FROM billing."{query.table}"'  # noqa: S608  names of the list alone
    sql += f" WHERE {_condition(query.where, columns, values)}"
    if query.order:
        sql += " ORDER BY " + ", ".join(
            f"{_quoted(name)} {'DESC' if d.descends else 'ASC'} NULLS {'FIRST' if d.nulls_first else 'LAST'}" for name, d in query.order
        )
    if query.limit is not None:
        sql += f" LIMIT {query.limit:d}"
    return sql + f" OFFSET {query.offset:d}"


def _condition(condition: Condition, columns: Any, values: list[Any]) -> str:
    if isinstance(condition, Check):
        return _test(condition, columns[condition.column], values)
    if isinstance(condition, Never):
        return f"NOT ({_condition(condition.part, columns, values)})"
    word, none = (" AND ", "true") if isinstance(condition, Every) else (" OR ", "false")
    return "(" + (word.join(_condition(part, columns, values) for part in condition.parts) or none) + ")"


def _test(test: Check, kind: Kind, values: list[Any]) -> str:
    column = _quoted(test.column)
    if test.compare is Compare.IS_NULL:
        return f"{column} IS {'NULL' if test.value else 'NOT NULL'}"
    values.append(test.value)
    place = f"${len(values)}::{kind.value}"
    if test.compare is Compare.ONE_OF:
        return f"{column} = ANY ({place}[])"
    if test.compare is Compare.NONE_OF:
        return f"{column} <> ALL ({place}[])"
    return f"{column} {_SIGNS[test.compare]} {place}"


def _quoted(name: str) -> str:
    return f'"{name}"'
