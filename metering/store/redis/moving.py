"""Have the store's counters take what was born in Postgres (lua/move.lua; model/moves.py says what moves)."""

from collections.abc import Sequence

from redis.asyncio import Redis

from metering.model import keys
from metering.model.moves import CounterMove

from .scripts import load

_MOVE = load("metering.store.redis", "move")


async def move(client: Redis, bucket: int, moves: Sequence[tuple[int, Sequence[CounterMove]]]) -> int | None:
    """Each transaction's moves by its number, in order. Returns the last number that is taken, None while the bucket is restored."""
    pipe = client.pipeline(transaction=False)
    for seq, counters in moves:
        names = [keys.epoch(bucket), keys.marks(bucket), *(each.key for each in counters)]
        words = [word for each in counters for word in ("+" if each.add else "=", each.units, each.expires_ms)]
        pipe.eval(_MOVE.body.decode(), len(names), *names, str(seq), *map(str, words))
    mark: int | None = None
    for state, *found in await pipe.execute():
        mark = int(found[0]) if state == b"mark" else None
    return mark
