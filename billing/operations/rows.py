"""Rows and figures over them, as GraphQL asks for them in Hasura's words. REST has no route for a question of this form."""

from typing import Any

from pydantic import InstanceOf

from billing.model.rowquery import RowQuery
from billing.model.token import Scope
from billing.operations.operation import About, Call, Model, Operation
from billing.services.ports_rows import RowsTakeTooLong

SEEN_BY_KEY = frozenset({"subscriptions", "usage_events", "usage_daily"})  # as the operations that show the same in REST


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


def _operation(name: str, answer: Any, run: Any, *, by_token: bool) -> Operation[AskRows, Any]:
    return Operation(
        name=name, method="GET", path="", need=Scope.READ, about=About.EITHER, ask=AskRows, answer=answer, run=run, by_token=by_token,
        summary="Of one table.", errors=(RowsTakeTooLong,),
    )  # fmt: skip


_FINDS = {by_token: _operation("rows.find", RowsAnswer, _find, by_token=by_token) for by_token in (False, True)}
_AGGREGATES = {by_token: _operation("rows.aggregate", Figures, _aggregate, by_token=by_token) for by_token in (False, True)}


def find(query: RowQuery) -> Operation[AskRows, RowsAnswer]:
    """What answers this question with rows. Of what an API key may not see it takes a token."""
    return _FINDS[query.table not in SEEN_BY_KEY]


def aggregate(query: RowQuery) -> Operation[AskRows, Figures]:
    return _AGGREGATES[query.table not in SEEN_BY_KEY]
