"""What the rows that anybody may compose a question for need of the store."""

from typing import Any, Protocol

from billing.model.rowquery import RowQuery
from metering.model.errors import WeighbridgeError


class RowsTakeTooLong(WeighbridgeError):
    """This question takes too long: ask for fewer rows, or a shorter time."""

    code, http_status = "too_costly", 422


class RowReads(Protocol):
    """Both raise RowsTakeTooLong."""

    async def find(self, query: RowQuery) -> list[dict[str, Any]]: ...

    async def aggregate(self, query: RowQuery) -> dict[str, Any]: ...
