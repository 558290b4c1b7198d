"""What a change of a subscription comes to, and what happens to it next by itself."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.ledger import period_end_ms
from billing.model import lifecycle
from billing.model.lifecycle import begin, next_due
from billing.model.plan import Interval, PlanSpec
from billing.model.subscription import Event, Permit, State, Subscription, Trial
from metering.model.clock import to_ms

PRO = PlanSpec(name="pro", title="Pro", price={"usd": Decimal(49)})
STARTER = PlanSpec(name="starter", title="Starter", price={"usd": Decimal(19)})
YEARLY = PlanSpec(name="yearly", title="Pro", price={"usd": Decimal(490)}, interval=Interval.YEAR)


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


NEW = Subscription(
    id="s", org_id="o", plan="pro", plan_version=1, state=State.ACTIVE, anchor_ms=0, interval=Interval.MONTH, currency="usd",
    amount=Decimal(49),
)  # fmt: skip


@pytest.mark.parametrize(
    ("anchor", "trial_days", "state", "anchored", "period", "charged"),
    [
        (None, 0, State.ACTIVE, "2026-04-10", ("2026-04-10", "2026-05-10"), "49.00"),
        ("2026-05-01", 0, State.ACTIVE, "2026-05-01", ("2026-04-10", "2026-05-01"), "34.30"),  # 21 of 30 days
        ("2026-01-05", 0, State.ACTIVE, "2026-01-05", ("2026-04-05", "2026-05-05"), "49.00"),  # taken over: whole periods
        (None, 14, State.TRIALING, "2026-04-24", ("2026-04-10", "2026-04-24"), "0"),
        ("2026-04-05", 14, State.TRIALING, "2026-04-05", ("2026-04-05", "2026-04-19"), "0"),
        ("2026-01-05", 14, State.ACTIVE, "2026-01-05", ("2026-04-05", "2026-05-05"), "49.00"),  # its trial is long over
    ],
)
def test_a_subscription_begins(
    anchor: str | None, trial_days: int, state: State, anchored: str, period: tuple[str, str], charged: str
) -> None:
    step = begin(NEW, PRO, ms("2026-04-10") + 7, anchor_ms=anchor and ms(anchor), trial_days=trial_days)
    assert (step.to.state, step.to.anchor_ms, step.to.period) == (state, ms(anchored), (ms(period[0]), ms(period[1])))
    assert lifecycle.net(step.items) == Decimal(charged)


ACTIVE = begin(NEW, PRO, ms("2026-04-01")).to


@given(st.lists(st.tuples(st.integers(0, 29 * 86_400), st.sampled_from([PRO, STARTER])), max_size=6))
@settings(max_examples=60, deadline=None)
def test_whatever_is_changed_within_a_period_costs_what_was_held_for_how_long(changes: list[tuple[int, PlanSpec]]) -> None:
    s, spec, total, held_ms = ACTIVE, PRO, Decimal(49), ms("2026-04-01")
    exact = Decimal(0)
    for after_s, plan in sorted(changes, key=lambda each: each[0]):
        now_ms = ms("2026-04-01") + after_s * 1000
        exact += spec.price["usd"] * (now_ms - held_ms) / (30 * 86_400_000)
        step = lifecycle.move(replace(s, revision=s.revision + 1), spec, plan, 1, None, now_ms)
        s, spec, held_ms = step.to, plan, now_ms
        total += lifecycle.net(step.items)
    exact += spec.price["usd"] * (ms("2026-05-01") - held_ms) / (30 * 86_400_000)
    assert abs(total - exact) <= Decimal("0.01") * len(changes)  # half a cent for each line


def test_a_renewal_that_is_late_is_the_period_after_the_last() -> None:
    assert lifecycle.renew(ACTIVE, PRO, None).to.period == (ms("2026-05-01"), ms("2026-06-01"))


def test_before_an_overdue_renewal_a_change_costs_nothing_and_the_renewal_is_at_the_new_price() -> None:
    step = lifecycle.move(ACTIVE, PRO, STARTER, 1, None, ms("2026-05-01T00:00:10"))
    assert step.items == ()
    assert lifecycle.net(lifecycle.renew(step.to, STARTER, None).items) == 19
    yearly = lifecycle.renew(lifecycle.move(ACTIVE, PRO, YEARLY, 1, None, ms("2026-05-01T00:00:10")).to, YEARLY, None)
    assert (yearly.to.period, yearly.ends_usage_ms) == ((ms("2026-05-01"), ms("2027-05-01")), ms("2026-05-01"))


@pytest.mark.parametrize(
    ("s", "at", "due"),
    [
        (ACTIVE, "2026-05-01", Permit.RENEW),
        (replace(ACTIVE, state=State.PAUSED), "2026-05-01", Permit.RENEW),  # periods go on
        (replace(ACTIVE, cancel_at_ms=ms("2026-05-01")), "2026-05-01", Event.RUN_OUT),
        (replace(ACTIVE, auto_renew=False), "2026-05-01", Event.RUN_OUT),
        (replace(ACTIVE, state=State.TRIALING, trial=Trial(start_ms=0, end_ms=ms("2026-04-15"))), "2026-04-15", Event.CONVERT),
    ],
)
def test_what_happens_next(s: Subscription, at: str, due: lifecycle.Due) -> None:
    assert next_due(s) == (ms(at), due)


@pytest.mark.parametrize("state", [State.CANCELED, State.INCOMPLETE, State.INCOMPLETE_EXPIRED])
def test_nothing_happens_to_what_ended_or_has_not_begun(state: State) -> None:
    assert next_due(replace(ACTIVE, state=state)) is None


@pytest.mark.parametrize(
    ("anchor", "anchored", "ends"),
    [
        ("2026-04-01", "2026-04-01", "2026-05-01"),
        ("2026-04-16", "2026-04-16", "2026-04-16"),  # another anchor took its place
        ("2026-06-16", "2026-06-16", "2026-05-01"),  # much later
        ("2026-06-01", "2026-06-01", "2026-05-01"),
        ("2026-04-15", None, "2026-05-01"),
    ],
)
def test_usage_that_comes_late_ends_its_period_where_the_anchor_was_changed(anchor: str, anchored: str | None, ends: str) -> None:
    assert period_end_ms(ms("2026-04-01"), ms(anchor), anchored and ms(anchored)) == ms(ends)
