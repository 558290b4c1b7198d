"""Usage that somebody states: what an event may say, and why one that is taken will stand on no bill. Pure.

Quantities are said in the unit a meter is shown in (5.5 GB) or exactly, in base units; they are kept in base units.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.model.plan import PlanSpec
from billing.model.rating import included_units
from metering.model.clock import isoformat
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.quota import Quota

MOST_UNITS = 2**53  # of one event: as for a gateway's
EARLIEST_MS = 946_684_800_000  # 2000-01-01
CLOCKS_DIFFER_MS = 300_000  # an event may come from a clock that is ahead
LONGEST_KEY, LONGEST_METADATA, LONGEST_PART = 255, 8_000, 100
PART = "type"  # the key of a level's metadata that says which part of the whole it is about: postgres, backups
STRIPE_HEARS_MS = 35 * 86_400_000

_QUANTITY = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")


class BadEvent(BadInput):
    """The event does not make sense."""

    code = "bad_event"


def part_of(metadata: str | None) -> str:
    """Which part of a level an event states, by its metadata; empty: the whole."""
    found = json.loads(metadata).get(PART) if metadata else None
    return found[:LONGEST_PART] if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One use, in base units; of a level, what is held from then on. `key` is unique within the organization. `dated`: the instant was
    said, and is not just when the event came."""

    meter: str
    units: int
    at_ms: int
    metadata: str | None = None  # a JSON object
    key: str | None = None
    level: bool = False
    dated: bool = True

    @property
    def part(self) -> str:
        return part_of(self.metadata) if self.level else ""

    @property
    def fingerprint(self) -> bytes:
        """Equal for the same event, sent again."""
        said = json.dumps([self.meter, self.units, self.at_ms if self.dated else None, self.metadata])
        return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def meter_of(name: str, meters: Mapping[str, Meter]) -> Meter:
    """Raises BadEvent."""
    found = meters.get(name)
    if found is None:
        raise BadEvent(f"there is no service {name[:40]!r}; there are: {', '.join(meters)}")
    return found


def base_units(text: str, meter: Meter, *, below_zero: bool = False) -> int:
    """`text` in the unit that the meter is shown in, as whole base units. Raises BadEvent."""
    if not _QUANTITY.fullmatch(text):
        raise BadEvent(f"{text[:40]!r} is no quantity; write it as 1000 or 5.5")
    try:
        units = Decimal(text) * meter.show_size
    except InvalidOperation:
        units = Decimal("0.1")
    if units != int(units):
        raise BadEvent(f"{text[:40]} {meter.show or meter.unit} is no whole number of the base unit ({meter.unit})")
    return checked_units(int(units), meter, below_zero=below_zero)


def checked_units(units: int, meter: Meter, *, below_zero: bool = False) -> int:
    """Raises BadEvent. `below_zero`: what takes off from what was counted may be stated too."""
    if abs(units) > MOST_UNITS:
        raise BadEvent(f"the quantity is more than one event can say ({MOST_UNITS:,} {meter.unit})")
    if units < 0 and (meter.kind is Kind.LEVEL or not below_zero):
        raise BadEvent("a quantity below zero is no use; take an event back with usage void, or put it right with usage correct")
    return units


def shown(units: int, meter: Meter) -> Decimal:
    """In the unit the meter is shown in, exactly, without trailing zeros."""
    found = Decimal(units) / meter.show_size
    return found.quantize(Decimal(1)) if found == found.to_integral_value() else found.normalize()


def shown_text(units: int, meter: Meter) -> str:
    return str(units) if meter.show_size == 1 else format(shown(units, meter), "f")


def checked_at(at_ms: int, now_ms: int) -> int:
    """Raises BadEvent."""
    if at_ms > now_ms + CLOCKS_DIFFER_MS:
        raise BadEvent(f"{isoformat(min(at_ms, 253_402_300_799_000))} lies in the future")
    if at_ms < EARLIEST_MS:
        raise BadEvent("the timestamp lies before 2000; is it in seconds where milliseconds are meant?")
    return at_ms


def checked_metadata(value: Any) -> str | None:
    """As it is stored. Raises BadEvent."""
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise BadEvent("metadata is not a JSON object")
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise BadEvent("metadata holds what is no number") from None
    except RecursionError:
        raise BadEvent("metadata is nested too deeply") from None
    if len(text) > LONGEST_METADATA:
        raise BadEvent(f"metadata is longer than {LONGEST_METADATA:,} characters")
    if "\\u0000" in text or "\0" in text or (not text.isascii() and _lone_surrogate(text)):
        raise BadEvent("metadata holds what is no text")
    return text


def checked_key(key: str | None) -> str | None:
    """Raises BadEvent. Keys that begin with `:` are ours."""
    if not key:
        return None
    if len(key) > LONGEST_KEY or not key.isprintable() or key.startswith(":"):
        raise BadEvent(f"an idempotency key has up to {LONGEST_KEY} printable characters, and does not begin with a colon")
    return key


def _lone_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides whether a use will be charged for. `spec` None: there is no subscription that pays."""

    spec: PlanSpec | None
    quotas: tuple[Quota, ...]
    bills: bool
    at_stripe: bool


def unbilled_because(meter: str, period_end_ms: int, now_ms: int, standing: Standing) -> str | None:
    """Why a use, which counts all the same, stands on no bill; None where it may."""
    if not standing.bills:
        return "billing is switched off (BILLING_ENABLED=false)"
    if standing.spec is None:
        return "the organization has no subscription"
    if meter not in standing.spec.prices:
        return f"plan {standing.spec.name} has no price for {meter}"
    if meter not in included_units(standing.quotas, standing.spec.prices):
        return f"the quota on {meter} does not charge for what is beyond it"
    if standing.at_stripe and period_end_ms <= now_ms - STRIPE_HEARS_MS:
        return "its period ended more than 35 days ago, and Stripe hears of nothing that is older"
    return None
