"""Lists that come a page at a time, whole or as many of their rows as were asked for."""

from typing import Any, TypeVar

from billing.operations.operation import Operation
from billing.operations.pages import LARGEST_PAGE, AskPage, Page

from .context import Context

A = TypeVar("A", bound=AskPage)
P = TypeVar("P", bound=Page)


async def ask_pages(context: Context, operation: Operation[A, P], ask: A, rows: str, *, most: int | None = None) -> P:
    """One answer with the rows of as many pages as it takes, in its field `rows`; `most` None: all there are."""
    found: list[Any] = []
    async with context.desk():
        while True:
            left = LARGEST_PAGE if most is None else min(LARGEST_PAGE, most - len(found))
            answer = await context.ask(operation, ask.model_copy(update={"limit": left}))
            found.extend(getattr(answer, rows))
            if answer.next is None or (most is not None and len(found) >= most):
                return answer.model_copy(update={rows: tuple(found)})
            ask = ask.model_copy(update={"after": answer.next})
