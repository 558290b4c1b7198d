"""The grammar of every Redis key. No other module formats one.

`bucket_of(org) = crc16(org) % 256`; the bucket number is the Cluster hash tag, so all keys of one script share a
slot, and a flush is 256 drains, not one an organization. Keys outside a bucket are only ever used one at a time.

  wb:{b}:epoch              "<epoch> <run id>", with " wait" behind it while recovery has not opened the bucket
  wb:{b}:ver                hash org id -> entitlement version
  wb:{b}:ent:<org>          entitlement, JSON
  wb:{b}:q:<org>:<meter>:<scope>:<window>   integer counter, expires after its window
  wb:{b}:m                  marks: s:<worker> last settled seq · a:<worker> last admit n and its reply · r:<worker> epoch replayed
  wb:{b}:u                  live usage hash: ledger field -> quantity, "!" says that something was settled
  wb:{b}:f                  the batch under way
  wb:{b}:g                  generation
  wb:{b}:pm                 hash worker -> seq that Postgres has committed
  wb:key:<sha256>           API key record, JSON; active keys only
  wb:changed                channel: "org <id>", "key <sha256>", "nokey <sha256>", "noorg <id>", "ship <token>"
  wb:asked                  list of "key <sha256>" and "org <id>" that a gateway missed; control answers
  wb:workers                hash worker -> JSON {"at_ms", "role", "shipped"}; a heartbeat each second
  wb:alone                  the host whose checkpoint is the truth, where no Postgres is; expires without it
  wb:routes                 hash route id -> JSON {"template", "host"}
"""

import binascii

from .quota import Per, Quota, Window

BUCKETS = 256
CHANGED, ASKED, WORKERS, ROUTES = "wb:changed", "wb:asked", "wb:workers", "wb:routes"
ALONE = "wb:alone"
COUNTER_LINGERS_MS = 3_600_000  # a counter outlives its window by this, so that late returns still find it

EVERY_COUNTER = "wb:{*}:q:*"  # a SCAN pattern

_WINDOW_LETTER = {Window.HOUR: "h", Window.DAY: "d", Window.PERIOD: "p", Window.MONTH: "m"}


def bucket_of(org_id: str) -> int:
    """CRC16/XMODEM of the id, as Redis Cluster hashes; 0 to 255."""
    return binascii.crc_hqx(org_id.encode(), 0) % BUCKETS


def epoch(bucket: int) -> str:
    return f"wb:{{{bucket}}}:epoch"


def versions(bucket: int) -> str:
    return f"wb:{{{bucket}}}:ver"


def entitlement(org_id: str) -> str:
    return f"wb:{{{bucket_of(org_id)}}}:ent:{org_id}"


def marks(bucket: int) -> str:
    return f"wb:{{{bucket}}}:m"


def live(bucket: int) -> str:
    return f"wb:{{{bucket}}}:u"


def flying(bucket: int) -> str:
    return f"wb:{{{bucket}}}:f"


def generation(bucket: int) -> str:
    return f"wb:{{{bucket}}}:g"


def committed(bucket: int) -> str:
    return f"wb:{{{bucket}}}:pm"


def api_key(sha256_hex: str) -> str:
    return f"wb:key:{sha256_hex}"


def scope(*, route_id: int | None, key_id: int | None) -> str:
    """Whose use a counter adds up: `o` the organization's, `r<id>` one route's, `k<id>` one key's, `r<id>.k<id>` both."""
    parts = [f"r{route_id}"] if route_id is not None else []
    parts += [f"k{key_id}"] if key_id is not None else []
    return ".".join(parts) or "o"


def quota_scope(quota: Quota, *, route_id: int, key_id: int) -> str:
    """The scope of `quota` for a call of this route and key."""
    routed = quota.routed or quota.per is Per.ROUTE
    return scope(route_id=route_id if routed else None, key_id=key_id if quota.per is Per.KEY else None)


def counter(org_id: str, meter: str, scope: str, window: Window, start_ms: int) -> str:
    """wb:{7}:q:<org>:api:o:p1767225600"""
    return f"wb:{{{bucket_of(org_id)}}}:q:{org_id}:{meter}:{scope}:{_WINDOW_LETTER[window]}{start_ms // 1000}"


def bucket_in(key: str) -> int:
    """The bucket that a key of a bucket names."""
    return int(key[key.index("{") + 1 : key.index("}")])
