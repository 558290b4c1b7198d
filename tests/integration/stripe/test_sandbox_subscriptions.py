"""A subscription's whole life at the sandbox: renewed, changed, tried and not paid, paused, ended. Cent by cent."""

from datetime import UTC, datetime

import pytest

from tests.integration.stripe.shop import DAY, START, Shop


@pytest.fixture
async def shop(running) -> Shop:
    return await Shop(running).open()


def day(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d")


async def test_a_subscription_is_paid_at_once_and_renewed_on_the_day_of_its_anchor(shop) -> None:
    made = await shop.subscribe(await shop.price())
    assert made["status"] == "active"
    await shop.to(100)
    assert [(day(i["created"]), i["billing_reason"], i["status"]) for i in await shop.invoices()] == [
        ("2026-01-31", "subscription_create", "paid"),
        ("2026-02-28", "subscription_cycle", "paid"),
        ("2026-03-31", "subscription_cycle", "paid"),
        ("2026-04-30", "subscription_cycle", "paid"),
    ]
    prefix = (await shop.invoices())[0]["number"][:-4]
    assert [i["number"] for i in await shop.invoices()] == [f"{prefix}000{n}" for n in (1, 2, 3, 4)]


async def test_usage_is_billed_when_its_period_is_over_and_what_comes_while_the_invoice_is_a_draft_counts(shop) -> None:
    await shop.subscribe(await shop.price(), await shop.metered())
    await shop.to(10)
    await shop.use_calls(40_000, 5)
    await shop.to(28.01)  # a quarter of an hour after the period's end: the invoice is a draft
    await shop.use_calls(10_000, 27)
    await shop.use_calls(7, 28.001)  # belongs to the next period
    (_, draft) = await shop.invoices()
    assert draft["status"] == "draft"
    await shop.to(29)
    (_, invoice) = await shop.invoices()
    assert (invoice["status"], [line["amount"] for line in invoice["lines"]["data"]]) == ("paid", [1500, 1000])


async def test_a_change_in_mid_period_waits_as_two_lines_for_the_next_invoice(shop) -> None:
    small, big = await shop.price(1000), await shop.price(2000)
    made = await shop.subscribe(small)
    await shop.to(14)
    item = {"items[0][id]": made["items"]["data"][0]["id"], "items[0][price]": big}
    asked = {"subscription": made["id"]} | {
        f"subscription_details[{k.partition('[')[0]}][{k.partition('[')[2]}": v for k, v in item.items()
    }
    preview = await shop.ask("POST", "/v1/invoices/create_preview", params=asked)
    assert [line["amount"] for line in preview["lines"]["data"]] == [-500, 1000, 2000]
    await shop.change(made, **item)
    assert await shop.totals() == [("paid", 1000)]
    await shop.to(29)
    assert (await shop.totals())[1:] == [("paid", 2500)]
    assert [line["amount"] for line in (await shop.invoices())[1]["lines"]["data"]] == [-500, 1000, 2000]


@pytest.mark.parametrize(("behavior", "at_once", "renewal"), [("always_invoice", [500], 2000), ("none", [], 2000)])
async def test_a_change_is_invoiced_at_once_or_not_at_all_where_asked(behavior, at_once, renewal, shop) -> None:
    made = await shop.subscribe(await shop.price(1000))
    await shop.to(14)
    item = {"items[0][id]": made["items"]["data"][0]["id"], "items[0][price]": await shop.price(2000)}
    await shop.change(made, **item, proration_behavior=behavior)
    assert (await shop.totals())[1:] == [("paid", total) for total in at_once]
    await shop.to(29)
    assert (await shop.totals())[-1] == ("paid", renewal)


async def test_a_month_becomes_a_year_in_a_new_cycle_with_the_rest_credited(shop) -> None:
    made = await shop.subscribe(await shop.price(1000))
    await shop.to(7)
    item = {"items[0][id]": made["items"]["data"][0]["id"], "items[0][price]": await shop.price(10_000, "year")}
    changed = await shop.change(made, **item)
    assert (await shop.totals())[1:] == [("paid", 10_000 - 750)]
    assert day(changed["items"]["data"][0]["current_period_end"]) == "2027-02-07"


async def test_a_trial_costs_nothing_is_announced_and_ends_in_a_paid_period(shop) -> None:
    made = await shop.subscribe(await shop.price(), await shop.metered(), trial_period_days=14)
    assert (made["status"], await shop.totals()) == ("trialing", [("paid", 0)])
    await shop.events()
    await shop.use_calls(50_000, 0)
    await shop.to(12)
    assert await shop.events("customer.subscription") == ["customer.subscription.trial_will_end"]
    await shop.to(15)
    assert ((await shop.now(made))["status"], (await shop.totals())[1:]) == ("active", [("paid", 1000)])


async def test_a_trial_ended_by_hand_is_paid_now(shop) -> None:
    made = await shop.subscribe(await shop.price(), trial_period_days=14)
    await shop.to(3)
    changed = await shop.change(made, trial_end="now")
    assert (changed["status"], (await shop.totals())[1:]) == ("active", [("paid", 1000)])
    assert day(changed["items"]["data"][0]["current_period_end"]) == "2026-03-03"


@pytest.mark.parametrize(("behavior", "status"), [("cancel", "canceled"), ("pause", "paused"), ("create_invoice", "past_due")])
async def test_what_becomes_of_a_trial_without_a_card_is_a_setting(behavior, status, running) -> None:
    shop = await Shop(running).open(card=None)
    wish = {"trial_settings[end_behavior][missing_payment_method]": behavior}
    made = await shop.subscribe(await shop.price(), trial_period_days=14, **wish)
    await shop.to(15)
    assert (await shop.now(made))["status"] == status
    if status == "paused":
        await shop.use("pm_card_visa")
        assert (await shop.ask("POST", f"/v1/subscriptions/{made['id']}/resume"))["status"] == "active"
        assert (await shop.totals())[-1] == ("paid", 1000)


async def test_a_failed_renewal_is_tried_again_after_3_5_and_7_days(shop) -> None:
    made = await shop.subscribe(await shop.price())
    await shop.fails("insufficient_funds", times=2)
    tries = []
    for at in (28.1, 31.1, 36.1):
        await shop.to(at)
        invoice = (await shop.invoices())[-1]
        tries.append(((await shop.now(made))["status"], invoice["status"], invoice["attempt_count"]))
    assert (await shop.ask("GET", f"/v1/customers/{shop.customer}"))["delinquent"] is False
    assert tries == [("past_due", "open", 1), ("past_due", "open", 2), ("active", "paid", 3)]


@pytest.mark.parametrize("after", ["cancel", "unpaid", "past_due"])
async def test_after_the_last_try_the_settings_decide(after, shop, running) -> None:
    await running.ask("POST", "/_sandbox/settings", json={"after_retries": after})
    made = await shop.subscribe(await shop.price())
    await shop.fails("generic_decline")
    await shop.to(45)
    over = await shop.now(made)
    assert over["status"] == {"cancel": "canceled"}.get(after, after)
    assert (over["cancellation_details"]["reason"] == "payment_failed") is (after == "cancel")
    assert (await shop.invoices())[-1]["attempt_count"] == 4


async def test_an_unpaid_subscription_comes_back_with_its_latest_invoice_paid(shop, running) -> None:
    await running.ask("POST", "/_sandbox/settings", json={"after_retries": "unpaid"})
    made = await shop.subscribe(await shop.price())
    await shop.fails("generic_decline")
    await shop.to(45)
    await shop.fails(None)
    await shop.ask("POST", f"/v1/invoices/{(await shop.invoices())[-1]['id']}/pay")
    assert (await shop.now(made))["status"] == "active"


async def test_a_first_invoice_that_is_not_paid_in_23_hours_ends_it(running) -> None:
    shop = await Shop(running).open("pm_card_chargeCustomerFail")
    made = await shop.subscribe(await shop.price())
    assert (made["status"], await shop.totals()) == ("incomplete", [("open", 1000)])
    await shop.to(1)
    assert ((await shop.now(made))["status"], await shop.totals()) == ("incomplete_expired", [("void", 1000)])


async def test_a_first_invoice_paid_by_another_card_makes_it_active(running) -> None:
    shop = await Shop(running).open("pm_card_chargeCustomerFail")
    made = await shop.subscribe(await shop.price())
    await shop.ask("POST", f"/v1/invoices/{made['latest_invoice']}/pay", payment_method="pm_card_visa")
    assert (await shop.now(made))["status"] == "active"


async def test_default_incomplete_waits_for_the_customer_who_pays_the_intent(shop) -> None:
    asked = {"payment_behavior": "default_incomplete", "expand[]": "latest_invoice.payments"}
    made = await shop.subscribe(await shop.price(), **asked)
    payment = made["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"]
    assert made["status"] == "incomplete"
    await shop.ask("POST", f"/v1/payment_intents/{payment}/confirm", payment_method="pm_card_mastercard")
    assert ((await shop.now(made))["status"], await shop.totals()) == ("active", [("paid", 1000)])


async def test_error_if_incomplete_undoes_everything(running) -> None:
    shop = await Shop(running).open("pm_card_chargeCustomerFail")
    params = {"customer": shop.customer, "items[0][price]": await shop.price(), "payment_behavior": "error_if_incomplete"}
    status, _ = await running.call("POST", "/v1/subscriptions", params)
    assert (status, await shop.invoices()) == (402, [])
    assert (await shop.ask("GET", "/v1/subscriptions", status="all"))["data"] == []


async def test_ordered_to_end_with_its_period_it_bills_usage_once_more_and_can_be_kept(shop) -> None:
    made = await shop.subscribe(await shop.price(), await shop.metered())
    ordered = await shop.change(made, cancel_at_period_end="true", **{"cancellation_details[comment]": "too dear"})
    assert (day(ordered["cancel_at"]), ordered["cancellation_details"]["comment"]) == ("2026-02-28", "too dear")
    kept = await shop.change(made, cancel_at_period_end="false")
    assert (kept["cancel_at"], kept["canceled_at"]) == (None, None)
    await shop.change(made, cancel_at_period_end="true")
    await shop.to(5)
    await shop.use_calls(10_000, 4)
    await shop.to(29)
    assert ((await shop.now(made))["status"], await shop.totals()) == ("canceled", [("paid", 1000), ("paid", 300)])


@pytest.mark.parametrize(
    ("how", "totals", "balance"),
    [
        ({}, [], 0),
        ({"invoice_now": "true"}, [("paid", 300)], 0),
        ({"invoice_now": "true", "prorate": "true"}, [("paid", -200)], -200),
    ],
)
async def test_ended_now_it_bills_and_credits_what_it_is_told_to(how, totals, balance, shop) -> None:
    made = await shop.subscribe(await shop.price(), await shop.metered())
    await shop.to(14)
    await shop.use_calls(10_000, 4)
    over = await shop.ask("DELETE", f"/v1/subscriptions/{made['id']}", params=how)
    assert (over["status"], (await shop.totals())[1:]) == ("canceled", totals)
    assert (await shop.ask("GET", f"/v1/customers/{shop.customer}"))["balance"] == balance


@pytest.mark.parametrize(("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")])
async def test_paused_collection_does_with_invoices_as_told_and_resumes(behavior, status, shop) -> None:
    made = await shop.subscribe(await shop.price())
    await shop.change(made, **{"pause_collection[behavior]": behavior, "pause_collection[resumes_at]": START + 40 * DAY})
    await shop.to(35)
    assert ((await shop.now(made))["status"], (await shop.totals())[1:]) == ("active", [(status, 1000)])
    await shop.to(60)
    assert ((await shop.now(made))["pause_collection"], (await shop.totals())[2:]) == (None, [("paid", 1000)])


