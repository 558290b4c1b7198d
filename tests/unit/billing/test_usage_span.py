"""The words for a time, shares that add up, forecasts, and channels bound to thresholds."""

import datetime as dt
from datetime import UTC, datetime

import pytest

from billing.model.alert import Channel, Destination, Threshold, added, forecast, percents_of, read_destination, warn_percent, without
from billing.model.usage import LimitUse, Source, Status
from billing.model.usage_span import EndpointUse, PeriodWord, shares, span_of
from metering.model.clock import to_ms
from metering.model.errors import BadInput, WeighbridgeError
from metering.model.meter import Kind, Meter
from metering.model.outward import Reach
from metering.model.quota import Quota
from weighbridge.cli.quota_alert import bound

NOW_MS = to_ms(datetime(2026, 5, 17, 12, tzinfo=UTC))
DAY_MS = 86_400_000
API = Meter(name="api", unit="request")


@pytest.mark.parametrize(
    ("word", "start", "end"),
    [
        ("month", "2026-05-01", "2026-06-01"),
        ("last-month", "2026-04-01", "2026-05-01"),
        ("quarter", "2026-04-01", "2026-07-01"),
        ("year", "2026-01-01", "2027-01-01"),
    ],
)
def test_a_word_is_a_time_of_the_calendar(word: str, start: str, end: str) -> None:
    span = span_of(PeriodWord(word), None, None, NOW_MS)
    assert span is not None
    assert [datetime.fromtimestamp(ms / 1000, UTC).date().isoformat() for ms in (span.start_ms, span.end_ms)] == [start, end]


def test_the_period_under_way_is_no_span_and_the_last_month_of_january_is_december() -> None:
    assert span_of(None, None, None, NOW_MS) is None
    assert span_of(PeriodWord.CURRENT, None, None, NOW_MS) is None
    span = span_of(PeriodWord.LAST_MONTH, None, None, to_ms(datetime(2026, 1, 31, tzinfo=UTC)))
    assert span is not None
    assert span.start_ms == to_ms(datetime(2025, 12, 1, tzinfo=UTC))


def test_the_end_is_the_last_day() -> None:
    span = span_of(PeriodWord.CUSTOM, dt.date(2025, 12, 1), dt.date(2025, 12, 15), NOW_MS)
    assert span is not None
    assert (span.end_ms - span.start_ms, span.holds_a_quota) == (15 * DAY_MS, True)
    long = span_of(None, dt.date(2025, 12, 1), None, NOW_MS)
    assert long is not None
    assert (long.end_ms, long.holds_a_quota) == (to_ms(datetime(2026, 5, 18, tzinfo=UTC)), False)


@pytest.mark.parametrize(
    ("word", "start", "end"),
    [("custom", None, None), (None, None, "2026-01-01"), (None, "2026-01-02", "2026-01-01"), ("year", "2026-01-01", None)],
)
def test_a_time_that_is_none_is_refused(word: str | None, start: str | None, end: str | None) -> None:
    days = [dt.date.fromisoformat(day) if day else None for day in (start, end)]
    with pytest.raises(BadInput):
        span_of(PeriodWord(word) if word else None, *days, NOW_MS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([52, 68, 3], (42, 55, 3)),
        ([1, 1, 1], (34, 33, 33)),
        ([0, 0], (0, 0)),
        ([], ()),
        ([5], (100,)),
        ([28442, 8321, 4521, 3947], (63, 18, 10, 9)),
    ],
)
def test_shares_add_up_by_the_largest_remainder(values: list[int], expected: tuple[int, ...]) -> None:
    assert shares(values) == expected


def test_an_endpoints_time_is_the_mean_of_its_calls() -> None:
    assert EndpointUse(endpoint="GET /", units=2, calls=2, duration_ms=91, errors=0).average_ms == 46
    assert EndpointUse(endpoint=None, units=2, calls=0, duration_ms=0, errors=0).average_ms is None


