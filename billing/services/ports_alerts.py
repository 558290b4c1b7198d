"""What alert rules need of the database."""

from collections.abc import Sequence
from typing import Protocol

from billing.model.alert import Destination, Rule


class AlertRows(Protocol):
    async def of_org(self, org_id: str) -> dict[str, Rule]:
        """By meter."""
        ...

    async def put(self, org_id: str, rule: Rule) -> None: ...

    async def destinations(self, org_id: str) -> tuple[Destination, ...]:
        """Those of shares that name none."""
        ...

    async def put_destinations(self, org_id: str, destinations: Sequence[Destination]) -> None: ...
