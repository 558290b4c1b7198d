"""Trials: a plan for some days for nothing, and what becomes of it at the end."""

from datetime import datetime

from pydantic import Field

from billing.model.charges import title_of
from billing.model.token import Scope
from billing.operations.instants import instant
from billing.operations.operation import About, Call, Model, Nothing, operation
from billing.services.lifecycle import Changed, ChangeRefused, NoSuchPlan
from billing.services.lookup import NoSuchOrganization


class StartTrial(Model):
    customer: str = Field(min_length=1, max_length=320, description="an organization's id or slug, or the e-mail address of its customer")
    plan: str | None = Field(None, description="default: the first of BILLING_TRIAL_PLANS")
    days: int | None = Field(None, ge=1, le=730, description="default: those of the plan, or BILLING_TRIAL_DAYS")


class TryPlan(Model):
    plan: str | None = Field(None, description="default: the first of BILLING_TRIAL_PLANS")


class TrialAnswer(Model):
    """`told_gateways` false: it is stored, and they hear of it once the store answers."""

    id: str
    org: str
    name: str
    plan: str
    title: str
    trial_end: datetime
    told_gateways: bool


class AutoDowngrade(Model):
    enabled: bool


@operation(
    "POST", "/trials", name="trial.start", need=Scope.ADMIN, about=About.ALL, errors=(NoSuchOrganization, NoSuchPlan, ChangeRefused)
)  # fmt: skip
async def start(call: Call, ask: StartTrial) -> TrialAnswer:
    """Let an organization try a plan for so many days."""
    return _answer(await call.billing.trials.start(ask.customer, ask.plan, ask.days))


@operation("POST", "/subscription/trial", name="subscription.trial", need=Scope.BILLING, errors=(NoSuchPlan, ChangeRefused))
async def begin(call: Call, ask: TryPlan) -> TrialAnswer:
    """Try a plan, for the days that it is offered for."""
    return _answer(await call.billing.trials.start(call.org, ask.plan))


@operation("GET", "/trials/auto-downgrade", name="trial.auto-downgrade", about=About.ALL)
async def auto_downgrade(call: Call, ask: Nothing) -> AutoDowngrade:
    """Whether a trial that ends with nothing to charge falls to the plan before it, or to the default plan."""
    return AutoDowngrade(enabled=await call.billing.trials.auto_downgrade())


@operation("PUT", "/trials/auto-downgrade", name="trial.set-auto-downgrade", need=Scope.ADMIN, about=About.ALL)
async def set_auto_downgrade(call: Call, ask: AutoDowngrade) -> AutoDowngrade:
    """Off: a trial waits at its end, paused; a reverse trial with a payment method goes on, paid."""
    await call.billing.trials.set_auto_downgrade(ask.enabled)
    return ask


def _answer(changed: Changed) -> TrialAnswer:
    trial = changed.after.trial
    assert trial is not None  # it began just now
    return TrialAnswer(
        id=changed.after.id, org=changed.org.slug, name=changed.org.name, plan=changed.after.plan, title=title_of(changed.spec_after),
        trial_end=instant(trial.end_ms), told_gateways=changed.published,
    )  # fmt: skip


OPERATIONS = (start, begin, auto_downgrade, set_auto_downgrade)
