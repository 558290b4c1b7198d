"""The words of the first minute."""

from decimal import Decimal
from pathlib import Path

import pytest

from billing.model.plan import PerUnit, PlanSpec
from metering.model.quota import Mode, Quota, Window
from weighbridge import first_minute

PRO = PlanSpec(name="pro", prices={"api": PerUnit(each=Decimal("0.0003"), per_unit_size=1)})
FREE = PlanSpec(name="free")

ALLOWANCES = [
    (Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), PRO, "200,000 a period, then $0.0003 each"),
    (Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), FREE, "200,000 a period"),
    (Quota(meter="api", limit=10_000), FREE, "10,000 a period"),
    (Quota(meter="api", limit=None), FREE, "unlimited"),
    (None, FREE, "unlimited"),
    (Quota(meter="api", limit=3, window=Window.HOUR, source="override"), FREE, "3 an hour (demo override, so you can see a 429)"),
]


@pytest.mark.parametrize(("quota", "plan", "words"), ALLOWANCES)
def test_an_allowance_is_said_in_words(quota: Quota | None, plan: PlanSpec, words: str) -> None:
    assert first_minute.allowance(quota, plan, "usd") == words


FAREWELLS = [
    ((0, 4, 0), "drained 0 in flight, flushed 4 requests, journal empty, stopped"),
    ((2, 1, 0), "drained 2 in flight, flushed 1 request, journal empty, stopped"),
    ((0, None, 5120), "drained 0 in flight, could not flush, 5,120 bytes kept in the journal for the next start, stopped"),
]


@pytest.mark.parametrize(("numbers", "line"), FAREWELLS)
def test_the_last_line_says_what_became_of_every_count(numbers: tuple[int, int | None, int], line: str) -> None:
    in_flight, flushed, left = numbers
    assert first_minute.farewell(in_flight=in_flight, flushed=flushed, left_in_journal=left) == line


def test_a_folder_below_this_one_is_shown_relative() -> None:
    assert first_minute.shown(Path("/srv/wb/config"), Path("/srv/wb")) == "./config"
    assert first_minute.shown(Path("/etc/weighbridge"), Path("/srv/wb")) == "/etc/weighbridge"


def test_faults_are_counted_in_the_first_line() -> None:
    assert first_minute.header("0.1.0", "./config", 1, "./.weighbridge", new=True) == (
        "weighbridge 0.1.0   config ./config: 1 fault   data ./.weighbridge (new)"
    )
