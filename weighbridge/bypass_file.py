"""Bypasses of a gateway alone: a file of its data folder, in place of Postgres. The command line writes it; the supervisor
reads it and tells the workers through Redis, at its start, when the store forgot, and every few seconds.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing.services.bypasses import NoSuchBypass, check, told
from billing.services.lookup import NoSuchOrganization
from billing.services.ports import BypassRow
from config.orgs import OrgSet
from metering.model.bypass import Bypass
from metering.model.clock import Clock
from metering.model.meter import Meter
from metering.store.redis.publish import publish_bypasses

FILE = "bypasses.json"
_KEPT = 1000  # of those that are over, as a record


def in_force(data_dir: Path, now_ms: int) -> list[Bypass]:
    """What the workers must know now. Raises OSError or ValueError where the file cannot be read."""
    return [told(row) for row in _read(data_dir / FILE) if row.in_force(now_ms)]


class FileBypasses:
    """The use cases of billing.services.bypasses, over the file. `redis` opens a connection to the store."""

    def __init__(
        self,
        data_dir: Path,
        orgs: OrgSet,
        meters: Mapping[str, Meter],
        clock: Clock,
        redis: Callable[[], AbstractAsyncContextManager[Redis]],
    ) -> None:
        self._path, self._orgs, self._meters, self._clock, self._redis = data_dir / FILE, orgs, meters, clock, redis

    async def begin(self, *, org_ref: str | None, meter: str | None, for_ms: int, reason: str, by: str) -> tuple[BypassRow, bool]:
        """As there. Raises NoSuchOrganization, BadInput."""
        check(for_ms, reason, meter, self._meters)
        org_id, slug = self._org(org_ref) if org_ref is not None else (None, None)
        now_ms = self._clock.now_ms()
        with self._changing() as rows:
            row = BypassRow(
                id=max((r.id for r in rows), default=0) + 1, org_id=org_id, slug=slug, meter=meter, reason=reason.strip(),
                created_by=by, created_at_ms=now_ms, until_ms=now_ms + for_ms,
            )  # fmt: skip
            rows.append(row)
        return row, await self._tell()

    async def end(self, number: int, *, by: str) -> bool:
        """As there. Raises NoSuchBypass."""
        now_ms = self._clock.now_ms()
        with self._changing() as rows:
            at = next((i for i, row in enumerate(rows) if row.id == number and row.in_force(now_ms)), None)
            if at is None:
                raise NoSuchBypass(f"no bypass {number} is in force", id=number)
            rows[at] = replace(rows[at], ended_at_ms=now_ms, ended_by=by)
        return await self._tell()

    async def all(self) -> list[BypassRow]:
        return _read(self._path)[::-1]

    def _org(self, ref: str) -> tuple[str, str]:
        for org in self._orgs.orgs.values():
            if ref in (org.id, org.slug):
                return org.id, org.slug
        raise NoSuchOrganization(f"there is no organization {ref!r} in orgs.yaml", org=ref)

    @contextmanager
    def _changing(self) -> Iterator[list[BypassRow]]:
        """The rows, written back whole; one command at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = _read(self._path)
            yield rows
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps([asdict(row) for row in rows[-_KEPT:]], indent=1))
            fresh.replace(self._path)

    async def _tell(self) -> bool:
        try:
            async with self._redis() as client:
                await publish_bypasses(client, in_force(self._path.parent, self._clock.now_ms()))
        except (RedisError, OSError):
            return False
        return True


def _read(path: Path) -> list[BypassRow]:
    try:
        return [BypassRow(**row) for row in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
