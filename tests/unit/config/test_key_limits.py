"""Limits of a key as they are typed."""

import pytest

from billing.model.organization import limit_words
from config.key_limits import read_limit, read_limits
from metering.model.errors import BadInput
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Per, Quota, Rate, Window

METERS = {
    "api": Meter(name="api", unit="request"),
    "bandwidth": Meter(name="bandwidth", unit="byte", show="GB", show_size=10**9),
    "storage": Meter(name="storage", unit="byte", kind=Kind.LEVEL),
}


@pytest.mark.parametrize(
    ("text", "meter", "limit", "window"),
    [
        ("api=1000/day", "api", 1000, Window.DAY),
        ("api=1_000/hour", "api", 1000, Window.HOUR),
        ("bandwidth=5 GB/period", "bandwidth", 5 * 10**9, Window.PERIOD),
        ("api=0/month", "api", 0, Window.MONTH),
    ],
)
def test_a_longer_window_makes_a_quota_of_the_key(text: str, meter: str, limit: int, window: Window) -> None:
    wanted = Quota(meter=meter, limit=limit, window=window, mode=Mode.HARD, per=Per.KEY, source="key")
    assert read_limit(text, METERS) == wanted


def test_a_second_or_a_minute_makes_a_rate_of_the_key() -> None:
    assert read_limit("api=5/second", METERS) == Rate(meter="api", limit=5, per="second", by=Per.KEY, source="key")
    assert read_limit("300/minute", METERS) == Rate(meter=None, limit=300, per="minute", by=Per.KEY, source="key")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("api=1000", "is no limit"),
        ("api=1000/year", "is no limit"),
        ("1000/day", "what is limited"),
        ("apo=5/day", "did you mean `api`"),
        ("storage=5/day", "nothing that calls add to"),
        ("api=/day", "no amount"),
        ("api=-5/day", "no amount"),
        ("api=5 GB/day", "counts `request`"),
        ("api=unlimited/day", "limits nothing"),
        ("api=0/second", "lets nothing pass"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_limit(text, METERS)


def test_two_limits_on_the_same_are_one_too_many() -> None:
    with pytest.raises(BadInput, match="second limit"):
        read_limits(["api=5/day", "api=6/day"], METERS)


def test_limits_are_shown_as_they_are_typed() -> None:
    typed = ["api=1000/day", "bandwidth=5000000000/period", "api=5/second", "300/minute"]
    assert limit_words(read_limits(typed, METERS)) == typed
