"""What the resolvers of one request share: who asks, and the way to operations."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from graphql import GraphQLResolveInfo

from billing.operations.dispatch import Dispatch
from billing.operations.operation import Model, Operation
from billing.services.access import Caller

A = TypeVar("A", bound=Model)
R = TypeVar("R")
Resolver = Callable[..., Awaitable[Any]]
_AT_ONCE = 2


class Context:
    """`org`: the organization that the URL names. `listening`: whether somebody still waits for the answer.
    What one request asks for takes at most two connections of the pool at a time."""

    def __init__(self, dispatch: Dispatch, caller: Caller, org: str | None, listening: Callable[[], bool]) -> None:
        self._dispatch, self.caller, self.org, self.listening = dispatch, caller, org, listening
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, operation: Operation[A, R], ask: A, *, org: str | None = None) -> R:
        """Raises what the operation raises."""
        async with self._turn:
            return await self._dispatch.perform(operation, ask, caller=self.caller, org=org if org is not None else self.org)


Info = GraphQLResolveInfo[Context]
