"""What the sandbox takes, refuses, keeps and repeats, asked without the SDK."""

import asyncio
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from billing.stripe.client import SANDBOX_KEY, Resource, StripeApi
from billing.stripe.sandbox.server import Sandbox, serve
from metering.model.clock import FrozenClock

EVENTS, HOUR = "/v1/billing/meter_events", 3600


async def customer(running: Any, **params: str) -> str:
    status, body = await running.call("POST", "/v1/customers", {"name": "Acme", **params})
    assert status == 200
    return str(body["id"])


async def meter(running: Any, name: str = "calls", formula: str = "sum") -> str:
    params = {"event_name": name, "display_name": name, "default_aggregation[formula]": formula}
    status, body = await running.call("POST", "/v1/billing/meters", params)
    assert status == 200
    return str(body["id"])


def event(customer_id: str, value: str = "1", **more: str) -> dict[str, str]:
    return {"event_name": "calls", "payload[stripe_customer_id]": customer_id, "payload[value]": value, **more}


# meter events


@pytest.mark.parametrize("value", ["1.5", "", "abc", "1e3", "1234567890123456", "٣"])
async def test_a_value_is_a_whole_number_of_fifteen_digits_at_most(value, running) -> None:
    await meter(running)
    status, body = await running.call("POST", EVENTS, event(await customer(running), value))
    assert (status, body["error"]["param"]) == (400, "payload[value]")


@pytest.mark.parametrize("value", ["0", "-5", "999999999999999"])
async def test_whole_numbers_are_taken_negative_ones_too(value, running) -> None:
    await meter(running)
    assert (await running.call("POST", EVENTS, event(await customer(running), value)))[0] == 200


