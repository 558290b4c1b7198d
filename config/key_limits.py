"""Limits of one key as they are typed: api=1000/day, bandwidth=5 GB/period, api=5/second, 5/second."""

from collections.abc import Iterable, Mapping
from typing import Literal, cast

from billing.model.organization import Grants
from config.faults import did_you_mean
from config.units import base_units
from config.words import amount
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Per, Quota, Rate, Window

_WINDOWS = [window.value for window in Window]
_RATES = ("second", "minute")
_LIKE = "write it like api=1000/day, or api=5/second"


def read_limits(texts: Iterable[str], meters: Mapping[str, Meter]) -> Grants:
    """The quotas and rates that they name. Raises BadInput."""
    quotas: dict[tuple[str, Window], Quota] = {}
    rates: dict[tuple[str | None, str], Rate] = {}
    for text in texts:
        found = read_limit(text, meters)
        if isinstance(found, Quota):
            fresh = quotas.setdefault((found.meter, found.window), found) is found
        else:
            fresh = rates.setdefault((found.meter, found.per), found) is found
        if not fresh:
            raise BadInput(f"{text!r} is a second limit on the same; keep one")
    return Grants(quotas=tuple(quotas.values()), rates=tuple(rates.values()))


def read_limit(text: str, meters: Mapping[str, Meter]) -> Quota | Rate:
    """A rate a second or minute, a quota in any longer window. Without a meter every call is one unit. Raises BadInput."""
    what, slash, window = text.rpartition("/")
    name, equals, number = what.rpartition("=")
    if not slash or window not in (*_RATES, *_WINDOWS):
        raise BadInput(f"{text!r} is no limit; {_LIKE}. Windows are {', '.join((*_RATES, *_WINDOWS))}")
    meter = meters.get(name) if equals else None
    if equals and (meter is None or meter.kind is Kind.LEVEL):
        known = [each for each, one in meters.items() if one.kind is not Kind.LEVEL]
        raise BadInput(f"{name!r} is nothing that calls add to{did_you_mean(name, known)}")
    if meter is None and window not in _RATES:
        raise BadInput(f"{text!r} does not say what is limited; {_LIKE}")
    limit = _units(number, meter, text)
    if window in _RATES:
        if limit == 0:
            raise BadInput(f"{text!r} lets nothing pass; to stop a key, revoke it")
        return Rate(meter=name or None, limit=limit, per=cast(Literal["second", "minute"], window), by=Per.KEY, source="key")
    return Quota(meter=name, limit=limit, window=Window(window), mode=Mode.HARD, per=Per.KEY, source="key")


def _units(number: str, meter: Meter | None, text: str) -> int:
    try:
        found = amount(int(number) if number.isdecimal() else number)
        units = base_units(found, meter or Meter(name="calls", unit="call"))
    except ValueError as exc:
        raise BadInput(f"{text!r}: {exc}") from exc
    if units is None:
        raise BadInput(f"{text!r} limits nothing; leave it out")
    return units