def use(used: int, limit: int | None = 1000, warn: int = 80) -> LimitUse:
    start_ms = NOW_MS - 10 * DAY_MS
    quota = Quota(meter="api", limit=limit)
    return LimitUse(quota=quota, used=used, source=Source.LIVE, start_ms=start_ms, reset_at_ms=start_ms + 30 * DAY_MS, warn_percent=warn)


@pytest.mark.parametrize(
    ("used", "percent", "in_days"),
    [(400, 80, 10), (400, 90, 12.5), (800, 80, None), (266, 80, None), (0, 80, None), (267, 80, 20 - 10 / 267)],
)
def test_a_share_is_foretold_inside_the_window_or_never(used: int, percent: int, in_days: float | None) -> None:
    found = forecast(use(used), API, percent, NOW_MS)
    assert (found is None) == (in_days is None)
    if found is not None and in_days is not None:
        assert abs(found - NOW_MS - in_days * DAY_MS) <= DAY_MS / 100


def test_nothing_is_foretold_of_what_is_held_or_unlimited() -> None:
    assert forecast(use(400), Meter(name="storage", unit="byte", kind=Kind.LEVEL), 80, NOW_MS) is None
    assert forecast(use(400, None), API, 80, NOW_MS) is None


def test_warning_begins_at_the_lowest_share_that_was_set() -> None:
    rules = {"api": added(None, "api", [Threshold(percent=90), Threshold(percent=75)])}
    assert (warn_percent(rules, "api"), warn_percent(rules, "storage"), warn_percent({"api": without(rules["api"], [])}, "api")) == (
        75,
        80,
        80,
    )
    assert [use(760, warn=warn).status for warn in (75, 80)] == [Status.WARNING, Status.OK]
    assert (percents_of(rules, "api"), percents_of(rules, "storage")) == ((75, 90), (80, 90, 100))


def test_a_share_that_is_set_again_has_the_channels_of_both() -> None:
    mail, chat = (
        Destination(channel=Channel.EMAIL, target="a@b.example"),
        Destination(channel=Channel.SLACK, target="https://hooks.slack.com/x"),
    )
    rule = added(
        added(None, "api", [Threshold(percent=80, destinations=(mail,))]), "api", [Threshold(percent=80, destinations=(chat, mail))]
    )
    assert rule.thresholds == (Threshold(percent=80, destinations=(mail, chat)),)
    assert not without(rule, [80]).active
    assert percents_of({"api": without(rule, [])}, "api") == ()
    assert added(without(rule, []), "api", [Threshold(percent=95)]).active
    assert chat.shown == "https://hooks.slack.com/…"


def test_channels_belong_to_the_thresholds_before_them() -> None:
    said = [
        ("threshold", "75"), ("email", "a@b.example"), ("threshold", "90"), ("threshold", "95%"), ("email", "c@d.example"),
        ("webhook", "https://example.com/alerts"), ("threshold", "99"),
    ]  # fmt: skip
    found = [(ask.percent, [each.target for each in ask.channels]) for ask in bound(said)]
    both = ["c@d.example", "https://example.com/alerts"]
    assert found == [(75, ["a@b.example"]), (90, both), (95, both), (99, [])]


@pytest.mark.parametrize("said", [[], [("email", "a@b.example")], [("threshold", "many")]])
def test_a_channel_without_a_threshold_is_refused(said: list[tuple[str, str]]) -> None:
    with pytest.raises(BadInput):
        bound(said)


@pytest.mark.parametrize(
    ("channel", "target"),
    [("email", "nobody"), ("email", "a@b"), ("webhook", "ftp://example.com"), ("webhook", "http://127.0.0.1/"), ("slack", "hello")],
)
def test_where_nothing_can_be_sent_is_refused(channel: str, target: str) -> None:
    with pytest.raises(WeighbridgeError):
        read_destination(Channel(channel), target, Reach.PUBLIC)