@pytest.mark.parametrize(
    ("offset", "status"), [(0, 200), (-35 * 24 * HOUR, 200), (-35 * 24 * HOUR - 1, 400), (300, 200), (301, 400)], ids=str
)
async def test_a_timestamp_lies_within_35_days_back_and_5_minutes_ahead(offset, status, running, clock) -> None:
    await meter(running)
    params = event(await customer(running), timestamp=str(clock.now_ms() // 1000 + offset))
    assert (await running.call("POST", EVENTS, params))[0] == status


async def test_an_event_needs_an_active_meter_and_a_living_customer(running) -> None:
    who = await customer(running)
    status, body = await running.call("POST", EVENTS, event(who))
    assert (status, body["error"]["param"]) == (400, "event_name")
    number = await meter(running)
    status, body = await running.call("POST", EVENTS, event("cus_nobody"))
    assert (status, body["error"]["code"]) == (400, "resource_missing")
    await running.call("DELETE", f"/v1/customers/{who}")
    assert (await running.call("POST", EVENTS, event(who)))[0] == 400
    await running.call("POST", f"/v1/billing/meters/{number}/deactivate")
    assert (await running.call("POST", EVENTS, event(await customer(running))))[0] == 400


async def test_a_cancelled_event_no_longer_counts_and_its_identifier_stays_taken(running, clock) -> None:
    who, number = await customer(running), await meter(running)
    await running.call("POST", EVENTS, event(who, "5", identifier="a"))
    await running.call("POST", EVENTS, event(who, "7", identifier="b"))
    cancel = {"event_name": "calls", "type": "cancel", "cancel[identifier]": "a"}
    status, body = await running.call("POST", "/v1/billing/meter_event_adjustments", cancel)
    assert (status, body["status"]) == (200, "complete")
    assert await total(running, clock, number, who) == [7.0]
    assert (await running.call("POST", EVENTS, event(who, "5", identifier="a")))[0] == 400
    assert (await running.call("POST", "/v1/billing/meter_event_adjustments", cancel))[0] == 400


async def test_an_event_can_be_cancelled_for_a_day(running, clock) -> None:
    who, _ = await customer(running), await meter(running)
    await running.call("POST", EVENTS, event(who, identifier="a"))
    clock.advance(24 * HOUR)
    cancel = {"event_name": "calls", "type": "cancel", "cancel[identifier]": "a"}
    assert (await running.call("POST", "/v1/billing/meter_event_adjustments", cancel))[0] == 400


async def total(running: Any, clock: FrozenClock, number: str, who: str, **more: str) -> list[float]:
    start = clock.now_ms() // 1000 // HOUR * HOUR
    params = {"customer": who, "start_time": str(start), "end_time": str(start + HOUR), **more}
    _, body = await running.call("GET", f"/v1/billing/meters/{number}/event_summaries", params)
    return [summary["aggregated_value"] for summary in body["data"]]


@pytest.mark.parametrize(("formula", "value"), [("sum", 9.0), ("count", 3.0), ("last", 4.0)])
async def test_a_summary_follows_the_meters_formula(formula, value, running, clock) -> None:
    who, number = await customer(running), await meter(running, formula=formula)
    for each in ("2", "3", "4"):
        await running.call("POST", EVENTS, event(who, each))
    assert await total(running, clock, number, who) == [value]


async def test_a_summary_is_half_open_on_full_minutes_and_by_the_hour_if_asked(running, clock) -> None:
    who, number = await customer(running), await meter(running)
    hour = clock.now_ms() // 1000 // HOUR * HOUR
    for at, value in ((hour - HOUR, "1"), (hour - 1, "2"), (hour, "4")):
        await running.call("POST", EVENTS, event(who, value, timestamp=str(at)))
    path = f"/v1/billing/meters/{number}/event_summaries"
    bounds = {"customer": who, "start_time": str(hour - HOUR), "end_time": str(hour)}
    assert [s["aggregated_value"] for s in (await running.call("GET", path, bounds))[1]["data"]] == [3.0]
    hourly = bounds | {"end_time": str(hour + HOUR), "value_grouping_window": "hour"}
    assert [s["aggregated_value"] for s in (await running.call("GET", path, hourly))[1]["data"]] == [4.0, 3.0]
    status, body = await running.call("GET", path, bounds | {"start_time": str(hour - 61)})
    assert (status, body["error"]["param"]) == (400, "start_time")


# prices and subscriptions


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"recurring[interval]": "month", "recurring[usage_type]": "metered", "unit_amount": "1"}, "recurring[meter]"),
        ({"recurring[interval]": "month", "recurring[meter]": "METER", "unit_amount": "1"}, "recurring[meter]"),
        ({"recurring[interval]": "month"}, "unit_amount"),
        ({"unit_amount": "1", "unit_amount_decimal": "1.5"}, "unit_amount_decimal"),
        ({"unit_amount_decimal": "0.0000000000001"}, "unit_amount_decimal"),
        ({"unit_amount": "-1"}, "unit_amount_decimal"),
        ({"billing_scheme": "tiered", "unit_amount": "1"}, "billing_scheme"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers[0][up_to]": "5", "tiers[0][unit_amount]": "1"}, "tiers"),
        (
            {
                "billing_scheme": "tiered", "tiers_mode": "volume", "tiers[0][up_to]": "inf", "tiers[0][unit_amount]": "1",
                "transform_quantity[divide_by]": "10", "transform_quantity[round]": "up",
            },
            "transform_quantity",
        ),
        ({"unit_amount": "1", "custom_unit_amount[enabled]": "true"}, "custom_unit_amount"),
        ({"unit_amount": "1", "currency": "dollars"}, "currency"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
async def test_a_price_that_stripe_would_refuse_is_refused(params, param, running) -> None:
    number = await meter(running)
    _, product = await running.call("POST", "/v1/products", {"name": "P"})
    given = {"product": product["id"], "currency": "usd"} | {k: v.replace("METER", number) for k, v in params.items()}
    status, body = await running.call("POST", "/v1/prices", given)
    assert (status, body["error"]["param"]) == (400, param)


async def test_tiers_are_stored_and_shown_where_they_are_asked_for(running) -> None:
    _, product = await running.call("POST", "/v1/products", {"name": "P"})
    tiers = {"tiers[0][up_to]": "5", "tiers[0][unit_amount]": "700", "tiers[1][up_to]": "inf", "tiers[1][unit_amount_decimal]": "0.5"}
    params = {"product": product["id"], "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated", **tiers}
    status, price = await running.call("POST", "/v1/prices", params)
    assert (status, "tiers" in price, price["unit_amount"]) == (200, False, None)
    _, shown = await running.call("GET", f"/v1/prices/{price['id']}", {"expand[]": "tiers"})
    assert [(t["up_to"], t["unit_amount_decimal"]) for t in shown["tiers"]] == [(5, "700"), (None, "0.5")]


async def test_a_lookup_key_belongs_to_one_price_until_it_is_transferred(running) -> None:
    _, product = await running.call("POST", "/v1/products", {"name": "P"})
    params = {"product": product["id"], "currency": "usd", "unit_amount": "5", "lookup_key": "k"}
    _, first = await running.call("POST", "/v1/prices", params)
    status, body = await running.call("POST", "/v1/prices", params | {"nickname": "again"})
    assert (status, body["error"]["param"]) == (400, "lookup_key")
    _, second = await running.call("POST", "/v1/prices", params | {"transfer_lookup_key": "true"})
    found = (await running.call("GET", "/v1/prices", {"lookup_keys[]": "k"}))[1]["data"]
    assert ([p["id"] for p in found], first["id"] != second["id"]) == ([second["id"]], True)


async def subscription_parts(running: Any, amount: str = "4900") -> dict[str, str]:
    _, product = await running.call("POST", "/v1/products", {"name": "P"})
    params = {"product": product["id"], "currency": "usd", "unit_amount": amount, "recurring[interval]": "month"}
    _, price = await running.call("POST", "/v1/prices", params)
    return {"customer": await customer(running), "items[0][price]": price["id"]}


async def test_a_customer_without_payment_method_cannot_be_charged_but_can_be_sent_an_invoice(running) -> None:
    parts = await subscription_parts(running)
    status, body = await running.call("POST", "/v1/subscriptions", parts)
    assert (status, "no attached payment source" in body["error"]["message"]) == (400, True)
    status, body = await running.call("POST", "/v1/subscriptions", parts | {"collection_method": "send_invoice", "days_until_due": "30"})
    assert (status, body["status"]) == (200, "active")


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"items[0][quantity]": "x"}, "items[0][quantity]"),
        ({"items[1][price]": "price_none"}, "items[1][price]"),
        ({"collection_method": "send_invoice"}, "days_until_due"),
        ({"billing_cycle_anchor": "1"}, "billing_cycle_anchor"),
        ({"billing_cycle_anchor": "1893456000"}, "billing_cycle_anchor"),
        ({"backdate_start_date": "1893456000"}, "backdate_start_date"),
        ({"trial_end": "1"}, "trial_end"),
        ({"trial_period_days": "1", "trial_end": "1893456000"}, "trial_end"),
        ({"coupon": "X"}, "coupon"),
        ({"default_payment_method": "pm_1"}, "default_payment_method"),
        ({"items[0][discounts][0][coupon]": "X"}, "items[0][discounts]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_subscription_that_stripe_would_refuse_or_we_do_not_imitate_is_refused(params, param, running) -> None:
    parts = await subscription_parts(running, "0")
    status, body = await running.call("POST", "/v1/subscriptions", parts | params)
    assert (status, body["error"]["param"]) == (400, param)


# envelope, keys, pages, idempotency, state


async def test_unknown_parameters_paths_and_ids_fail_as_at_stripe(running) -> None:
    status, body = await running.call("POST", "/v1/customers", {"nme": "x"})
    assert (status, body["error"]["code"], body["error"]["type"]) == (400, "parameter_unknown", "invalid_request_error")
    assert (await running.call("GET", "/v1/nothing"))[0] == 404
    status, body = await running.call("GET", "/v1/customers/cus_x")
    assert (status, body["error"]["message"]) == (404, "No such customer: 'cus_x'")


@pytest.mark.parametrize(("key", "status"), [("", 401), ("Bearer sk_live_1", 403), ("Bearer rk_live_1", 403), ("Bearer pk_test_1", 401)])
async def test_only_test_keys_open_the_sandbox(key, status, running) -> None:
    assert (await running.call("GET", "/v1/customers", Authorization=key))[0] == status


async def test_pages_follow_one_another_without_gap_or_repetition(running, stripe) -> None:
    made = [await customer(running, name=str(n)) for n in range(7)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        _, page = await running.call("GET", "/v1/customers", {"limit": "3", **after})
        seen += [c["id"] for c in page["data"]]
        if not page["has_more"]:
            break
        after = {"starting_after": seen[-1]}
    assert seen == made[::-1]
    _, before = await running.call("GET", "/v1/customers", {"limit": "2", "ending_before": seen[4]})
    assert [c["id"] for c in before["data"]] == seen[2:4]
    assert (await running.call("GET", "/v1/customers", {"limit": "101"}))[0] == 400


async def test_more_than_a_page_is_found_through_the_sdk(running, stripe) -> None:
    for number in range(120):
        await running.call("POST", "/v1/products", {"name": str(number)})
    assert len([p async for p in stripe.find(Resource.PRODUCT, {})]) == 120


async def test_the_same_key_and_parameters_get_the_same_reply_for_a_day(running, clock) -> None:
    first = await running.call("POST", "/v1/customers", {"name": "A"}, Idempotency_Key="k")
    assert await running.call("POST", "/v1/customers", {"name": "A"}, Idempotency_Key="k") == first
    clock.advance(24 * HOUR + 1)
    assert await running.call("POST", "/v1/customers", {"name": "A"}, Idempotency_Key="k") != first


async def test_the_same_key_with_other_parameters_is_an_idempotency_error(running) -> None:
    await running.call("POST", "/v1/customers", {"name": "A"}, Idempotency_Key="k")
    status, body = await running.call("POST", "/v1/customers", {"name": "B"}, Idempotency_Key="k")
    assert (status, body["error"]["type"]) == (400, "idempotency_error")
    assert len((await running.call("GET", "/v1/customers"))[1]["data"]) == 1


async def test_a_refusal_by_the_schema_is_not_stored_and_one_by_the_operation_is(running) -> None:
    await running.call("POST", EVENTS, {"event_name": "calls"}, Idempotency_Key="a")
    who = await customer(running)
    assert (await running.call("POST", EVENTS, event(who), Idempotency_Key="a"))[1]["error"]["param"] == "event_name"
    await meter(running)
    assert (await running.call("POST", EVENTS, event(who), Idempotency_Key="a"))[0] == 400
    assert (await running.call("POST", EVENTS, event(who), Idempotency_Key="b"))[0] == 200


async def test_what_was_told_is_there_after_a_restart(tmp_path: Path, clock: FrozenClock) -> None:
    for attempt in range(2):
        url, stop = await serve(Sandbox(tmp_path / "state" / "stripe.db", clock), "127.0.0.1", 0)
        api = StripeApi(api_key=SANDBOX_KEY, api_base=url)
        made = await api.create(Resource.CUSTOMER, {"name": "Acme"}, key="the-one")
        found = [c["id"] async for c in api.find(Resource.CUSTOMER, {})]
        await api.close()
        await stop()
        assert (found, attempt) == ([made["id"]], attempt)


async def test_a_faulty_wish_for_a_fault_is_refused(running) -> None:
    assert "kinds" in (await running.ask("POST", "/_sandbox/faults", json={"kind": "earthquake"}))["error"]


async def test_it_starts_alone_says_that_no_money_moves_and_stops_on_a_signal(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "billing.stripe.sandbox", "--port", "0", "--state", str(tmp_path / "s.db")]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert b"no money moves" in await process.stdout.readline()
    assert b"listening on http://127.0.0.1:" in await process.stdout.readline()
    process.terminate()
    assert await process.wait() == 0


async def test_a_port_that_is_taken_is_a_plain_sentence(running) -> None:
    port = running.url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "billing.stripe.sandbox", "--port", port, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, error = await process.communicate()
    assert (process.returncode, error.count(b"\n"), b"cannot listen on" in error) == (1, 1, True)


def test_a_state_of_another_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.db") as old:
        old.execute("CREATE TABLE objects (id TEXT)")
    with pytest.raises(sqlite3.DatabaseError, match="another version of the sandbox; remove it"):
        Sandbox(tmp_path / "s.db")


async def test_a_state_that_is_no_state_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("not SQLite, but long enough to be looked at as if it were one\n" * 20)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "billing.stripe.sandbox", "--port", "0", "--state", str(tmp_path / "s.db"), stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert (process.returncode, error.count(b"\n"), b"cannot keep its state" in error) == (1, 1, True)
