"""Our own answers: one JSON form, a Retry-After that is never early, rate-limit headers that add up."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.gateway import Fixed, Route
from gateway import responses
from gateway.charges import Charge, make_charge
from gateway.decisions import Decision, Status
from metering.model.apikey import KeyRecord
from metering.model.clock import to_datetime
from metering.model.entitlement import Entitlement
from metering.model.errors import NotFound, PaymentRequired, QuotaExceeded, StoreUnavailable, Unauthorized, WeighbridgeError
from metering.model.quota import Concurrency, Mode, Per, Quota, Rate, Then, Window

NOW_MS = 1_767_261_599_000  # 2026-01-01T09:59:59Z
URL = "https://example.com/upgrade"


def charge(*quotas: Quota, rates: tuple[Rate, ...] = (), concurrency: tuple[Concurrency, ...] = (), **costs: int) -> Charge:
    entitlement = Entitlement(
        org_id="o", slug="a", name="A", version=1, plan="p", plan_version=1, anchor_ms=0,
        quotas=quotas, rates=rates, concurrency=concurrency,
    )  # fmt: skip
    costs = costs or {"api": 1}
    route = Route(id=1, path="/*", upstream="app", charge={meter: Fixed(units) for meter, units in costs.items()})
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=9, org_id=""), NOW_MS)


def quota(limit: int, window: Window = Window.HOUR, meter: str = "api", **facts: Any) -> Quota:
    return replace(Quota(meter=meter, limit=limit, window=window), **facts)


def named(headers: responses.Headers) -> dict[str, str]:
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode(): value.decode() for name, value in headers}


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (NotFound("no route"), 404, "not_found", {}),
        (Unauthorized("who?"), 401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="api"'}),
        (PaymentRequired("ended"), 402, "payment_required", {}),
        (StoreUnavailable("away"), 503, "metering_unavailable", {"Retry-After": "1"}),
        (QuotaExceeded("spent", retry_after=90), 429, "quota_exceeded", {"Retry-After": "90"}),
        (QuotaExceeded("spent", retry_after=0), 429, "quota_exceeded", {"Retry-After": "1"}),
    ],
)
def test_an_error_knows_its_status_code_and_headers(error: WeighbridgeError, status: int, code: str, headers: dict[str, str]) -> None:
    found_status, found_headers, body = responses.error_answer(error)
    assert (found_status, named(found_headers)) == (status, {"Content-Type": "application/json", **headers})
    assert json.loads(body) == {"error": {"code": code, "message": str(error)}}


def test_details_of_an_error_are_shown_and_the_waiting_time_is_not_one_of_them() -> None:
    _, _, body = responses.error_answer(PaymentRequired("ended", upgrade_url=URL, retry_after=5))
    assert json.loads(body)["error"]["details"] == {"upgrade_url": URL}


def test_an_error_without_words_says_what_its_kind_says() -> None:
    _, _, body = responses.error_answer(QuotaExceeded())
    assert json.loads(body)["error"]["message"] == "The organization spent its allowance for this window."


def test_a_request_that_was_never_understood_is_answered_in_the_same_form() -> None:
    assert json.loads(responses.plain_error(431, "headers_too_large", "Too much.")) == {
        "error": {"code": "headers_too_large", "message": "Too much.", "details": {"status": 431}}
    }


# --- 429 ----------------------------------------------------------------------------------------------------------------


def refused(of: Quota, used: int, **costs: int) -> tuple[dict[str, str], dict[str, Any]]:
    found = charge(of, **costs)
    index = next(i for i, limit in enumerate(found.limits) if limit.quota is of)
    return told(found, index, [used] * found.shown)


def told(of: Charge, refusing: int, used: Sequence[int]) -> tuple[dict[str, str], dict[str, Any]]:
    refusal = responses.refused(of, Decision(Status.REFUSED, 0, tuple(used), refusing), NOW_MS, URL)
    assert refusal.status == 429
    return named(refusal.headers), json.loads(refusal.body)["error"]


def test_a_spent_quota_says_which_how_much_and_until_when() -> None:
    headers, error = refused(quota(100), 100)
    assert headers == {"Content-Type": "application/json", "Retry-After": "1"}
    assert error == {
        "code": "quota_exceeded", "message": "API request quota exceeded",
        "details": {
            "service": "api", "quota": 100, "used": 100, "window": "hour", "reset_at": "2026-01-01T10:00:00Z", "upgrade_url": URL,
        },
    }  # fmt: skip


@pytest.mark.parametrize(("used", "shown"), [(0, 0), (99, 99), (100, 100), (250, 100)])
def test_what_was_used_never_shows_above_the_limit(used: int, shown: int) -> None:
    assert refused(quota(100), used)[1]["details"]["used"] == shown


@pytest.mark.parametrize(
    ("per", "routed", "shown"),
    [(Per.ORG, False, None), (Per.KEY, False, "key"), (Per.ROUTE, False, "route"), (Per.ORG, True, "route"), (Per.KEY, True, "key")],
)
def test_a_quota_that_is_not_the_organizations_own_says_whose_it_is(per: Per, routed: bool, shown: str | None) -> None:
    assert refused(quota(1, per=per, routed=routed), 1)[1]["details"].get("per") == shown


@pytest.mark.parametrize(("meter", "words"), [("api", "API request"), ("bandwidth", "Bandwidth"), ("ai_tokens", "Ai tokens")])
def test_a_meter_is_named_in_words(meter: str, words: str) -> None:
    assert refused(quota(1, meter=meter), 1, **{meter: 1})[1]["message"] == f"{words} quota exceeded"


@pytest.mark.parametrize(("left_ms", "seconds"), [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (3_600_000, 3_600), (0, 1), (-5_000, 1)])
def test_seconds_are_rounded_up_and_never_zero(left_ms: int, seconds: int) -> None:
    assert responses.seconds_until(NOW_MS + left_ms, NOW_MS) == seconds


@given(st.integers(1, 10**9))
def test_who_waits_as_told_never_comes_back_too_early(left_ms: int) -> None:
    assert NOW_MS + responses.seconds_until(NOW_MS + left_ms, NOW_MS) * 1000 >= NOW_MS + left_ms


def test_an_overage_quota_says_where_it_stops() -> None:
    _, error = refused(quota(100, mode=Mode.OVERAGE, stop_at=250), 300)
    assert (error["details"]["quota"], error["details"]["used"]) == (250, 250)


def test_a_throttle_says_that_its_slower_quota_is_used_up_and_beyond_what_it_begins() -> None:
    of = charge(quota(100, Window.MONTH, mode=Mode.THROTTLE, then=Then(limit=5, window=Window.DAY)))
    headers, error = told(of, 2, [0, 105, 5])
    assert headers["Retry-After"] == "50401"
    assert error["code"] == "quota_exceeded"
    facts = {name: error["details"][name] for name in ("quota", "used", "window", "throttled_beyond")}
    assert facts == {"quota": 5, "used": 5, "window": "day", "throttled_beyond": 100}
    assert responses.refused(of, Decision(Status.REFUSED, 0, (0, 105, 5), 2), NOW_MS, URL).mode == "throttle"


@pytest.mark.parametrize(
    ("rate", "owed_units", "seconds"),
    [
        (Rate(meter="api", limit=5, per="second"), 5.0, 1), (Rate(meter=None, limit=6, per="minute", burst=1), 1.0, 10),
        (Rate(meter=None, limit=6, per="minute", burst=1), 0.9999, 10), (Rate(meter=None, limit=6, per="minute", burst=1), 0.9, 9),
        (Rate(meter="api", limit=1, per="minute", burst=2), 1.5, 30), (Rate(meter="api", limit=7, per="minute"), 7.0, 9),
    ],
)  # fmt: skip
def test_a_rate_says_when_there_is_room_for_a_call_again(rate: Rate, owed_units: float, seconds: int) -> None:
    of = charge(rates=(rate,))
    headers, error = told(of, 1, [7, int(owed_units * of.rates[0].unit)])
    assert headers["Retry-After"] == str(seconds)
    assert error["code"] == "rate_limited"
    details = {"service": rate.meter or "calls", "limit": rate.limit, "per": rate.per, "burst": rate.depth, "upgrade_url": URL}
    assert error["details"] == details


def test_calls_in_flight_are_refused_with_a_second_to_wait() -> None:
    headers, error = told(charge(concurrency=(Concurrency(limit=2, by=Per.KEY),)), 1, [7, 2])
    assert headers["Retry-After"] == "1"
    assert (error["code"], error["message"]) == ("concurrency_exceeded", "At most 2 calls at a time")
    assert error["details"] == {"limit": 2, "by": "key", "upgrade_url": URL}


def test_a_refusal_names_itself_for_metric_and_log() -> None:
    of = charge(quota(1), rates=(Rate(meter=None, limit=1, per="second"),), concurrency=(Concurrency(limit=1),))
    found = [responses.refused(of, Decision(Status.REFUSED, 0, (1, 1, 1_000_000, 1), i), NOW_MS, None) for i in (1, 2, 3)]
    assert [(r.code, r.meter, r.mode, r.reason, r.limit) for r in found] == [
        ("quota_exceeded", "api", "hard", "hour", "api-hourly"),
        ("rate_limited", "calls", "hard", "rate", "calls-per-second"),
        ("concurrency_exceeded", "calls", "hard", "concurrency", "concurrency"),
    ]


# --- RateLimit ----------------------------------------------------------------------------------------------------------


def test_each_quota_of_the_call_shows_its_policy_and_what_is_left() -> None:
    of = charge(quota(100), quota(1_000, Window.DAY, mode=Mode.SOFT))
    headers = named(responses.rate_limit_headers(of, [7, 40, 1_234], NOW_MS))
    assert headers == {
        "RateLimit-Policy": '"api-hourly";q=100;w=3600;qu="requests", "api-daily";q=1000;w=86400;qu="requests"',
        "RateLimit": '"api-hourly";r=60;t=1, "api-daily";r=0;t=50401',
    }
    assert to_datetime(NOW_MS).isoformat() == "2026-01-01T09:59:59+00:00"


def test_a_call_without_quotas_has_no_such_headers() -> None:
    assert responses.rate_limit_headers(charge(), [7], NOW_MS, legacy=True) == []


def test_a_call_that_no_store_answered_has_no_such_headers() -> None:
    assert responses.rate_limit_headers(charge(quota(100)), (), NOW_MS) == []


@pytest.mark.parametrize(("used", "shown"), [([0, 10, 10], ("100", "90", "1")), ([0, 10, 950], ("1000", "50", "50401"))])
def test_the_legacy_headers_show_the_quota_with_least_left(used: list[int], shown: tuple[str, str, str]) -> None:
    headers = named(responses.rate_limit_headers(charge(quota(100), quota(1_000, Window.DAY)), used, NOW_MS, legacy=True))
    assert tuple(headers[f"X-RateLimit-{word}"] for word in ("Limit", "Remaining", "Reset")) == shown


@pytest.mark.parametrize(("meter", "unit"), [("api", "requests"), ("bandwidth", "content-bytes"), ("pages", "pages")])
def test_the_unit_of_a_quota_is_told(meter: str, unit: str) -> None:
    headers = named(responses.rate_limit_headers(charge(quota(5, meter=meter), **{meter: 1}), [0, 0], NOW_MS))
    assert headers["RateLimit-Policy"].endswith(f';qu="{unit}"')


def test_a_rate_shows_beside_the_quotas() -> None:
    rates = (Rate(meter=None, limit=5, per="second", burst=10), Rate(meter="api", limit=60, per="minute"))
    of = charge(quota(100), rates=rates)
    second, minute = of.rates
    headers = named(responses.rate_limit_headers(of, [7, 40, 5 * second.unit // 2, 45 * minute.unit], NOW_MS))
    assert headers == {
        "RateLimit-Policy": '"api-hourly";q=100;w=3600;qu="requests", "calls-per-second";q=5;w=1;qu="requests";burst=10, '
        '"api-per-minute";q=60;w=60;qu="requests"',
        "RateLimit": '"api-hourly";r=60;t=1, "calls-per-second";r=7;t=1, "api-per-minute";r=15;t=45',
    }


def test_a_throttle_shows_both_its_quotas() -> None:
    of = charge(quota(100, Window.MONTH, mode=Mode.THROTTLE, then=Then(limit=5, window=Window.DAY)))
    assert named(responses.rate_limit_headers(of, [0, 103, 3], NOW_MS))["RateLimit"].startswith('"api-monthly";r=0;t=')
    assert '"api-daily-throttled";r=2;t=50401' in named(responses.rate_limit_headers(of, [0, 103, 3], NOW_MS))["RateLimit"]


def test_a_shadow_is_shown_to_nobody() -> None:
    of = charge(quota(100, shadow=True), rates=(Rate(meter=None, limit=5, per="second", shadow=True),))
    assert responses.rate_limit_headers(of, [7, 7, 0], NOW_MS) == []
    assert responses.limit_lines(of, (7, 7, 0), NOW_MS) == b""


@pytest.mark.parametrize("legacy", [False, True])
def test_the_ready_made_lines_say_the_same(legacy: bool) -> None:
    of = charge(quota(100), quota(1_000, Window.DAY), rates=(Rate(meter=None, limit=5, per="second"),))
    headers = responses.rate_limit_headers(of, [0, 10, 950, 0], NOW_MS, legacy=legacy)
    assert responses.limit_lines(of, (0, 10, 950, 0), NOW_MS, legacy=legacy) == b"".join(b"\r\n%b: %b" % header for header in headers)


def test_calls_that_stand_at_the_same_are_told_the_same_until_the_second_has_passed() -> None:
    of, used = charge(quota(100), quota(1_000, Window.DAY)), (0, 10, 950)
    before, *told = [responses.limit_lines(of, used, NOW_MS + ms) for ms in (-1, 0, 1, 999)]
    assert told[0] is told[1] is told[2]
    assert before == told[0].replace(b"r=90;t=1,", b"r=90;t=2,").replace(b"t=50401", b"t=50402")
    assert responses.limit_lines(of, (0, 11, 951), NOW_MS) == told[0].replace(b"r=90", b"r=89").replace(b"r=50", b"r=49")


@given(st.integers(-2_000_000, 7_200_000))
def test_nobody_is_told_to_come_before_the_reset_nor_a_second_too_late(ms: int) -> None:
    end_ms = NOW_MS + 3_600_000
    seconds = responses.seconds_until(end_ms, end_ms - ms)
    assert seconds >= 1
    assert ms <= seconds * 1000 < max(ms, 0) + 1_001


# --- browsers -----------------------------------------------------------------------------------------------------------


def test_a_script_in_a_browser_may_read_a_refusal_and_its_headers() -> None:
    headers = named(responses.readable_by_browser(b"https://app.example"))
    assert headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert headers["Vary"] == "Origin"
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(headers["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize("origin", [None, b""])
def test_where_no_browser_asks_nothing_is_added(origin: bytes | None) -> None:
    assert responses.readable_by_browser(origin) == []
