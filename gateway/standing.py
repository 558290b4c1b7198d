"""How a charge's limits stand in the store now, and which would refuse: admission's reading half, without its writing one."""

from typing import cast

from redis.asyncio import Redis

from metering.model import keys

from .charges import Charge
from .limits import RateLimit

LIVES_MS = 5_000  # as in lua/admit.lua


async def standing(redis: Redis, charge: Charge, now_ms: int) -> list[int]:
    """What Decision.used would say, charging nothing. `now_ms` by the store's clock."""
    used = [int(value or 0) for value in await redis.mget([limit.counter for limit in charge.limits])] if charge.limits else []
    for rate in charge.rates:
        used.append(_debt(rate, cast("bytes | None", await redis.get(rate.key)), now_ms * 1000))
    if charge.slots:
        beats = await redis.hgetall(keys.alive(charge.bucket))
        alive = {worker for worker, beat in beats.items() if int(beat.split()[0]) + LIVES_MS >= now_ms}
        for slot in charge.slots:
            held = await redis.hgetall(slot.key)
            used.append(sum(int(count) for worker, count in held.items() if worker in alive))
    return used


def _debt(rate: RateLimit, state: bytes | None, now_us: int) -> int:
    if state is None:
        return 0
    since, debt = (int(word) for word in state.split())
    return max(debt - max(now_us - since, 0) * rate.slope, 0)


def refusing(charge: Charge, used: list[int]) -> int | None:
    """The place in `used` of the first limit that would refuse one call; None: it passes."""
    for i, limit in enumerate(charge.limits):
        if limit.main is not None and not _full(used[limit.main], limit.cost, limit.after):
            continue  # within the throttle's main limit: the slower quota is not asked
        if limit.enforced is not None and _full(used[i], limit.cost, limit.enforced):
            return i
    i = len(charge.limits)
    for rate in charge.rates:
        if not rate.shadow and used[i] + rate.cost * rate.unit > rate.most:
            return i
        i += 1
    for slot in charge.slots:
        if not slot.shadow and used[i] >= slot.concurrency.limit:
            return i
        i += 1
    return None


def _full(used: int, cost: int, limit: int) -> bool:
    return used + cost > limit or (cost == 0 and used >= limit)
