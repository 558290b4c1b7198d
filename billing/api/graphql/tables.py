"""Hasura's words (`where`, `order_by`, `limit`, `offset`) as questions for rows, and the resolvers of the tables.

Of an organization that is not the caller's there are no rows, as if none had ever been: row-level security answers, not a rule here.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from billing.api.graphql.context import Info, Resolver
from billing.model.rowquery import (
    DEFAULT_LIMIT,
    MOST_ROWS,
    TRUE,
    Check,
    Compare,
    Condition,
    Direction,
    Every,
    Never,
    RowQuery,
    Some,
    arranged,
    check_bounds,
    equal_to,
)
from billing.operations import rows, usage
from billing.operations.rows import AskRows
from billing.services.lookup import NoSuchOrganization
from metering.model.errors import BadInput

_DEEPEST = 8
_MOST_CHECKS, _MOST_VALUES, _LONGEST = 100, 200, 1_000


def resolvers_of(table: str) -> tuple[Resolver, Resolver]:
    """(rows, aggregate)."""

    async def find(_root: Any, info: Info, **words: Any) -> Sequence[Mapping[str, Any]]:
        context = info.context
        query = query_of(table, words)
        return (await context.ask(rows.find(query), AskRows(query=query))).rows

    async def aggregate(_root: Any, info: Info, **words: Any) -> Mapping[str, Any]:
        context = info.context
        query = query_of(table, words, most=None)

        async def nodes(_info: Info) -> Sequence[Mapping[str, Any]]:
            limited = query_of(table, words)
            return (await context.ask(rows.find(limited), AskRows(query=limited))).rows

        async def figures(_info: Info) -> Mapping[str, Any]:
            return (await context.ask(rows.aggregate(query), AskRows(query=query))).figures

        return {"aggregate": figures, "nodes": nodes}

    return find, aggregate


async def usage_current(_root: Any, info: Info, **words: Any) -> Sequence[Mapping[str, Any]]:
    """What the usage report says now, as rows. A caller for every organization names one, in `where` or as ?org=."""
    context = info.context
    where, (limit, offset) = condition_of(words.get("where")), _bounds(words, DEFAULT_LIMIT)
    order = _order(words.get("order_by"))
    named = equal_to(where, "org_id")
    org = str(named) if named is not None and context.caller.org_id is None and context.org is None else context.org
    try:
        answer = await context.ask(usage.usage, usage.AskUsage(service=None), org=org)
    except NoSuchOrganization:
        if context.org is not None:
            raise
        return []  # an id in `where` that belongs to nobody finds no rows
    found = [
        {
            "org_id": UUID(answer.org.id), "service": each.service, "current_usage": each.current_usage, "quota": each.quota,
            "percentage_used": each.percentage_used, "status": each.status.value, "updated_at": answer.updated_at,
        }
        for each in answer.usage
    ]  # fmt: skip
    return arranged(found, where, order, limit if limit is not None else MOST_ROWS, offset)


def query_of(table: str, words: Mapping[str, Any], *, most: int | None = DEFAULT_LIMIT) -> RowQuery:
    """Raises BadInput. `most`: where no limit is said."""
    limit, offset = _bounds(words, most)
    return RowQuery(
        table=table, where=condition_of(words.get("where")), order=_order(words.get("order_by")), limit=limit, offset=offset
    )  # fmt: skip


def condition_of(where: Mapping[str, Any] | None) -> Condition:
    """Of a bool_exp. Raises BadInput where it is nested too deep, or too much of it. A null comparison says nothing, as in Hasura 2."""
    left = [_MOST_CHECKS]
    return TRUE if where is None else _condition(where, left, 1)


def _condition(where: Mapping[str, Any], left: list[int], depth: int) -> Condition:
    if depth > _DEEPEST:
        raise BadInput(f"where is nested deeper than {_DEEPEST}")
    parts: list[Condition] = []
    for name, said in where.items():
        left[0] -= 1
        if left[0] < 0:
            raise BadInput(f"where has more than {_MOST_CHECKS} conditions")
        if said is None:
            continue
        if name in ("_and", "_or"):
            several = tuple(_condition(each, left, depth + 1) for each in said)
            parts.append(Every(several) if name == "_and" else Some(several))
        elif name == "_not":
            parts.append(Never(_condition(said, left, depth + 1)))
        else:
            parts += [Check(name, Compare(word), _value(value)) for word, value in said.items() if value is not None]
    return Every(tuple(parts))


def _value(value: Any) -> Any:
    """As the database takes it. Raises BadInput."""
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, str) and (len(each) > _LONGEST or "\0" in each or any("\ud800" <= c <= "\udfff" for c in each)):
            raise BadInput(f"a text to compare with is too long (more than {_LONGEST:,} characters), or not text")
    if isinstance(value, list) and len(value) > _MOST_VALUES:
        raise BadInput(f"_in and _nin take at most {_MOST_VALUES} values")
    return value


def _order(order: Sequence[Mapping[str, Any]] | None) -> tuple[tuple[str, Direction], ...]:
    found = tuple((name, Direction(word)) for each in order or () for name, word in each.items() if word is not None)
    if len(found) > _DEEPEST:
        raise BadInput(f"order_by takes at most {_DEEPEST} columns")
    return found


def _bounds(words: Mapping[str, Any], most: int | None) -> tuple[int | None, int]:
    limit, offset = words.get("limit"), words.get("offset") or 0
    limit = most if limit is None else limit
    check_bounds(limit, offset)
    return limit, offset
