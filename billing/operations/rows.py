"""Rows and figures over them, as GraphQL asks for them in Hasura's words. REST has no route for a question of this form."""

from typing import Any

from pydantic import InstanceOf

from billing.model.rowquery import RowQuery
from billing.model.token import Scope
from billing.operations.operation import About, Call, Model, Operation
from billing.services.ports_rows import RowsTakeTooLong


class AskRows(Model):
    query: InstanceOf[RowQuery]


class RowsAnswer(Model):
    rows: tuple[dict[str, Any], ...]


class Figures(Model):
    figures: dict[str, Any]


async def _find(call: Call, ask: AskRows) -> RowsAnswer:
    return RowsAnswer(rows=tuple(await call.billing.rows.find(ask.query, org_id=call.org_id)))


async def _aggregate(call: Call, ask: AskRows) -> Figures:
    return Figures(figures=await call.billing.rows.aggregate(ask.query, org_id=call.org_id))


find: Operation[AskRows, RowsAnswer] = Operation(
    name="rows.find", method="GET", path="", need=Scope.READ, about=About.EITHER, ask=AskRows, answer=RowsAnswer, run=_find,
    summary="Rows of one table.", errors=(RowsTakeTooLong,),
)  # fmt: skip
aggregate: Operation[AskRows, Figures] = Operation(
    name="rows.aggregate", method="GET", path="", need=Scope.READ, about=About.EITHER, ask=AskRows, answer=Figures, run=_aggregate,
    summary="Figures over the rows of one table.", errors=(RowsTakeTooLong,),
)  # fmt: skip
