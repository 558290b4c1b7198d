"""What would happen to one call, and why: route, charge, every limit with what is left of it. Charges nothing.

Reads what a worker reads, through the same functions (routing.py, charges.py); only the counting is left out.
"""

import json
from typing import Any

from redis.asyncio import Redis

from config.gateway import Cost, Fixed, FromHeader, GatewayConfig, Messages, Route, Weighed
from metering.model import apikey, entitlement, keys
from metering.model.clock import isoformat
from metering.model.entitlement import Entitlement, rule_to_json
from metering.model.errors import NotFound, Unauthorized

from .bypasses import Bypasses
from .charges import Charge, make_anonymous_charge, make_charge
from .decisions import Decision, Status
from .limits import Limit, RateLimit, SlotLimit
from .responses import refused, seconds_until
from .routing import Router
from .standing import refusing, standing

_COUNTED = "counted only"


async def explain(
    redis: Redis,
    config: GatewayConfig,
    version: str,
    *,
    method: str,
    target: str,
    host: str = "",
    key: str | None,
    tenant: str = "",
    address: str = "",
    now_ms: int,
) -> dict[str, Any]:
    """The decision as a JSON object: `route`, `org`, `charge`, `limits`, `verdict`, `config_version`.

    `tenant` is whom the call would name, `address` where it would come from. `now_ms` by the
    store's clock. Raises NotFound where no route matches, Unauthorized for a missing or unknown key.
    """
    route = Router(config).match(method, host, target.split("?", 1)[0].encode())
    if route is None:
        raise NotFound(f"no route matches {method} {target}" + (f" on {host}" if host else ""))
    story: dict[str, Any] = {"config_version": version, "route": _route(route), "charge": {m: _cost(c) for m, c in route.charge.items()}}
    bypasses = Bypasses()
    bypasses.learn(await redis.get(keys.BYPASS))
    if route.auth == "none":
        return {**story, "org": None, **await _open(redis, route, method, address, bypasses, now_ms)}
    record, found = await _caller(redis, key, now_ms)
    story["org"] = {"id": found.org_id, "slug": found.slug, "plan": found.plan, "key": record.key_id}
    if not route.scopes <= record.scopes:
        return {**story, "limits": [], "verdict": f"403: the route asks for the scope {', '.join(sorted(route.scopes - record.scopes))}"}
    if found.refused:
        return {**story, "limits": [], "verdict": f"402: {found.refused}"}
    charge = make_charge(found, route, method, record, now_ms, bypasses=bypasses, tenant=tenant, address=address)
    if not charge.decides:
        return {**story, "limits": [], "verdict": "forwarded: the route charges nothing"}
    return {**story, **await _limits(redis, charge, bypasses, found.org_id, now_ms), "on_store_failure": rule_to_json(charge.rule)}


async def _open(redis: Redis, route: Route, method: str, address: str, bypasses: Bypasses, now_ms: int) -> dict[str, Any]:
    """`limits` and `verdict` of a call that nobody in particular makes."""
    if not (route.quotas or route.rates or route.concurrency):
        return {"limits": [], "verdict": "forwarded: the route is open, nothing is charged"}
    if not address:
        return {"limits": [], "verdict": "decided by the address it comes from: --address 192.0.2.7 shows how"}
    charge = make_anonymous_charge(route, method, address, now_ms, bypasses=bypasses)
    return await _limits(redis, charge, bypasses, "", now_ms)


async def _limits(redis: Redis, charge: Charge, bypasses: Bypasses, org_id: str, now_ms: int) -> dict[str, Any]:
    """`limits` and `verdict`."""
    used = await standing(redis, charge, now_ms)
    rows = [
        *(_limit(limit, spent, now_ms) for limit, spent in zip(charge.limits, used, strict=False)),
        *(_rate(rate, debt) for rate, debt in zip(charge.rates, used[len(charge.limits) :], strict=False)),
        *(_slot(slot, held) for slot, held in zip(charge.slots, used[len(charge.limits) + len(charge.rates) :], strict=True)),
    ]
    for row in rows:
        until_ms = bypasses.covers(org_id, row["meter"], now_ms) if row["mode"] != _COUNTED else None
        row["bypassed_until"] = isoformat(until_ms) if until_ms is not None else None
    return {"limits": rows, "verdict": _verdict(charge, used, now_ms)}


