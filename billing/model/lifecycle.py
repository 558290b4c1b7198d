"""What happens to a subscription, worked out: the subscription afterwards, and the items that it causes. Pure.

Each function takes the subscription as it stands, with its `revision` raised for the change, and returns a `Step`; who calls it
holds the organization, writes the step and tells the gateways and Stripe (billing/services/lifecycle.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model.charges import base_items, priced, remaining_items, unused_items
from billing.model.cycle import period_of
from billing.model.invoice_item import InvoiceItem
from billing.model.plan import PlanSpec
from billing.model.subscription import PERMITS, TRANSITIONS, Event, Permit, State, Subscription, Trial, after, first_period
from billing.model.subscription_terms import Terms, with_terms

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`to` is the subscription afterwards, `ends_usage_ms` where the usage period under way ends before its time."""

    to: Subscription
    items: Sequence[InvoiceItem] = ()
    ends_usage_ms: int | None = None


def begin(
    new: Subscription, spec: PlanSpec, now_ms: int, *, anchor_ms: int | None = None, trial_days: int = 0, charge: bool = True
) -> Step:  # fmt: skip
    """A subscription starts: charged up to the end of its first period, or with a trial, whose end is then its anchor unless one is
    given. Of an anchor in the past the trial is counted from it. `new` says org, plan, price and interval."""
    now_ms = whole(now_ms)
    began_ms = now_ms if anchor_ms is None else min(whole(anchor_ms), now_ms)
    trial_end_ms = began_ms + trial_days * DAY_MS
    if trial_days and trial_end_ms > now_ms:
        trial = Trial(start_ms=began_ms, end_ms=trial_end_ms)
        anchor_ms = trial_end_ms if anchor_ms is None else whole(anchor_ms)
        return Step(
            to=replace(
                new, state=after(None, Event.START_TRIAL), anchor_ms=anchor_ms, trial=trial, trial_days=trial_days,
                period=(began_ms, trial_end_ms),
            )
        )  # fmt: skip
    to = replace(new, state=after(None, Event.START), anchor_ms=now_ms if anchor_ms is None else whole(anchor_ms), paid=charge)
    to = replace(to, period=first_period(to.cycle, now_ms))
    return Step(to=to, items=base_items(to, priced(to, spec)) if charge else ())


def onto(s: Subscription, spec: PlanSpec, version: int, terms: Terms | None) -> Subscription:
    """On another plan, or another version of it, at its price and interval, under these terms."""
    sold = with_terms(spec, terms, s.currency)
    return replace(
        s, plan=spec.name, plan_version=version, amount=sold.price.get(s.currency), interval=sold.interval,
        interval_count=sold.interval_count, awaited=None, terms=terms or None,
    )  # fmt: skip


def move(s: Subscription, old: PlanSpec, new: PlanSpec, version: int, terms: Terms | None, now_ms: int) -> Step:
    """To another plan or version at once: the unused part is given back at the old price, and the rest of the period charged at the
    new one. To another interval: a whole period is charged, and everything is counted from now on."""
    now_ms, to = whole(now_ms), onto(s, new, version, terms)
    if Permit.RENEW not in PERMITS[s.state]:
        return Step(to=to)
    if s.period is not None and s.period[1] <= now_ms:  # its renewal is due, and will be charged at the new price
        return Step(to=to if to.cycle == s.cycle else replace(to, next_anchor_ms=s.period[1]))
    period = s.billing_period(now_ms)
    left = (now_ms, period[1])
    unused = unused_items(s, priced(s, old), left)
    if (to.interval, to.interval_count) == (s.interval, s.interval_count):
        to = replace(to, period=period, paid=True)
        return Step(to=to, items=[*unused, *remaining_items(to, priced(to, new), left)])
    to = replace(to, anchor_ms=now_ms, next_anchor_ms=None, paid=True)
    to = replace(to, period=first_period(to.cycle, now_ms))
    return Step(to=to, items=[*unused, *base_items(to, priced(to, new))], ends_usage_ms=now_ms)


