"""The audit log: who changed what, when, from what to what."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, Field

from billing.model.organization import is_uuid
from billing.model.token import Scope
from billing.operations.instants import given_ms, instant, number_before
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page
from billing.services.lookup import NoSuchOrganization
from billing.services.ports import AuditEntry


def _exact(facts: Any) -> Any:
    """Amounts as they are, to the last digit."""
    if isinstance(facts, Mapping):
        return {name: _exact(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [_exact(value) for value in facts]
    return format(facts, "f") if isinstance(facts, Decimal) else facts


Facts = dict[str, Any] | None


class EntryAnswer(Model):
    """One change. `actor` is who says to have made it, `login` and `program` what the database knows. Of a change, `before` and `after`
    hold what differs; null where there was, or is, nothing. `org` null concerns everybody."""

    id: int
    at: datetime
    actor: str
    login: str
    program: str
    action: str
    org: str | None
    org_id: str | None
    subject: str
    before: Facts
    after: Facts


class AuditAnswer(Page):
    entries: tuple[EntryAnswer, ...]


class AskAudit(AskPage):
    since: AwareDatetime | None = Field(None, description="not before then")
    org_id: str | None = Field(None, description="of one organization, also where it was deleted")


@operation("GET", "/audit", name="audit.list", need=Scope.ADMIN, about=About.EITHER, errors=(NoSuchOrganization,))
async def entries(call: Call, ask: AskAudit) -> AuditAnswer:
    """The newest first. Entries are never changed and never deleted."""
    org = call.org_id
    if ask.org_id is not None:
        if not is_uuid(ask.org_id) or (org is not None and ask.org_id.lower() != org):
            raise NoSuchOrganization(f"there is no organization {ask.org_id!r}", org=ask.org_id)
        org = ask.org_id
    since_ms = 0 if ask.since is None else given_ms(ask.since)
    found = await call.billing.audit.entries(org_ref=org, since_ms=since_ms, limit=ask.limit + 1, before_id=number_before(ask))
    rows, further = page(found[::-1], ask, lambda entry: (entry.id,))
    return AuditAnswer(entries=tuple(map(_entry, rows)), next=further)


def _entry(entry: AuditEntry) -> EntryAnswer:
    return EntryAnswer(
        id=entry.id, at=instant(entry.at_ms), actor=entry.actor, login=entry.login, program=entry.program, action=entry.action,
        org=entry.slug or entry.org_id, org_id=entry.org_id, subject=entry.subject,
        before=_exact(entry.before), after=_exact(entry.after),
    )  # fmt: skip


OPERATIONS = (entries,)