async def _caller(redis: Redis, key: str | None, now_ms: int) -> tuple[apikey.KeyRecord, Entitlement]:
    if not key:
        raise Unauthorized("this route needs an API key: --key wbk_…")
    if apikey.checksum_fails(key):
        raise Unauthorized("the API key is malformed: its checksum does not fit")
    value = await redis.get(keys.api_key(apikey.sha256_hex(key)))
    if value is None:
        raise Unauthorized("the API key is unknown, revoked or expired")
    record = apikey.record_from_json(value)
    if record.expires_at_ms is not None and record.expires_at_ms <= now_ms:
        raise Unauthorized(f"the API key expired at {isoformat(record.expires_at_ms)}")
    text = await redis.get(keys.entitlement(record.org_id))
    if text is None:
        raise Unauthorized("the organization of this API key no longer exists")
    return record, entitlement.from_json(json.loads(text))


def _route(route: Route) -> dict[str, Any]:
    methods = sorted(route.methods) if route.methods is not None else None
    return {"path": route.path, "methods": methods, "hosts": list(route.hosts), "upstream": route.upstream, "auth": route.auth}


def _cost(cost: Cost) -> str | int:
    if isinstance(cost, Fixed):
        return cost.units
    if isinstance(cost, Weighed):
        return {"bytes": "body bytes, in + out", "response_bytes": "body bytes out", "request_bytes": "body bytes in"}[cost.source]
    if isinstance(cost, Messages):
        return {"messages": "WebSocket messages, in + out", "response_messages": "WebSocket messages out"}.get(
            cost.source, "WebSocket messages in"
        )
    if isinstance(cost, FromHeader):
        return f"the answer's {cost.name} header"
    return f"{cost.reserve:,} reserved, settled by " + " or ".join(f"{source.kind}:{source.name}" for source in cost.sources)


def _limit(limit: Limit, used: int, now_ms: int) -> dict[str, Any]:
    quota = limit.quota
    return {
        "quota": limit.name,
        "meter": limit.meter,
        "cost": limit.cost,
        "mode": _mode(limit),
        "per": quota.per.value if quota else "org",
        "source": quota.source if quota else None,
        "limit": quota.limit if quota else None,
        "used": used,
        "left": max(quota.limit - used, 0) if quota and quota.limit is not None else None,
        "resets_at": isoformat(limit.end_ms),
        "resets_in_seconds": seconds_until(limit.end_ms, now_ms),
        "on_store_failure": rule_to_json(limit.rule) if quota else None,
    }


def _mode(limit: Limit) -> str:
    if limit.quota is None:
        return _COUNTED
    mode = limit.quota.mode.value if limit.main is None else "throttled"
    if limit.cut is not None:
        mode += ", cut"
    return f"{mode} (shadow)" if limit.quota.shadow else mode


def _rate(limit: RateLimit, debt: int) -> dict[str, Any]:
    rate, owed = limit.rate, -(-debt // limit.unit)
    mode = f"{rate.limit:,} a {rate.per}" + (" (shadow)" if limit.shadow else "")
    return _row(rate.name, rate.meter, mode, rate.by.value, rate.source, rate.depth, limit.cost, owed)


def _slot(limit: SlotLimit, held: int) -> dict[str, Any]:
    of = limit.concurrency
    return _row(of.name, None, "in flight" + (" (shadow)" if limit.shadow else ""), of.by.value, of.source, of.limit, 1, held)


def _row(name: str, meter: str | None, mode: str, per: str, source: str, most: int, cost: int, used: int) -> dict[str, Any]:
    """A limit that no window ends and no failure rule of its own stands by, in the form of a quota."""
    return {
        "quota": name, "meter": meter, "cost": cost, "mode": mode, "per": per, "source": source, "limit": most, "used": used,
        "left": max(most - used, 0), "resets_at": None, "resets_in_seconds": None, "on_store_failure": None,
    }  # fmt: skip


def _verdict(charge: Charge, used: list[int], now_ms: int) -> str:
    index = refusing(charge, used)
    if index is None:
        return "admitted"
    if index < len(charge.limits):
        limit = charge.limits[index]
        return f"429: {limit.name} is used up ({used[index]:,} of {limit.enforced:,})"
    refusal = refused(charge, Decision(Status.REFUSED, 0, tuple(used), index), now_ms, None)
    return f"429: {refusal.limit} is reached ({refusal.code})"