def align(s: Subscription, spec: PlanSpec, anchor_ms: int, end_ms: int, now_ms: int) -> Step:
    """The period under way ends at `end_ms`, from where on periods are counted from `anchor_ms`. What it loses is given back, what
    it gains is charged, at the price that stands."""
    start_ms, old_end_ms = s.billing_period(now_ms)
    to = replace(s, period=(start_ms, end_ms), next_anchor_ms=anchor_ms)
    if s.cancel_at_ms == old_end_ms:
        to = replace(to, cancel_at_ms=end_ms)
    price = priced(s, spec)
    if end_ms < old_end_ms:
        return Step(to=to, items=unused_items(s, price, (end_ms, old_end_ms)))
    return Step(to=to, items=remaining_items(s, price, (old_end_ms, end_ms)) if s.paid else ())


def renew(s: Subscription, spec: PlanSpec, awaited: PlanSpec | None) -> Step:
    """The next period, one after the other, however late this is done: on the awaited plan, from the awaited anchor. A state that
    renews is charged for it in advance. `spec` is the plan as it stands, `awaited` the one waited for."""
    assert s.period is not None
    at_ms, to, ends_usage_ms = s.period[1], s, None
    if awaited is not None and s.awaited is not None:
        same = awaited.name == s.plan
        to, spec = onto(s, awaited, s.awaited.version, s.terms if same else None), awaited
    if (to.interval, to.interval_count) != (s.interval, s.interval_count):
        to = replace(to, anchor_ms=at_ms)
    elif s.next_anchor_ms is not None:
        to = replace(to, anchor_ms=s.next_anchor_ms)
    if to.anchor_ms != s.anchor_ms:
        ends_usage_ms = at_ms
    charges = Permit.RENEW in PERMITS[s.state]
    to = replace(to, next_anchor_ms=None, period=(at_ms, period_of(to.cycle, at_ms)[1]), paid=charges)
    return Step(to=to, items=base_items(to, priced(to, spec)) if charges else (), ends_usage_ms=ends_usage_ms)


def end_trial(s: Subscription, spec: PlanSpec, *, former: PlanSpec | None, can_pay: bool, auto_downgrade: bool) -> tuple[Step, Event]:
    """What becomes of a trial whose time is over. A reverse trial falls back, unless auto-downgrade is off and there is something to
    charge; any other goes on where there is something to charge, or nothing to pay, and else lapses, or with auto-downgrade off
    waits."""
    assert s.trial is not None
    at_ms, trial = s.trial.end_ms, replace(s.trial, former=None)
    if s.trial.former is not None and former is not None and (auto_downgrade or not can_pay):
        to = replace(onto(s, former, s.trial.former.version, None), state=after(s.state, Event.RETURN), trial=trial)
        return _first_paid(to, former, at_ms), Event.RETURN
    if can_pay or not spec.is_paid:
        return _first_paid(replace(s, state=after(s.state, Event.CONVERT), trial=trial), spec, at_ms), Event.CONVERT
    if auto_downgrade:
        reason = s.cancel_reason or "the trial ended without a payment method"
        to = replace(
            s, state=after(s.state, Event.LAPSE), ended_at_ms=at_ms, canceled_at_ms=s.canceled_at_ms or at_ms, cancel_reason=reason
        )
        return Step(to=to), Event.LAPSE
    to = replace(s, state=after(s.state, Event.STALL), trial=trial, paused_at_ms=at_ms, period=(at_ms, period_of(s.cycle, at_ms)[1]))
    return Step(to=to), Event.STALL


def convert(s: Subscription, spec: PlanSpec, now_ms: int) -> Step:
    """A trial is bought before its end: the first paid period starts now, and where the trial's end was the anchor, so does
    everything that is counted from it."""
    assert s.trial is not None
    now_ms = whole(now_ms)
    moved = s.anchor_ms == s.trial.end_ms
    to = replace(
        s, state=after(s.state, Event.CONVERT), trial=Trial(start_ms=s.trial.start_ms, end_ms=max(now_ms, s.trial.start_ms + 1000))
    )
    step = _first_paid(replace(to, anchor_ms=now_ms) if moved else to, spec, now_ms)
    return replace(step, ends_usage_ms=now_ms) if moved else step


