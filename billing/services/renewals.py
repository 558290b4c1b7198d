"""What happens to subscriptions by itself when its time has come: periods begin, trials end, cancellations and awaited changes come true.

One thing of one subscription is one transaction with its organization held, in which it is looked at again: whoever else does the
same at once, or died in the middle, it happens once. What was missed is made up for in order, one period after the other.
"""

import logging

from billing.model import lifecycle
from billing.model.subscription import Event, Subscription, sold
from billing.services.lifecycle import Changed, Held, Lifecycle, NoSubscription, Work
from billing.services.lookup import NoSuchOrganization
from billing.services.ports import Unit
from billing.services.trials import trial_over
from metering.model.clock import Clock
from metering.model.errors import Conflict, DependencyUnavailable, WeighbridgeError

log = logging.getLogger(__name__)

_PAGE = 500


class Renewals:
    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle

    async def run_due(self) -> int:
        """Everything whose time has come; returns how many things happened. One organization that cannot go on keeps no other from it.
        Raises DependencyUnavailable."""
        done, after = 0, None
        while True:
            async with self._life.books.transaction() as unit:
                org_ids = await unit.subscriptions.orgs_due(self._life.clock.now_ms(), after, _PAGE)
            for org_id in org_ids:
                try:
                    done += await self.catch_up(org_id)
                except DependencyUnavailable:
                    raise
                except WeighbridgeError as fault:
                    log.error("the subscription of organization %s cannot go on: %s", org_id, fault)
            if len(org_ids) < _PAGE:
                return done
            after = org_ids[-1]

    async def catch_up(self, org_id: str) -> int:
        """One organization's, in order. The gateways are told once, where its terms changed."""
        done, tell = 0, False
        while (changed := await self._next(org_id)) is not None:
            done += 1
            tell = tell or _terms(changed.before) != _terms(changed.after)
        if tell:
            await self._life.tell(org_id)
        return done

    async def _next(self, org_id: str) -> Changed | None:
        """The next thing that is due, if there is one. What is owed by the terms that end is cut before."""
        async with self._life.books.transaction() as unit:
            s = await unit.subscriptions.of_org(org_id)
        if s is None or (due := lifecycle.next_due(s)) is None or due[0] > self._life.clock.now_ms():
            return None
        if due[1] in (Event.RUN_OUT, Event.CONVERT) or s.awaited is not None or s.next_anchor_ms is not None:
            await self._life.cut(org_id)
        can_pay = due[1] is Event.CONVERT and await self._life.has_payment_method(org_id)
        async with self._life.books.transaction() as unit:
            try:
                held = await self._life.held(unit, org_id)
            except (NoSubscription, NoSuchOrganization):
                return None
            again = lifecycle.next_due(held.subscription)
            if again != due:
                return None  # somebody else was here; what is due now is found by the next run
            return await self._do(unit, held, due, can_pay)

    async def _do(self, unit: Unit, held: Held, due: tuple[int, lifecycle.Due], can_pay: bool) -> Changed:
        s, (at_ms, what) = held.subscription, due
        if what is Event.RUN_OUT:
            changed = await self._life.write(unit, held, lifecycle.finish(s, Event.RUN_OUT, at_ms), effective_ms=at_ms)
            await self._life.ended(unit, changed)
            return changed
        if what is Event.CONVERT:
            return await trial_over(self._life, unit, held, can_pay)
        awaited = await self._life.version(unit, s.awaited.plan, s.awaited.version) if s.awaited else None
        step = lifecycle.renew(s, held.spec, awaited)
        if _terms(step.to) == _terms(s):
            return await self._life.write(unit, held, step, effective_ms=at_ms, tells=False)
        spec = sold(awaited, step.to) if awaited else held.spec
        changed = await self._life.write(unit, held, step, spec=spec, effective_ms=at_ms)
        await self._life.tell_stripe(unit, changed)
        return changed


class Overdue(Conflict):
    """Something that happens by itself comes before the change."""

    code, retryable = "overdue", True


def on_time(work: Work, clock: Clock) -> Work:
    """`work`, where nothing is due any more that happens by itself; raises Overdue."""

    async def checked(unit: Unit, held: Held) -> Changed:
        due = lifecycle.next_due(held.subscription)
        if due is not None and due[0] <= clock.now_ms():
            raise Overdue
        return await work(unit, held)

    return checked


def _terms(s: Subscription) -> tuple[object, ...]:
    """What the gateways and Stripe hear of."""
    return (s.version, s.state, s.anchor_ms)
