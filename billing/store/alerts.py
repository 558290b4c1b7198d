"""Alert rules in Postgres. The SQL is in alerts.sql."""

from collections.abc import Sequence

import asyncpg

from billing.model.alert import Destination, Rule, destinations_from_json, destinations_to_json, from_json, to_json
from billing.store import rows as r
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "alerts.sql")
_OF_ORG, _PUT, _DESTINATIONS, _PUT_DESTINATIONS = _SQL["of_org"], _SQL["put"], _SQL["destinations"], _SQL["put_destinations"]


class AlertTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of_org(self, org_id: str) -> dict[str, Rule]:
        found = await self._connection.fetch(_OF_ORG, org_id)
        return {row["service"]: from_json(row["service"], r.from_jsonb(row["thresholds"]), active=row["active"]) for row in found}

    async def put(self, org_id: str, rule: Rule) -> None:
        await self._connection.execute(
            _PUT, org_id, rule.meter, r.jsonb(to_json(rule)), [t.percent for t in rule.thresholds], rule.active
        )  # fmt: skip

    async def destinations(self, org_id: str) -> tuple[Destination, ...]:
        found = await self._connection.fetchval(_DESTINATIONS, org_id)
        return destinations_from_json(r.from_jsonb(found) if found else ())

    async def put_destinations(self, org_id: str, destinations: Sequence[Destination]) -> None:
        await self._connection.execute(
            _PUT_DESTINATIONS, org_id, r.jsonb(destinations_to_json(destinations)), [each.channel.value for each in destinations]
        )  # fmt: skip
