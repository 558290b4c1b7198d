"""A house, the service behind it, a crowd before it, and the ways to look into all of them."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from redis.asyncio import Redis

from config.load import Configuration
from config.settings import Settings
from metering.model import keys
from metering.model.clock import SystemClock, to_ms
from weighbridge.database import billing_over
from weighbridge.flushing import flush

from .conftest import House, Org
from .exactly import Ask, Crowd, Service


@dataclass(frozen=True)
class Customer:
    """An organization and its keys."""

    org: Org
    keys: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.org.id

    def asks(self, path: str, count: int, *, key: int = 0, tenant: str = "") -> list[Ask]:
        return [Ask(path, self.keys[key], self.id, tenant)] * count


@dataclass
class Bench:
    """A house of several workers, the service behind it, and the ways to look into both."""

    house: House
    service: Service
    crowd: Crowd
    store: Redis
    pool: asyncpg.Pool
    settings: Settings
    config: Configuration
    rng: random.Random

    def shuffled(self, asks: list[Ask]) -> list[Ask]:
        return self.rng.sample(asks, len(asks))

    async def customers(self, plan: str, count: int = 1, *, keys_each: int = 1, turns_at: datetime | None = None) -> list[Customer]:
        """New organizations. With `turns_at` their usage period ends then."""
        anchor = None if turns_at is None else to_ms(turns_at.replace(year=turns_at.year - 1, month=1))  # January has every day
        found = []
        async with billing_over(self.settings, self.config, self.pool, self.settings.redis_url, SystemClock()) as billing:
            for _ in range(count):
                made = await billing.orgs.create("Exactly", plan=plan, anchor_ms=anchor)
                more = [(await billing.keys.create(made.org.slug)).api_key for _ in range(keys_each - 1)]
                found.append(Customer(Org(made.org.id, made.org.slug, made.api_key), (made.api_key, *more)))
        return found

    async def counters(self, customer: Customer) -> dict[str, int]:
        """Scope and window -> what stands in the store, of every counter of this organization."""
        found = {}
        async for key in self.store.scan_iter(keys.EVERY_COUNTER.replace("q:*", f"q:{customer.id}:api:*"), count=10_000):
            found[key.decode().split(":api:")[1]] = int(await self.store.get(key))
        return found

    async def used(self, customer: Customer) -> list[int]:
        """The organization's counters of its periods, the oldest first."""
        found = await self.counters(customer)
        return [found[name] for name in sorted(found) if name.startswith("o:p")]

    async def flush(self) -> None:
        """What `weighbridge flush` does."""
        report = await flush(self.pool, self.store, self.config, SystemClock(), stripe=None, bills=False)
        assert not report.left, report.left

    async def until_books_agree(self, customers: list[Customer]) -> None:
        """Flush until counter and ledger agree; what is returned is settled within a second."""
        for _ in range(100):
            await self.flush()
            if all([sum(await self.used(c)) == (await self.house.ledger(c.org))[0] for c in customers]):
                return
            await asyncio.sleep(0.2)
        raise AssertionError("counters and ledger never agree")

    def admitted(self, customer: Customer, path: str | None = None, *, grew: bool = False) -> int:
        """What the clients saw answered with 200; all else was refused for a limit, and nothing that was left ever grew."""
        assert {a.status for a in self.crowd.answers} <= {200, 429}, Counter(a.status for a in self.crowd.answers)
        assert grew or not self.crowd.grew, self.crowd.grew[:5]
        return self.crowd.count(200, whose=customer.id, path=path)
