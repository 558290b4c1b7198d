"""Which counters begin in the middle of their windows when an entitlement changes."""

from datetime import datetime
from typing import Any

import pytest

from metering.model import keys
from metering.model.clock import to_ms
from metering.model.entitlement import Entitlement, Override
from metering.model.quota import Per, Quota, Window
from metering.model.seeding import Seed, begun


def from_iso(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


NOW = from_iso("2026-03-10T15:30:00Z")
ANCHOR = from_iso("2026-01-20T00:00:00Z")
PERIOD, DAY, MONTH = (Quota(meter="api", limit=5, window=w) for w in (Window.PERIOD, Window.DAY, Window.MONTH))


def entitlement(*quotas: Quota, **facts: Any) -> Entitlement:
    return Entitlement(
        **{
            "org_id": "o", "slug": "a", "name": "A", "version": 1, "plan": "p", "plan_version": 1, "anchor_ms": ANCHOR, "quotas": quotas,
            **facts,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "windows"),
    [
        ([MONTH], [DAY], ["day"]),
        ([DAY], [DAY], []),
        ([DAY, MONTH], [DAY], []),
        ([], [DAY, MONTH], ["day", "month"]),
        ([MONTH], [PERIOD], []),  # every call counts in the period
        ([MONTH], [Quota(meter="api", limit=None, window=Window.DAY)], []),
        ([MONTH], [Quota(meter="api", limit=5, window=Window.DAY, per=Per.KEY)], []),
        ([DAY], [Quota(meter="bandwidth", limit=5, window=Window.DAY)], ["day"]),
    ],
)
def test_a_counter_begins_where_a_quota_looks_at_a_window_that_none_looked_at(
    before: list[Quota], after: list[Quota], windows: list[str]
) -> None:
    assert [b.window.value for b in begun(entitlement(*before), entitlement(*after), NOW)] == windows


def test_an_override_brings_a_counter_too_and_one_that_ended_left_it() -> None:
    override = Override(quotas=(DAY,), until_ms=NOW - 1)
    assert [b.window for b in begun(entitlement(MONTH), entitlement(MONTH, overrides=(override,)), NOW)] == [Window.DAY]
    assert begun(entitlement(MONTH, overrides=(override,)), entitlement(MONTH, DAY), NOW) == ()


def test_it_is_worked_out_from_the_period_that_counted_so_far() -> None:
    (one,) = begun(entitlement(MONTH), entitlement(DAY, anchor_ms=from_iso("2026-03-10T12:00:00Z")), NOW)
    bucket = keys.bucket_of("o")
    assert one.period_counter == f"wb:{{{bucket}}}:q:o:api:o:p{from_iso('2026-02-20T00:00:00Z') // 1000}"
    assert one.counter == f"wb:{{{bucket}}}:q:o:api:o:d{from_iso('2026-03-10T00:00:00Z') // 1000}"
    assert Seed(one, 7).expires_ms == from_iso("2026-03-11T01:00:00Z")
