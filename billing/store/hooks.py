"""Events for others in Postgres. The SQL is in hooks.sql."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from billing.model.hook import Endpoint, Event
from billing.model.hook_delivery import Reply, Verdict
from billing.services.ports_hooks import Claimed, DeliveryRow, Found, Listeners
from billing.store.rows import from_jsonb, instant, jsonb, ms
from metering.model.clock import to_datetime, to_ms
from metering.store.postgres import Queries

_SQL = Queries.load("billing.store", "hooks.sql")
_INSERT, _OF, _FIND, _LOCK, _SAVE, _DROP = (_SQL[name] for name in ("insert", "of", "find", "lock", "save", "drop"))
_HOLD, _COUNT, _END_SECRETS, _ADD_SECRET = (_SQL[name] for name in ("hold", "count", "end_secrets", "add_secret"))
_NOTE, _SEND_TO, _EVENTS, _FORGET = (_SQL[name] for name in ("note", "send_to", "events", "forget"))
_DELIVERIES, _REPLAY, _REPLAY_SINCE = (_SQL[name] for name in ("deliveries", "replay", "replay_since"))
_DUE, _CLAIM, _FINISH, _WORKS, _FAILS = (_SQL[n] for n in ("endpoints_due", "claim", "finish", "endpoint_works", "endpoint_fails"))
_LISTENERS, _USING = _SQL["listeners"], _SQL["using"]


class HookTable:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def insert(self, endpoint: Endpoint) -> None:
        await self._connection.execute(
            _INSERT, endpoint.id, endpoint.org_id, endpoint.url, list(endpoint.types), endpoint.description, endpoint.created_by,
            to_datetime(endpoint.created_at_ms),
        )  # fmt: skip

    async def of(self, org_id: str | None) -> list[Endpoint]:
        return [_endpoint(row) for row in await self._connection.fetch(_OF, org_id)]

    async def find(self, org_id: str | None, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
        row = await self._connection.fetchrow(_LOCK if lock else _FIND, org_id, endpoint_id)
        return _endpoint(row) if row else None

    async def save(self, endpoint: Endpoint) -> None:
        await self._connection.execute(
            _SAVE, endpoint.id, endpoint.url, list(endpoint.types), endpoint.description, instant(endpoint.failing_since_ms),
            instant(endpoint.disabled_at_ms), endpoint.disabled_reason,
        )  # fmt: skip

    async def drop(self, endpoint_id: str) -> None:
        await self._connection.execute(_DROP, endpoint_id)

    async def count(self, org_id: str | None) -> int:
        await self._connection.execute(_HOLD, org_id)
        return int(await self._connection.fetchval(_COUNT, org_id))

    async def add_secret(self, endpoint_id: str, secret: bytes, now_ms: int, *, others_until_ms: int) -> None:
        await self._connection.execute(_END_SECRETS, endpoint_id, to_datetime(others_until_ms))
        await self._connection.execute(_ADD_SECRET, endpoint_id, secret, to_datetime(now_ms))

    async def note(self, found: Sequence[Found]) -> int:
        noted = 0
        for each in found:
            row = await self._connection.fetchval(_NOTE, each.org_id, each.type, each.identifier, jsonb(each.data))
            noted += row is not None
        return noted

    async def send_to(self, endpoint: Endpoint, kind: str, data: Mapping[str, Any]) -> Event:
        return _event(await self._connection.fetchrow(_SEND_TO, endpoint.id, endpoint.org_id, kind, jsonb(data)))

    async def events(self, org_id: str | None, kind: str | None, before: int | None, limit: int) -> list[Event]:
        return [_event(row) for row in await self._connection.fetch(_EVENTS, org_id, kind, before, limit)]

    async def forget(self, happened_before_ms: int) -> int:
        return len(await self._connection.fetch(_FORGET, to_datetime(happened_before_ms)))

    async def deliveries(self, endpoint_id: str, state: str | None, before: int | None, limit: int) -> list[DeliveryRow]:
        return [
            DeliveryRow(
                id=row["delivery_id"], event=_event(row), endpoint_id=row["endpoint_id"], state=row["state"], attempts=row["attempts"],
                next_attempt_ms=ms(row["next_attempt_at"]), tried_ms=ms(row["tried_at"]), answer=row["answer"], error=row["error"],
            )
            for row in await self._connection.fetch(_DELIVERIES, endpoint_id, state, before, limit)
        ]  # fmt: skip

    async def replay(self, endpoint: Endpoint, message: str) -> bool:
        return await self._connection.fetchval(_REPLAY, endpoint.id, endpoint.org_id, message) is not None

    async def replay_since(self, endpoint: Endpoint, since_ms: int) -> int:
        since = to_datetime(since_ms)
        return len(await self._connection.fetch(_REPLAY_SINCE, endpoint.id, endpoint.org_id, list(endpoint.types), since))

    async def endpoints_due(self, now_ms: int) -> list[str]:
        return [row["id"] for row in await self._connection.fetch(_DUE, to_datetime(now_ms))]

    async def claim(self, endpoint_id: str, now_ms: int, until_ms: int) -> Claimed | None:
        row = await self._connection.fetchrow(_CLAIM, endpoint_id, to_datetime(now_ms), to_datetime(until_ms))
        if row is None:
            return None
        return Claimed(
            id=row["delivery_id"], attempt=row["attempts"], event=_event(row), endpoint=_endpoint(row, "endpoint_"),
            secrets=tuple(bytes(secret) for secret in row["secrets"]),
        )  # fmt: skip

    async def finish(self, claimed: Claimed, verdict: Verdict, reply: Reply, now_ms: int) -> bool:
        now = to_datetime(now_ms)
        found = await self._connection.fetchval(
            _FINISH, claimed.id, claimed.attempt, verdict.state.value, instant(verdict.next_attempt_ms), now, reply.status, verdict.error
        )
        if reply.accepted:
            await self._connection.execute(_WORKS, claimed.endpoint.id)
        else:
            await self._connection.execute(_FAILS, claimed.endpoint.id, now, verdict.disable)
        return found is not None

    async def listeners(self, kind: str) -> Listeners:
        found = [row["org_id"] for row in await self._connection.fetch(_LISTENERS, kind)]
        return Listeners(everybody=None in found, orgs=frozenset(str(org_id) for org_id in found if org_id is not None))

    async def using(self, since_ms: int, now_ms: int) -> list[str]:
        return [str(row["org_id"]) for row in await self._connection.fetch(_USING, to_datetime(since_ms), to_datetime(now_ms))]


def _endpoint(row: asyncpg.Record, prefix: str = "") -> Endpoint:
    """`prefix` of its id and org, where other columns have those names."""
    org_id = row[f"{prefix}org_id"]
    return Endpoint(
        id=row[f"{prefix}id"], org_id=str(org_id) if org_id else None, url=row["url"], types=tuple(row["types"]),
        description=row["description"], created_by=row["created_by"], created_at_ms=to_ms(row["created_at"]),
        failing_since_ms=ms(row["failing_since"]), disabled_at_ms=ms(row["disabled_at"]), disabled_reason=row["disabled_reason"],
    )  # fmt: skip


def _event(row: asyncpg.Record) -> Event:
    return Event(
        id=row["id"], message=row["message"], type=row["type"], happened_at_ms=to_ms(row["happened_at"]), data=from_jsonb(row["data"]),
        org_id=str(row["org_id"]) if row["org_id"] else None, slug=row["slug"],
    )  # fmt: skip
