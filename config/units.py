"""Units of meters: which units a base unit may be shown and reported in, and amounts turned into base units. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from metering.model.meter import UNIT_SIZES, Meter

from .faults import did_you_mean
from .words import Amount

BYTE = "byte"
_CPU_MS = {"CPU-seconds": 1_000, "CPU-minutes": 60_000, "CPU-hours": 3_600_000}
_MS = {"seconds": 1_000, "minutes": 60_000, "hours": 3_600_000}
_SECOND = {"minutes": 60, "hours": 3_600, "days": 86_400}
_GPU_MS = {"GPU-seconds": 1_000, "GPU-minutes": 60_000, "GPU-hours": 3_600_000}
_MB_SECOND = {"GB-seconds": 1_000, "MB-hours": 3_600, "GB-hours": 3_600_000}  # memory, or storage, held for a time
_CONNECTION_SECOND = {"connection-minutes": 60, "connection-hours": 3_600}
_CENT = {"dollars": 100, "euros": 100, "pounds": 100, "francs": 100}  # a meter that counts money, for percentages of it

_SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        BYTE: UNIT_SIZES,
        "cpu_ms": _CPU_MS,
        "gpu_ms": _GPU_MS,
        "ms": _MS,
        "second": _SECOND,
        "mb_second": _MB_SECOND,
        "connection_second": _CONNECTION_SECOND,
        "cent": _CENT,
    }
)


def sizes_of(unit: str) -> dict[str, int]:
    """The units in which amounts of a base unit may be written, with their sizes; the base unit itself included."""
    own = {unit: 1, f"{unit}s": 1}
    return {**own, **({"B": 1} if unit == BYTE else {}), **_SIZES.get(unit, {})}


def size_of(unit: str, word: str) -> int:
    """How many base units one `word` is. Raises ValueError with a sentence; singular and plural are one word."""
    sizes = sizes_of(unit)
    for spelled in (word, f"{word}s", word.removesuffix("s")):
        if spelled in sizes:
            return sizes[spelled]
    raise ValueError(f"`{word}` is no unit for a meter of unit `{unit}`" + did_you_mean(word, sizes))


def base_units(amount: Amount, meter: Meter) -> int | None:
    """The amount in the meter's base units; None is unlimited. Raises ValueError with a sentence."""
    if amount.number is None or not meter.unit:  # a meter that could not be read: its own fault says so
        return None
    try:
        scale = size_of(meter.unit, amount.unit) if amount.unit else 1
    except ValueError as error:
        raise ValueError(f"{amount}: meter `{meter.name}` counts `{meter.unit}`; {error}") from error
    whole = amount.number * scale
    if whole != whole.to_integral_value():
        raise ValueError(f"{amount} is no whole number of `{meter.unit}`; write a whole number of base units")
    if whole > 2**63 - 1:
        raise ValueError(f"{amount} is more than can be counted ({2**63 - 1:,}); write `unlimited`")
    return int(whole)
