"""Subscriptions: what Stripe says of their state stands here. Which plan, and since when, is ours to say, and Stripe follows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from billing.model import mailing
from billing.model.charges import title_of
from billing.model.outbox import free_from
from billing.model.plan import PlanSpec
from billing.model.subscription import ENDED, STANDINGS, PlanVersion, State, Subscription
from billing.services.ports import Unit
from billing.services.ports_stripe import InboxRow
from billing.stripe.mirror.handling import Done, Found, NotYet, named_org, org_of

STRANGER = Done(ignored="a subscription of no organization here")
REPLACED = Done(ignored="a subscription that another one has replaced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is taken over from Stripe."""

    state: State
    cancel_at_ms: int | None
    canceled_at_ms: int | None
    ended_at_ms: int | None
    trial_end_ms: int | None


def facts_of(found: Mapping[str, Any]) -> Facts:
    """Raises ValueError for a state that Stripe has not had so far."""
    state = State(found["status"])
    if found.get("pause_collection") and state in (State.ACTIVE, State.PAST_DUE):
        state = State.PAUSED  # how a pause is told to Stripe, and how one is made there
    ends = _ms(found.get("cancel_at"))
    if ends is None and found.get("cancel_at_period_end"):
        ends = _ms(max((item["current_period_end"] for item in found["items"]["data"]), default=None))
    ended = _ms(found.get("ended_at")) or (_ms(found.get("canceled_at")) if state in ENDED else None)
    return Facts(
        state=state,
        cancel_at_ms=ends if state not in ENDED else None,
        canceled_at_ms=_ms(found.get("canceled_at")),
        ended_at_ms=ended,
        trial_end_ms=_ms(found.get("trial_end")),
    )


def mirrored(subscription: Subscription, facts: Facts, now_ms: int, *, told_end_ms: int | None = None) -> Subscription:
    """As Stripe has it. Pure; the same facts again change nothing. Stripe keeps seconds: what is the same to the second stays as it is.
    `told_end_ms`: when Stripe's ends, as it was told, and ours goes on with a plan that costs nothing."""
    state, trial = _state(subscription.state, facts.state), subscription.trial
    ended = state in ENDED
    if trial is not None and facts.trial_end_ms is not None and facts.trial_end_ms > trial.start_ms:
        trial = replace(trial, end_ms=_kept(trial.end_ms, facts.trial_end_ms) or trial.end_ms)
    # Where it is not renewed, ours tells Stripe when it ends, without being canceled.
    announced = subscription.cancel_at_ms is None and _same(subscription.ends_at_ms or told_end_ms, facts.cancel_at_ms)
    canceled_ms = subscription.canceled_at_ms if announced or subscription.canceled_at_ms else facts.canceled_at_ms
    goes = announced or facts.canceled_at_ms is not None
    after = replace(
        subscription,
        state=state,
        cancel_at_ms=subscription.cancel_at_ms if announced else _kept(subscription.cancel_at_ms, facts.cancel_at_ms),
        cancel_reason=subscription.cancel_reason if goes else None,
        canceled_at_ms=canceled_ms if goes else None,
        paused_at_ms=(subscription.paused_at_ms or now_ms) if state is State.PAUSED else None,
        ended_at_ms=(subscription.ended_at_ms or facts.ended_at_ms or now_ms) if ended else None,
        awaited=None if ended else subscription.awaited,
        trial=trial,
    )
    return after if after == subscription else replace(after, revision=subscription.revision + 1)


def _state(ours: State, stripes: State) -> State:
    """Ours may have given up on a debt that Stripe still tries to collect."""
    return ours if (ours, stripes) == (State.UNPAID, State.PAST_DUE) else stripes


def _same(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one // 1000 == other // 1000


def _kept(ours: int | None, stripes: int | None) -> int | None:
    return ours if _same(ours, stripes) else stripes


async def write_subscription(unit: Unit, _row: InboxRow, found: Found | None, now_ms: int) -> Done:
    """State, end of the trial, cancellation. An organization whose standing changed is told to the gateways.

    While something of ours waits to be told to Stripe, Stripe's word is older than ours: the event waits.
    """
    org_id = await _org(unit, found, now_ms) if found is not None else None
    if found is None or org_id is None or await unit.orgs.find(org_id, lock=True) is None:
        return STRANGER
    known, facts = await unit.stripe_ids.of("subscription", org_id), facts_of(found)
    if known is None and facts.state not in ENDED:
        await unit.stripe_ids.keep("subscription", org_id, found["id"], now_ms)
    elif known != found["id"]:
        return REPLACED
    if await unit.outbox.waiting(org_id):
        raise NotYet("something of this organization waits to be told to Stripe first")
    before = await unit.subscriptions.of_org(org_id)
    if before is None:
        return Done()  # it ended here as well
    told_end_ms = free_from(before, await _spec(unit, before.awaited)) if before.awaited else None
    if facts.state in ENDED and (told_end_ms is not None or not await _is_paid(unit, before)):
        return Done()  # as it was told: ours goes on, on a plan that costs nothing, now or from the turn of the period
    after = mirrored(before, facts, now_ms, told_end_ms=told_end_ms)
    if after == before:
        return Done()
    await unit.subscriptions.put(after)
    if after.ended_at_ms is not None:
        await _say_goodbye(unit, before, after.ended_at_ms, now_ms)
    if STANDINGS[after.state] is STANDINGS[before.state]:
        return Done()
    await unit.orgs.raise_versions([org_id])
    return Done(republish=(org_id,))


async def _spec(unit: Unit, version: PlanVersion) -> PlanSpec | None:
    return await unit.plans.version(version.plan, version.version)


async def _is_paid(unit: Unit, s: Subscription) -> bool:
    spec = await _spec(unit, s.version)
    return spec is None or spec.is_paid


async def _say_goodbye(unit: Unit, before: Subscription, ended_ms: int, now_ms: int) -> None:
    """As where it is ended here: no more mails of a trial; to who paid goes an offer, a week later."""
    await unit.mails.drop(before.org_id, mailing.TRIAL_SERIES, now_ms)
    spec = await unit.plans.version(before.plan, before.plan_version)
    if before.state is not State.TRIALING and spec is not None and spec.is_paid:
        told = mailing.win_back(org_id=before.org_id, subscription_id=before.id, plan=title_of(spec), ended_ms=ended_ms)
        await unit.mails.add(told, now_ms)


async def _org(unit: Unit, found: Found, now_ms: int) -> str | None:
    return (
        await unit.stripe_ids.key_of("subscription", found["id"])
        or await named_org(unit, found)
        or await org_of(unit, found.get("customer"), now_ms)
    )


def _ms(seconds: int | None) -> int | None:
    return seconds * 1000 if seconds is not None else None
