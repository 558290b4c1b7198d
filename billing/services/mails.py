"""Send the mails that are due, in whatever number of processes at once. What an answer means is in billing/model/mail_delivery.py.

A mail is claimed, with its attempt counted, in a transaction of its own; sent with no transaction open; and what came of it
is stored right after. A process killed in between leaves a mail that comes back when its claim runs out, and goes out again
with the same Message-ID.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from billing.model import letters
from billing.model.letters.html import as_html
from billing.model.letters.letter import House, Reader
from billing.model.letters.samples import READER, sample
from billing.model.letters.text import as_text
from billing.model.mail import Mail, MailKind
from billing.model.mail_delivery import (
    STALE_AFTER_MS,
    MailState,
    Post,
    Verdict,
    judge,
    undeliverable,
    wire_address,
)
from billing.services.ports import Books
from billing.services.ports_mail import ClaimedMail, MailChannel, MailServerUnreachable, MailSession
from metering.model.clock import Clock
from metering.model.errors import BadInput

_CLAIM_MS = 600_000  # one mail's conversation fits in: its steps, each ended by the channel's timeout
_OFFERS = frozenset([MailKind.TRIAL_FEATURE, MailKind.TRIAL_STORIES, MailKind.TRIAL_OFFER, MailKind.WIN_BACK_OFFER])
_NO_SERVER = "no SMTP server is configured (SMTP_HOST), and it was due more than 7 days ago"
_STALE = "it could not be sent within 7 days"


@dataclass(slots=True)
class MailReport:
    """What one run did, by `state`: sent, retried, dropped, dead. `unconfigured` mails are due and wait for an SMTP_HOST; `errors`
    holds the newest sentence of each state."""

    states: Counter[str] = field(default_factory=Counter)
    unconfigured: int = 0
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        state = "retried" if verdict.state is MailState.WAITING else verdict.state.value
        self.states[state] += 1
        if verdict.reason:
            self.errors[state] = verdict.reason


class Mails:
    """`channel` None: no mail server is configured; mails are kept, and dropped once they are a week late."""

    def __init__(
        self, books: Books, channel: MailChannel | None, clock: Clock, *, house: House, jitter: Callable[[], float] = random.random
    ) -> None:
        self._books, self._channel, self._clock, self._house, self._jitter = books, channel, clock, house, jitter

    async def send_due(self, limit: int = 500) -> MailReport:
        """Until nothing is due, or `limit` mails were tried. Raises MailServerUnreachable; then the mails wait."""
        report = MailReport()
        due = await self._sweep(report)
        if self._channel is None:
            report.unconfigured = due
        elif due:
            async with self._channel.session() as session:
                while limit > 0 and (claimed := await self._claim()):
                    limit -= 1
                    await self._one(session, claimed, report)
        return report

    async def _sweep(self, report: MailReport) -> int:
        """Drop what is too late. How many are due."""
        now_ms = self._clock.now_ms()
        reason = _NO_SERVER if self._channel is None else _STALE
        async with self._books.transaction() as unit:
            dropped = await unit.mails.expire(now_ms - STALE_AFTER_MS, reason, now_ms)
            due = await unit.mails.due(now_ms)
        if dropped:
            report.states["dropped"] += dropped
            report.errors["dropped"] = reason
        return due

    async def _claim(self) -> ClaimedMail | None:
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            return await unit.mails.claim(now_ms, now_ms + _CLAIM_MS)

    async def _one(self, session: MailSession, claimed: ClaimedMail, report: MailReport) -> None:
        verdict = self._refusal(claimed)
        if verdict is None:
            try:
                verdict = await self._attempt(session, claimed)
            except MailServerUnreachable:
                async with self._books.transaction() as unit:
                    await unit.mails.give_back(claimed)
                raise
        async with self._books.transaction() as unit:
            if await unit.mails.finish(claimed, verdict, self._clock.now_ms()):
                report.add(verdict)

    def _refusal(self, claimed: ClaimedMail) -> Verdict | None:
        reason = undeliverable(claimed.address, deleted=claimed.deleted, kind=claimed.mail.kind)
        return None if reason is None else Verdict(state=MailState.DROPPED, reason=reason)

    async def _attempt(self, session: MailSession, claimed: ClaimedMail) -> Verdict:
        try:
            post = written(claimed.mail, claimed.reader, self._house, to=claimed.address or "")
        except (BadInput, KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as fault:
            # One mail that nobody can write must not hold up the others for ever.
            return Verdict(state=MailState.DEAD, reason=f"it cannot be written: {fault}")
        answer, said = await session.send(post)
        now_ms = self._clock.now_ms()
        return judge(answer, claimed.attempt, reason=said, now_ms=now_ms, jitter=self._jitter())


def sample_post(kind: MailKind, language: str, house: House, *, to: str, now_ms: int) -> Post:
    """A mail of that kind with facts made up for it."""
    return written(replace(sample(kind), identifier=f"sample:{kind}:{now_ms}"), replace(READER, language=language), house, to=to)


def written(mail: Mail, reader: Reader, house: House, *, to: str) -> Post:
    """A mail in the words of its reader. Raises FactMissing, and what faulty facts raise."""
    letter = letters.write(mail.kind, mail.facts, reader, house)
    return Post(
        identifier=mail.identifier,
        to=wire_address(to),
        name=letters.clean(reader.name or reader.organization),
        subject=f"[{letters.clean(house.product)}] {letter.subject}",
        text=as_text(letter),
        html=as_html(letter, letters.clean(house.product)),
        language=letter.language,
        unsubscribable=mail.kind in _OFFERS,
    )
