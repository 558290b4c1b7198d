"""The Lua scripts of the data plane. Contracts stand on top of each in lua/."""

from metering.store.redis.scripts import load

ADMIT, RESOLVE, SETTLE, SLOTS = (load("gateway", name) for name in ("admit", "resolve", "settle", "slots"))
BODIES = (ADMIT.body, RESOLVE.body, SETTLE.body, SLOTS.body)
