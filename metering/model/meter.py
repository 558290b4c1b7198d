"""What is counted. Quantities are integers in the meter's base unit."""

from dataclasses import dataclass
from enum import StrEnum

UNIT_SIZES = {
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Kind(StrEnum):
    COUNT = "count"  # events add up
    LEVEL = "level"  # an event states what is held now (storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A counted quantity. `show` and `report` are display and report units, as sizes in base units (1 for itself)."""

    name: str
    unit: str  # request, byte, cpu_ms, …
    kind: Kind = Kind.COUNT
    title: str = ""  # "API Requests"
    show: str = ""  # display unit, such as GB; empty: the base unit
    show_size: int = 1
    report: str = ""  # what Stripe hears, such as MB
    report_size: int = 1
    cost_from: str | None = None  # "header:X-Pages"
    by: tuple[str, ...] = ()  # dimensions


def report_units(overage: int, report_size: int) -> int:
    """Whole report units in `overage` base units; a remainder stays ours until it makes a unit."""
    return overage // report_size
