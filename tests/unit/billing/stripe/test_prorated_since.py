"""A change that Stripe hears of late costs what it would have cost at once."""

import pytest

from billing.stripe.subscription import prorated_since

APRIL, MID_APRIL, MAY = "2026-04-01T00:00:00Z", "2026-04-16T00:00:00Z", "2026-05-01T00:00:00Z"
SECONDS = {APRIL: 1_775_001_600, MID_APRIL: 1_776_297_600, MAY: 1_777_593_600}


@pytest.mark.parametrize(
    ("effective", "period_start", "now", "expected"),
    [
        (MID_APRIL, APRIL, SECONDS[MID_APRIL] + 3600, {"proration_date": SECONDS[MID_APRIL]}),
        (MID_APRIL, APRIL, SECONDS[MID_APRIL], {}),  # now is what Stripe takes anyway
        (MID_APRIL, MAY, SECONDS[MAY] + 60, {"proration_date": SECONDS[MAY]}),  # a period that was billed is over
        (None, APRIL, SECONDS[MID_APRIL], {}),  # written before the instant was told
    ],
)
def test_a_change_is_prorated_from_when_it_was_made(effective: str | None, period_start: str, now: int, expected: dict[str, int]) -> None:
    current = {"items": {"data": [{"current_period_start": SECONDS[period_start]}]}}
    assert prorated_since({"effective": effective}, current, now * 1000) == expected