async def test_a_sent_invoice_is_a_draft_for_an_hour_and_overdue_when_its_days_are_over(shop) -> None:
    made = await shop.subscribe(await shop.price(), collection_method="send_invoice", days_until_due=10)
    assert (made["status"], await shop.totals()) == ("active", [("draft", 1000)])
    await shop.to(1)
    (invoice,) = await shop.invoices()
    assert (invoice["status"], day(invoice["due_date"])) == ("open", "2026-02-10")
    await shop.to(11)
    assert (await shop.now(made))["status"] == "past_due"
    await shop.ask("POST", f"/v1/invoices/{invoice['id']}/pay", paid_out_of_band="true")
    assert (await shop.now(made))["status"] == "active"


async def test_a_start_in_the_past_is_billed_from_there_to_the_anchor(shop) -> None:
    config = {"billing_cycle_anchor_config[day_of_month]": 1, "billing_cycle_anchor_config[hour]": 0}
    config |= {"billing_cycle_anchor_config[minute]": 0, "billing_cycle_anchor_config[second]": 0}
    await shop.subscribe(await shop.price(3100), backdate_start_date=START - 15 * DAY, **config)  # 16 January to 1 February
    assert await shop.totals() == [("paid", 1600)]
    await shop.to(2)
    assert (await shop.totals())[1:] == [("paid", 3100)]


