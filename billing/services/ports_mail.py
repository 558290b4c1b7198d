"""What mail needs of the world: its rows in billing/store/mails.py, a way out in billing/channels. Part of ports.py."""

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from billing.model.letters.letter import Reader
from billing.model.mail import Mail, MailKind
from billing.model.mail_delivery import Answer, Post, Verdict
from metering.model.errors import DependencyUnavailable


class MailServerUnreachable(DependencyUnavailable):
    """The mail server cannot be used; mails wait."""

    code = "mail_server_unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMail:
    """A mail to send now, the `attempt`th time, and whom it is for. `address` None: nobody knows one. `deleted`: the
    organization is."""

    mail: Mail
    attempt: int
    address: str | None
    reader: Reader
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRow:
    """What became of a mail so far."""

    mail: Mail
    slug: str
    state: str
    attempts: int
    next_attempt_ms: int | None
    closed_ms: int | None
    error: str | None


class MailRows(Protocol):
    async def add(self, mails: Sequence[Mail], now_ms: int) -> None:
        """A mail whose identifier is known already is left out."""
        ...

    async def drop(self, org_id: str, kinds: Collection[MailKind], now_ms: int) -> int:
        """How many of these kinds were waiting, and will not go out."""
        ...

    async def due(self, now_ms: int) -> int:
        """How many could go out now."""
        ...

    async def claim(self, now_ms: int, until_ms: int) -> ClaimedMail | None:
        """The mail that is due longest, for nobody else before `until_ms`. Others claim beside it without waiting."""
        ...

    async def finish(self, claimed: ClaimedMail, verdict: Verdict, now_ms: int) -> bool:
        """False where the claim ran out, and another has it."""
        ...

    async def give_back(self, claimed: ClaimedMail) -> None:
        """As if it had not been claimed."""
        ...

    async def expire(self, due_before_ms: int, reason: str, now_ms: int) -> int:
        """Drop what was due before then and still waits, unless somebody is at it. How many."""
        ...

    async def newest(self, org_id: str | None, state: str | None, limit: int, before_id: int | None = None) -> list[MailRow]:
        """Newest first; of those before that one."""
        ...


class MailSession(Protocol):
    """A connection to a mail server."""

    async def send(self, post: Post) -> tuple[Answer, str]:
        """How it ended, and what the server said. Raises MailServerUnreachable where nothing was sent for want of a server."""
        ...


class MailChannel(Protocol):
    def session(self) -> AbstractAsyncContextManager[MailSession]:
        """Raises MailServerUnreachable."""
        ...
