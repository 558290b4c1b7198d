"""The grammar of every Redis key. No other module formats one.

`bucket_of(org) = crc16(org) % 256`; the bucket number is the Cluster hash tag, so all keys of one script share a
slot, and a flush is 256 drains, not one an organization. Keys outside a bucket are only ever used one at a time.

  wb:{b}:epoch              "<epoch> <run id>", with " wait" behind it while recovery has not opened the bucket
  wb:{b}:ver                hash org id -> entitlement version
  wb:{b}:ent:<org>          entitlement, JSON
  wb:{b}:q:<org>:<meter>:<scope>:<window>   integer counter, expires after its window
  wb:{b}:r:<org>:<meter>:<scope>:<rate>     what a rate is owed, "<microseconds> <debt>"; expires when it is paid
  wb:{b}:c:<org>:<scope>    calls in flight: hash worker -> number; expires without anybody who says it again
  wb:{b}:alive              hash worker -> "<ms> <number>": who said last when how many calls are in flight
  wb:{b}:m                  marks: s:<worker> last settled seq · a:<worker> last admit n, what it charged · r:<worker> epoch replayed
                            · p the last move of Postgres's own (move.lua)
  wb:{b}:u                  live usage hash: ledger field -> quantity, "!" says that something was settled
  wb:{b}:f                  the batch under way
  wb:{b}:g                  generation
  wb:{b}:pm                 hash worker -> seq that Postgres has committed
  wb:key:<sha256>           record of an API key or a client certificate, JSON; active ones only
  wb:slug:<slug>            the id of the organization of this slug
  wb:changed                channel: "org <id>", "key <sha256>", "slug <slug>", each also as "no…" where there is none;
                            "ship <token>", "bypass"
  wb:asked                  list of "key <sha256>", "org <id>" and "slug <slug>" that a gateway missed; control answers
  wb:workers                hash worker -> JSON {"at_ms", "role", "shipped"}; a heartbeat each second
  wb:alone                  the host whose checkpoint is the truth, where no Postgres is; expires without it
  wb:bypass                 JSON list of the bypasses in force (model/bypass.py); "[]" where there is none, absent where forgotten
  wb:routes                 hash route id -> JSON {"template", "host"}
"""

import binascii
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from .quota import Per, Window

BUCKETS = 256
ORGANIZATION = "o"  # the scope of what all calls of an organization add up to
CHANGED, ASKED, WORKERS, ROUTES = "wb:changed", "wb:asked", "wb:workers", "wb:routes"
ALONE, BYPASS = "wb:alone", "wb:bypass"
COUNTER_LINGERS_MS = 3_600_000  # a counter outlives its window by this, so that late returns still find it
PERIOD_LINGERS_MS = 4 * 86_400_000

EVERY_COUNTER = "wb:{*}:q:*"  # a SCAN pattern

_PLAIN = re.compile(r"[A-Za-z0-9_-]{0,40}")
_WINDOW_LETTER = {Window.HOUR: "h", Window.DAY: "d", Window.PERIOD: "p", Window.MONTH: "m"}
_LETTER_WINDOW = {letter: window for window, letter in _WINDOW_LETTER.items()}
_COUNTER = re.compile(
    r"wb:\{\d+\}:q:(?P<org>[0-9a-f-]{36}):(?P<meter>\??[a-z][a-z0-9_]*):(?P<scope>[^:]+):(?P<window>[hdpm])(?P<start>-?\d+)"
)


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


def slug(slug: str) -> str:
    return f"wb:slug:{slug}"


def scope(*, route_id: int | None, key_id: int | None, tenant: str | None = None, address: str | None = None) -> str:
    """Whose use a counter adds up: `o` the organization's, else of `r<route>`, `k<key>`, `t<tenant>`, `a<address>` those that
    narrow it, joined by dots: `r<id>.k<id>`."""
    parts = [f"r{route_id}"] if route_id is not None else []
    parts += [f"k{key_id}"] if key_id is not None else []
    parts += [_tenant_part(tenant)] if tenant is not None else []
    parts += [f"a{address_block(address)}"] if address is not None else []
    return ".".join(parts) or ORGANIZATION


def limit_scope(per: Per, routed: bool, *, route_id: int, key_id: int, tenant: str = "", address: str = "") -> str:
    """The scope of a limit for a call of this route, key, tenant and address."""
    if per is Per.ORG and not routed:
        return ORGANIZATION
    return scope(
        route_id=route_id if routed or per is Per.ROUTE else None,
        key_id=key_id if per is Per.KEY else None,
        tenant=tenant if per is Per.TENANT else None,
        address=address if per is Per.ADDRESS else None,
    )


@lru_cache(maxsize=4_096)
def address_block(address: str) -> str:
    """Who an address stands for: itself, or the /64 of an IPv6 address, since whoever has one has all of its block."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return _word(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
    return str(found)


def _tenant_part(tenant: str) -> str:
    return f"t{_word(tenant)}"


def _word(text: str) -> str:
    """`text` where it is short and plain; else a digest, since callers may send anything."""
    return text if _PLAIN.fullmatch(text) else "~" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def beyond(scope: str, window: Window) -> str:
    """The scope of what goes beyond a throttle: `o+p` beyond the organization's quota of the period."""
    return f"{scope}+{_WINDOW_LETTER[window]}"


def counter(org_id: str, meter: str, scope: str, window: Window, start_ms: int) -> str:
    """wb:{7}:q:<org>:api:o:p1767225600"""
    return f"wb:{{{bucket_of(org_id)}}}:q:{org_id}:{meter}:{scope}:{_WINDOW_LETTER[window]}{start_ms // 1000}"


@dataclass(frozen=True, slots=True)
class Counter:
    """What the name of a counter says."""

    org_id: str
    meter: str
    scope: str
    window: Window
    start_ms: int


def parse_counter(key: str) -> Counter | None:
    """The inverse of `counter`, for organizations' counters; None for any other key."""
    match = _COUNTER.fullmatch(key)
    if match is None:
        return None
    return Counter(match["org"], match["meter"], match["scope"], _LETTER_WINDOW[match["window"]], int(match["start"]) * 1000)


def counters_of(org_id: str) -> str:
    """A SCAN pattern of one organization's counters."""
    return f"wb:{{{bucket_of(org_id)}}}:q:{org_id}:*"


def counter_expires_ms(window: Window, end_ms: int) -> int:
    """When a counter is forgotten whose window ends then.

    Its expiry is set when it begins. Of two anchors in one month the same period start can have ends three days apart: a
    counter that began under the one must live through the other's.
    """
    return end_ms + (PERIOD_LINGERS_MS if window is Window.PERIOD else COUNTER_LINGERS_MS)


def rate(org_id: str, meter: str | None, scope: str, limit: int, per: str) -> str:
    """wb:{7}:r:<org>:api:o:5s. Its limit stands in the name: what was owed under another is no measure for this one."""
    return f"wb:{{{bucket_of(org_id)}}}:r:{org_id}:{meter or '-'}:{scope}:{limit}{per[0]}"


def in_flight(org_id: str, scope: str) -> str:
    return f"wb:{{{bucket_of(org_id)}}}:c:{org_id}:{scope}"


def alive(bucket: int) -> str:
    return f"wb:{{{bucket}}}:alive"


def nobody(address: str) -> str:
    """What stands in an organization's place where calls are known by their address alone."""
    return f"@{address_block(address)}"


def bucket_in(key: str) -> int:
    """The bucket that a key of a bucket names."""
    return int(key[key.index("{") + 1 : key.index("}")])