async def test_a_card_that_wants_its_owner_leaves_a_renewal_open(running) -> None:
    shop = await Shop(running).open()
    made = await shop.subscribe(await shop.price())
    await shop.use("pm_card_authenticationRequired")
    await shop.events()
    await shop.to(28.5)
    assert (await shop.now(made))["status"] == "past_due"
    assert "invoice.payment_action_required" in await shop.events("invoice")


async def test_the_events_of_a_renewal_come_in_order(shop) -> None:
    await shop.subscribe(await shop.price())
    await shop.events()
    await shop.to(29)
    assert await shop.events() == [
        "test_helpers.test_clock.advancing", "invoice.upcoming", "invoice.created", "customer.subscription.updated",
        "payment_intent.created", "invoice.finalized", "charge.succeeded", "payment_intent.succeeded", "invoice_payment.paid",
        "invoice.paid", "invoice.payment_succeeded", "test_helpers.test_clock.ready",
    ]  # fmt: skip


async def test_without_a_test_clock_the_sandboxs_own_time_renews(running, clock) -> None:
    shop = await Shop(running).open()
    who = (await shop.ask("POST", "/v1/customers", name="Plain"))["id"]
    shop.customer = who
    await shop.use("pm_card_visa")
    made = await shop.subscribe(await shop.price())
    clock.advance(70 * DAY)
    assert ((await shop.now(made))["status"], await shop.totals()) == ("active", [("paid", 1000)] * 3)


async def test_a_deleted_customers_subscriptions_end(shop) -> None:
    made = await shop.subscribe(await shop.price())
    await shop.ask("DELETE", f"/v1/customers/{shop.customer}")
    assert (await shop.now(made))["status"] == "canceled"
    await shop.to(60)
