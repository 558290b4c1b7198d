"""The guide's queries and mutations: each asks an operation, and says its answer in the schema's words."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from graphql import GraphQLObjectType, GraphQLSchema

from billing.api.graphql.context import Info, Resolver
from billing.api.graphql.schema import PREFIX, schema
from billing.api.graphql.tables import resolvers_of, usage_current
from billing.model.rowquery import TABLES
from billing.operations import invoices, payments, subscriptions, usage
from billing.operations.dispatch import asked
from billing.operations.operation import Model, Nothing
from billing.services.lifecycle import NoSubscription

_NONE = Nothing()
LOOK_SECONDS, MOST_LOOKS = 5.0, 120  # a stream ends after ten minutes: who comes again shows the credential again


def executable() -> GraphQLSchema:
    """The schema with its resolvers."""
    built = schema()
    for kind, table in ((built.query_type, _queries()), (built.mutation_type, _MUTATIONS)):
        assert isinstance(kind, GraphQLObjectType)
        for name, resolver in table.items():
            kind.fields[name].resolve = resolver
    assert built.subscription_type is not None
    live = built.subscription_type.fields["usage"]
    live.subscribe, live.resolve = _usage_changes, _as_it_came
    return built


async def _usage(_root: Any, info: Info, service: str | None = None) -> list[dict[str, Any]]:
    context = info.context
    answer = await context.ask(usage.usage, usage.AskUsage(service=service))
    return [_use(each) for each in answer.usage]


async def _usage_changes(_root: Any, info: Info, service: str | None = None) -> AsyncIterator[list[dict[str, Any]]]:
    """The usage at once, then whenever it is another, while somebody listens."""
    last: list[dict[str, Any]] | None = None
    for _ in range(MOST_LOOKS):
        found = await _usage(None, info, service)
        if found != last:
            yield found
        last = found
        await asyncio.sleep(LOOK_SECONDS)
        if not info.context.listening():
            return


def _as_it_came(root: Any, _info: Info, **_words: Any) -> Any:
    return root


async def _quota(_root: Any, info: Info, service: str | None = None) -> list[dict[str, Any]]:
    context = info.context
    answer = await context.ask(usage.quotas, usage.AskQuotas(service=service))
    return [
        {
            **_use(each), "remaining": each.remaining, "mode": each.mode.upper() if each.mode else None, "window": each.window.upper(),
            "reset_at": each.reset_at,
        }
        for each in answer.quotas
    ]  # fmt: skip


def _use(each: usage.MeterUse) -> dict[str, Any]:
    return {
        "service": each.service, "current": each.current_usage, "quota": each.quota, "percentage": each.percentage_used,
        "status": each.status.upper(), "unit": each.unit,
    }  # fmt: skip


async def _subscription(_root: Any, info: Info) -> Model | None:
    """Null where there never was one."""
    context = info.context
    try:
        return await context.ask(subscriptions.show, _NONE)
    except NoSubscription:
        return None


async def _invoices(
    _root: Any, info: Info, limit: int | None = None, status: str | None = None
) -> list[dict[str, Any]]:  # fmt: skip
    context = info.context
    words = {"status": status.lower() if status else None, **({} if limit is None else {"limit": limit})}
    answer = await context.ask(invoices.list_all, asked(invoices.list_all, words))
    return [{**dict(each), "status": each.status.upper()} for each in answer.invoices]


async def _upgrade(_root: Any, info: Info, plan: str) -> Model:
    context = info.context
    await context.ask(subscriptions.upgrade, asked(subscriptions.upgrade, {"plan": plan}))
    return await context.ask(subscriptions.show, _NONE)


async def _cancel(_root: Any, info: Info) -> Model:
    context = info.context
    await context.ask(subscriptions.cancel, asked(subscriptions.cancel, {}))
    return await context.ask(subscriptions.show, _NONE)


async def _add_payment_method(_root: Any, info: Info, token: str) -> Model:
    context = info.context
    return await context.ask(payments.attach, asked(payments.attach, {"token": token}))


def _queries() -> Mapping[str, Resolver]:
    table: dict[str, Resolver] = {
        "usage": _usage, "quota": _quota, "subscription": _subscription, "invoices": _invoices, PREFIX + "usage_current": usage_current,
    }  # fmt: skip
    for name in TABLES:
        table[PREFIX + name], table[f"{PREFIX}{name}_aggregate"] = resolvers_of(name)
    return table


_MUTATIONS: Mapping[str, Resolver] = {
    "upgradeSubscription": _upgrade, "cancelSubscription": _cancel, "addPaymentMethod": _add_payment_method,
}  # fmt: skip
