"""Listen to what control says (channel `wb:changed`). It only warms caches: versions make a missed message harmless.

The channel has a connection of its own, which may stand while the one for commands does not, and while the store holds nothing yet.
Whoever is forgotten then could be read nowhere, and known callers would be refused where their quotas say `open`. So what is only out
of date is kept (`Ear`) until the store could say it anew; what is withdrawn goes at once.
"""

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering.model import keys

from .admission import Admission
from .directory import Directory

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


class Ear:
    """Passes on to `directory` what was heard. `look` is to be called whenever a bucket may have opened."""

    def __init__(self, directory: Directory, admission: Admission) -> None:
        self._directory, self._admission = directory, admission
        self._missed = False

    def heard(self, kind: str, name: str) -> None:
        """A message."""
        bucket = keys.bucket_of(name) if kind == "org" else 0  # keys and slugs stand in no bucket; the first tells whether they stand
        if kind.startswith("no") or self._admission.answers(bucket):
            self._directory.heard(kind, name)
        else:
            self._missed = True
            self._directory.answered(kind, name)

    def gap(self) -> None:
        """Messages may have been missed: anything may have changed."""
        self._missed = True
        self.look()

    def look(self) -> None:
        """Forget what may be out of date, if the store has all of it."""
        if self._missed and self._admission.epochs.all_open:
            self._missed = False
            self._directory.forget_all()
