"""Organizations: who is billed."""

from datetime import datetime
from typing import Any

from pydantic import Field

from billing.model.customer import CustomerFaulty
from billing.model.limits import concurrency_to_json, rate_to_json, terms_to_json
from billing.model.organization import Organization, SlugFaulty
from billing.model.subscription import State, Subscription
from billing.model.token import Scope
from billing.operations.instants import instant, instant_or_none
from billing.operations.keys import KeyRow, key_row
from billing.operations.operation import About, Call, Model, Nothing, operation
from billing.operations.pages import AskPage, Page, page, read_cursor
from billing.services.lifecycle import NoSuchPlan
from billing.services.orgs import SlugTaken
from billing.services.ports import LimitRow, QuotaRow
from metering.model.errors import BadInput
from metering.model.quota import Rate


class OrgRow(Model):
    id: str
    slug: str
    name: str
    plan: str | None
    status: State | None
    created: datetime


class OrgList(Page):
    orgs: tuple[OrgRow, ...]


class CreateOrg(Model):
    name: str = Field(min_length=1, max_length=200)
    plan: str | None = Field(None, description="the default plan where none is named")
    slug: str | None = Field(None, description="made from the name where none is given")
    email: str | None = Field(None, max_length=320, description="where its invoices go")
    zone: str = Field("UTC", description="whose summer time its billing periods follow: Europe/Berlin")
    test_key: bool = Field(False, description="its first key is wbk_test_…")


class NewOrg(Model):
    """`api_key` is shown this once. `told_gateways` false: stored, and they hear of it once the store answers."""

    id: str
    slug: str
    name: str
    plan: str
    plan_version: int
    api_key: str
    told_gateways: bool


class Override(Model):
    """What stands in for the plan's quota or limit; `terms` are what it says beside."""

    quota: str
    limit: int | None
    mode: str
    terms: dict[str, Any]
    reason: str
    until: datetime | None
    managed_by: str


class OrgAnswer(OrgRow):
    plan_version: int | None
    anchor: datetime | None
    keys: tuple[KeyRow, ...]
    overrides: tuple[Override, ...]


class Deleted(Model):
    id: str
    slug: str
    deleted: bool
    told_gateways: bool


@operation("GET", "/orgs", name="org.list", about=About.ALL)
async def list_all(call: Call, ask: AskPage) -> OrgList:
    """Every organization, by slug."""
    place = read_cursor(ask.after, str)
    found = await call.billing.orgs.all(ask.limit + 1, None if place is None else str(place[0]))
    rows, further = page(found, ask, lambda row: (row[0].slug,))
    return OrgList(orgs=tuple(org_row(org, subscription) for org, subscription in rows), next=further)


@operation(
    "POST", "/orgs", name="org.create", need=Scope.ADMIN, about=About.ALL, status=201,
    errors=(SlugFaulty, SlugTaken, NoSuchPlan, CustomerFaulty),
)  # fmt: skip
async def create(call: Call, ask: CreateOrg) -> NewOrg:
    """A new organization with a subscription and a first key."""
    plan = ask.plan or call.facts.default_plan
    if plan is None:
        raise BadInput("say which plan: there is no default plan (BILLING_DEFAULT_PLAN)")
    made = await call.billing.orgs.create(
        ask.name, plan=plan, slug=ask.slug, email=ask.email, test_key=ask.test_key, zone=ask.zone
    )  # fmt: skip
    return NewOrg(
        id=made.org.id, slug=made.org.slug, name=made.org.name, plan=made.subscription.plan, plan_version=made.subscription.plan_version,
        api_key=made.api_key, told_gateways=made.published,
    )  # fmt: skip


@operation("GET", "/org", name="org.show", need=Scope.ADMIN)
async def show(call: Call, ask: Nothing) -> OrgAnswer:
    """One organization with its keys and overrides."""
    view = await call.billing.orgs.show(call.org)
    s = view.subscription
    return OrgAnswer(
        **dict(org_row(view.org, s)), plan_version=s.plan_version if s else None, anchor=instant(s.anchor_ms) if s else None,
        keys=tuple(key_row(key, call.now_ms) for key in view.keys), overrides=tuple(map(_override, view.overrides)),
    )  # fmt: skip


@operation("DELETE", "/org", name="org.delete", need=Scope.ADMIN, about=About.ALL)
async def delete(call: Call, ask: Nothing) -> Deleted:
    """Its keys stop at once, its subscription ends; its usage stays on record."""
    if call.org_id is None:
        raise BadInput("say which organization to delete: ?org=… with its id or slug")
    org, told = await call.billing.orgs.delete(call.org_id)
    return Deleted(id=org.id, slug=org.slug, deleted=True, told_gateways=told)


def org_row(org: Organization, s: Subscription | None) -> OrgRow:
    return OrgRow(
        id=org.id, slug=org.slug, name=org.name, plan=s.plan if s else None, status=s.state if s else None,
        created=instant(org.created_at_ms),
    )  # fmt: skip


def _override(row: QuotaRow | LimitRow) -> Override:
    if isinstance(row, QuotaRow):
        name, limit, mode, terms = row.quota.name, row.quota.limit, row.quota.mode.value, terms_to_json(row.quota)
    elif isinstance(row.limit, Rate):
        name, limit, mode, terms = row.limit.name, row.limit.limit, "rate", rate_to_json(row.limit)
    else:
        name, limit, mode, terms = row.limit.name, row.limit.limit, "in flight", concurrency_to_json(row.limit)
    return Override(
        quota=name, limit=limit, mode=mode, terms=terms, reason=row.reason, until=instant_or_none(row.until_ms), managed_by=row.managed_by
    )


OPERATIONS = (list_all, create, show, delete)
