"""Quotas of one organization as an operator sets them, and gives them back to the plan."""

from decimal import Decimal

from pydantic import AwareDatetime, Field

from billing.model.charges import title_of
from billing.model.plan_words import window_word
from billing.model.token import Scope
from billing.model.usage import NoSuchService
from billing.operations.operation import Amount, Call, Model, Nothing, operation
from billing.operations.usage import OrgHead
from billing.services.lifecycle import ChangeRefused, NoSubscription
from billing.services.quota_settings import QuotaWish
from metering.model.clock import to_ms
from metering.model.quota import Mode, Window


class SetQuota(Model):
    service: str
    limit: Amount | None = Field(description="in the unit that people see: 50 is 50 GB; null: unlimited")
    mode: Mode
    window: Window = Window.PERIOD
    overage_rate: Amount | None = Field(None, description="with mode overage: the price of one such unit beyond it, of this organization")
    then_limit: Amount | None = Field(None, description="with mode throttle: what may still pass in each `then_window`")
    then_window: Window = Window.HOUR
    reason: str = Field("", max_length=500)
    until: AwareDatetime | None = Field(None, description="it ends by itself")


class QuotaSetAnswer(Model):
    """`changed`: one was set so before. `each` is the window in words: /month, or nothing for what is held. `told_gateways` false: it is
    stored, and they hear of it once the store answers."""

    org: OrgHead
    plan_title: str | None
    service: str
    title: str
    unit: str
    limit: Amount | None
    base_limit: int | None
    each: str
    mode: Mode
    window: Window
    overage_rate: Amount | None
    currency: str | None
    changed: bool
    told_gateways: bool


class QuotaResetAnswer(Model):
    """`removed` are the quotas that were set by hand; `of_files` stay, as the files set them."""

    org: OrgHead
    plan_title: str | None
    removed: tuple[str, ...]
    of_files: tuple[str, ...]
    told_gateways: bool


@operation(
    "PUT", "/quota/{service}", name="quota.set", need=Scope.BILLING, unbound=True, errors=(NoSuchService, NoSubscription, ChangeRefused)
)
async def set_quota(call: Call, ask: SetQuota) -> QuotaSetAnswer:
    """In place of the plan's, for this organization, at once."""
    then = None if ask.then_limit is None else (ask.then_limit, ask.then_window)
    found = await call.billing.quota_settings.set(
        call.org,
        QuotaWish(
            service=ask.service, limit=ask.limit, mode=ask.mode, window=ask.window, rate=ask.overage_rate, then=then, reason=ask.reason,
            until_ms=None if ask.until is None else to_ms(ask.until),
        ),
    )  # fmt: skip
    account, meter, limit = found.account, found.meter, found.quota.limit
    return QuotaSetAnswer(
        org=OrgHead(id=account.org.id, slug=account.org.slug, name=account.org.name),
        plan_title=title_of(account.spec) if account.spec else None, service=meter.name, title=meter.title or meter.name,
        unit=meter.show or meter.unit, limit=None if limit is None else Decimal(limit) / meter.show_size, base_limit=limit,
        each=window_word(found.quota, meter), mode=found.quota.mode, window=found.quota.window, overage_rate=found.rate,
        currency=account.subscription.currency if account.subscription else None, changed=found.before, told_gateways=found.told,
    )  # fmt: skip


@operation("POST", "/quota/reset", name="quota.reset", need=Scope.BILLING, unbound=True, errors=(ChangeRefused,))
async def reset(call: Call, ask: Nothing) -> QuotaResetAnswer:
    """The plan's again: what was set by hand is removed, prices beyond quotas too."""
    found = await call.billing.quota_settings.reset(call.org)
    account = found.account
    return QuotaResetAnswer(
        org=OrgHead(id=account.org.id, slug=account.org.slug, name=account.org.name),
        plan_title=title_of(account.spec) if account.spec else None, removed=found.removed, of_files=found.of_files,
        told_gateways=found.told,
    )  # fmt: skip


OPERATIONS = (set_quota, reset)
