"""Mails to customers, whatever became of them."""

from datetime import datetime

from pydantic import Field

from billing.model.letters.letter import House
from billing.model.mail import MailKind
from billing.model.mail_delivery import MailState
from billing.model.token import Scope
from billing.operations.instants import instant, instant_or_none, number_before
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page
from billing.services.mails import sample_post
from billing.services.ports_mail import MailRow


class MailAnswer(Model):
    id: int
    kind: MailKind
    org: str
    state: MailState
    due: datetime
    attempts: int
    closed: datetime | None
    error: str | None
    identifier: str


class MailList(Page):
    mails: tuple[MailAnswer, ...]


class AskMails(AskPage):
    state: MailState | None = None


class AskPreview(Model):
    kind: MailKind
    language: str = Field("en", max_length=20, description="English where there is no such language")


class MailPreview(Model):
    kind: MailKind
    subject: str
    text: str
    html: str


@operation("GET", "/mails/preview/{kind}", name="mail.preview", about=About.ALL)
async def preview(call: Call, ask: AskPreview) -> MailPreview:
    """How a mail reads, with facts made up for it."""
    return previewed(ask, call.facts.house, call.now_ms)


def previewed(ask: AskPreview, house: House, now_ms: int) -> MailPreview:
    post = sample_post(ask.kind, ask.language, house, to="alice@example.com", now_ms=now_ms)
    return MailPreview(kind=ask.kind, subject=post.subject, text=post.text, html=post.html)


@operation("GET", "/mails", name="mail.list", need=Scope.ADMIN, about=About.ALL)
async def list_all(call: Call, ask: AskMails) -> MailList:
    """What was sent, waits, was dropped or could not be sent; newest first."""
    found = await call.billing.mails.newest(call.org_id, ask.state, ask.limit + 1, number_before(ask))
    rows, further = page(found, ask, lambda row: (row.mail.id,))
    return MailList(mails=tuple(map(_answer, rows)), next=further)


def _answer(row: MailRow) -> MailAnswer:
    return MailAnswer(
        id=row.mail.id, kind=row.mail.kind, org=row.slug, state=MailState(row.state), due=instant(row.mail.due_ms), attempts=row.attempts,
        closed=instant_or_none(row.closed_ms), error=row.error, identifier=row.mail.identifier,
    )  # fmt: skip


OPERATIONS = (list_all, preview)