def _first_paid(to: Subscription, spec: PlanSpec, at_ms: int) -> Step:
    to = replace(to, period=(at_ms, period_of(to.cycle, at_ms)[1]), paid=True, paused_at_ms=None)
    return Step(to=to, items=base_items(to, priced(to, spec)))


def reverse_trial(s: Subscription, spec: PlanSpec, version: int, days: int, now_ms: int) -> Step:
    """Another plan for so many days, for nothing; the plan before it is kept. Usage periods stay as they are."""
    now_ms = whole(now_ms)
    former = replace(onto(s, spec, version, None), state=after(s.state, Event.START_TRIAL))
    trial = Trial(start_ms=now_ms, end_ms=now_ms + days * DAY_MS, former=s.version)
    return Step(to=replace(former, trial=trial, trial_days=days, period=(now_ms, trial.end_ms), paid=False))


def pause(s: Subscription, spec: PlanSpec, now_ms: int) -> Step:
    """What is left of the period is given back; periods go on, and are not charged."""
    now_ms = whole(now_ms)
    period = s.billing_period(now_ms)
    to = replace(s, state=after(s.state, Event.PAUSE), period=period, paid=False, paused_at_ms=now_ms)
    return Step(to=to, items=unused_items(s, priced(s, spec), (now_ms, period[1])))


def resume(s: Subscription, spec: PlanSpec, event: Event, now_ms: int) -> Step:
    """Back in force (`event` says how): what is left of the period is charged, where it was not."""
    now_ms = whole(now_ms)
    period = s.billing_period(now_ms)
    to = replace(s, state=after(s.state, event), period=period, paid=True, paused_at_ms=None)
    return Step(to=to, items=() if s.paid else remaining_items(to, priced(to, spec), (now_ms, period[1])))


def paid(s: Subscription, spec: PlanSpec, events: Sequence[Event], now_ms: int) -> Step:
    """What payments say, one after the other; what does not concern the state it is in changes nothing."""
    step = Step(to=s)
    for event in events:
        if (step.to.state, event) not in TRANSITIONS:
            continue
        if step.to.state is State.UNPAID and event is Event.PAY:
            step = resume(step.to, spec, event, now_ms)
        else:
            step = replace(step, to=replace(step.to, state=after(step.to.state, event)))
    return step


def finish(s: Subscription, event: Event, at_ms: int, reason: str | None = None) -> Step:
    """It ends at that instant, and nothing is given back."""
    to = replace(
        s, state=after(s.state, event), ended_at_ms=at_ms, canceled_at_ms=s.canceled_at_ms or at_ms,
        cancel_reason=reason or s.cancel_reason, awaited=None, next_anchor_ms=None,
    )  # fmt: skip
    return Step(to=to)


def net(items: Sequence[InvoiceItem]) -> Decimal:
    return sum((item.amount for item in items), Decimal(0))


Due = Event | Permit  # RUN_OUT, CONVERT (its trial ends, whatever comes of it), RENEW


def next_due(s: Subscription) -> tuple[int, Due] | None:
    """What happens next by itself, and when: the earliest, and of those at one instant the one that ends it."""
    waiting: list[tuple[int, int, Due]] = []
    if s.state in (State.CANCELED, State.INCOMPLETE_EXPIRED, State.INCOMPLETE):
        return None
    if s.ends_at_ms is not None:
        waiting.append((s.ends_at_ms, 0, Event.RUN_OUT))
    if s.state is State.TRIALING:
        if s.trial is not None:
            waiting.append((s.trial.end_ms, 1, Event.CONVERT))
    elif s.period is not None:
        waiting.append((s.period[1], 2, Permit.RENEW))
    if not waiting:
        return None
    at_ms, _, due = min(waiting, key=lambda each: each[:2])
    return at_ms, due


def whole(at_ms: int) -> int:
    """To the second, downwards: as fine as anything is counted."""
    return at_ms // 1000 * 1000
