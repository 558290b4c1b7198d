"""Listen to what control says (channel `wb:changed`). It only warms caches: versions make a missed message harmless."""

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering.model import keys

log = logging.getLogger("weighbridge.gateway")
_AGAIN_SECONDS = 0.5


async def listen(redis_url: str, heard: Callable[[str, str], None], gap: Callable[[], None]) -> None:
    """For ever. `heard(kind, name)` for each message, `gap()` whenever some may have been missed."""
    while True:
        client: Redis = Redis.from_url(redis_url, socket_connect_timeout=2, health_check_interval=5)
        try:
            async with client.pubsub() as channel:
                await channel.subscribe(keys.CHANGED)
                gap()
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=10)
                    if message is not None:
                        kind, _, name = message["data"].decode().partition(" ")
                        heard(kind, name)
        except (RedisError, OSError) as exc:
            log.info("the channel of changes was lost, listening again: %s", exc)
        finally:
            await client.aclose()
        await asyncio.sleep(_AGAIN_SECONDS)
