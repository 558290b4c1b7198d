"""Mail by SMTP (RFC 5321), one connection for as long as there is something to send.

Python's smtplib, in a thread: docs/adr/mail.md says why. Each step has a timeout. What is told of a failure is the server's answer;
never the password.
"""

import asyncio
import re
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from billing.channels.message import Sender, compose
from billing.model.mail_delivery import Answer, Post
from billing.services.ports_mail import MailServerUnreachable
from metering.model.clock import Clock

_TIMEOUT_SECONDS = 30.0
_READY, _LEAVING, _OK = 354, 421, (250, 251, 252)
_LINE_OF_A_DOT = re.compile(rb"(?m)^\.")  # RFC 5321, 4.5.2
_LONGEST_REPLY = 300


class Tls(StrEnum):
    """When the connection is encrypted."""

    STARTTLS = "starttls"  # after the greeting, or not at all: a server without it is refused
    TLS = "tls"  # from the first byte
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`port` None is 587, or 465 with Tls.TLS. `trust` None trusts what the system does."""

    host: str
    port: int | None = None
    tls: Tls = Tls.STARTTLS
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    trust: ssl.SSLContext | None = None
    timeout_seconds: float = _TIMEOUT_SECONDS

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port or (465 if self.tls is Tls.TLS else 587)}"


class SmtpChannel:
    """Opens sessions. A session is for one task at a time."""

    def __init__(self, server: Server, sender: Sender, clock: Clock) -> None:
        self._server, self._sender, self._clock = server, sender, clock

    @asynccontextmanager
    async def session(self) -> AsyncIterator["SmtpSession"]:
        """Raises MailServerUnreachable."""
        session = SmtpSession(self._server, self._sender, self._clock)
        await session.open()
        try:
            yield session
        finally:
            await session.close()


class SmtpSession:
    def __init__(self, server: Server, sender: Sender, clock: Clock) -> None:
        self._server, self._sender, self._clock = server, sender, clock
        self._connection: smtplib.SMTP | None = None

    async def open(self) -> None:
        self._connection = await asyncio.to_thread(_connect, self._server)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(_leave, connection)

    async def send(self, post: Post) -> tuple[Answer, str]:
        """How it ended, and what the server said; on a new connection where the last one broke. Raises MailServerUnreachable."""
        content = compose(post, self._sender, self._clock.now_ms()).as_bytes()
        if self._connection is None:
            await self.open()
        assert self._connection is not None
        answer, said, usable = await asyncio.to_thread(_converse, self._connection, self._sender.address, post.to, content)
        if not usable:
            await self.close()
        return answer, said


def _connect(server: Server) -> smtplib.SMTP:
    trust = server.trust or ssl.create_default_context()
    host, _, port = server.where.rpartition(":")
    try:
        if server.tls is Tls.TLS:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(host, int(port), timeout=server.timeout_seconds, context=trust)
        else:
            connection = smtplib.SMTP(host, int(port), timeout=server.timeout_seconds)
    except (OSError, smtplib.SMTPException) as exc:
        raise MailServerUnreachable(f"The mail server {server.where} does not answer: {_told(exc)}.") from exc
    try:
        _enter(connection, server, trust)
    except (OSError, smtplib.SMTPException) as exc:
        _leave(connection)
        raise MailServerUnreachable(f"The mail server {server.where} cannot be used: {_told(exc)}.") from exc
    return connection


def _enter(connection: smtplib.SMTP, server: Server, trust: ssl.SSLContext) -> None:
    connection.ehlo_or_helo_if_needed()
    if server.tls is Tls.STARTTLS:
        if not connection.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError("it does not offer STARTTLS; set SMTP_TLS to tls (its port is mostly 465) or none")
        connection.starttls(context=trust)
        connection.ehlo()
    if server.username is not None:
        connection.login(server.username, server.password or "")


def _converse(connection: smtplib.SMTP, sender: str, to: str, content: bytes) -> tuple[Answer, str, bool]:
    """One mail; and whether the connection can be used again."""
    try:
        code, reply = connection.mail(sender)
        if code not in _OK:
            # What is said of the sender would be said of every mail, and the settings can be corrected: no mail dies of it.
            return Answer.DEFERRED, f"the sender {sender} was refused: {_text(code, reply)}", _again(connection, code)
        code, reply = connection.rcpt(to)
        if code in _OK:
            code, reply = connection.docmd("data")
        if code != _READY:
            return _answer(code), _text(code, reply), _again(connection, code)
    except (OSError, smtplib.SMTPException) as exc:
        return Answer.DEFERRED, f"the connection broke before the mail was handed over: {_told(exc)}", False
    return _hand_over(connection, content)


def _hand_over(connection: smtplib.SMTP, content: bytes) -> tuple[Answer, str, bool]:
    """From the first byte of the text until the answer nobody knows whether the server took it."""
    try:
        connection.send(_LINE_OF_A_DOT.sub(b"..", content) + b".\r\n")
        code, reply = connection.getreply()
    except (OSError, smtplib.SMTPException) as exc:
        return Answer.AMBIGUOUS, f"the connection broke before the server's answer: {_told(exc)}", False
    if code in _OK:
        return Answer.ACCEPTED, "", True
    return _answer(code), _text(code, reply), _again(connection, code)


def _answer(code: int) -> Answer:
    """RFC 5321, 4.2.1: 5xx is for good, 4xx for now; smtplib's -1 is an answer that is none."""
    return Answer.REFUSED if 500 <= code <= 599 else Answer.DEFERRED


def _again(connection: smtplib.SMTP, code: int) -> bool:
    """True where the next mail may follow: not after 421, which ends a connection."""
    if code == _LEAVING:
        return False
    try:
        return connection.rset()[0] in _OK
    except (OSError, smtplib.SMTPException):
        return False


def _leave(connection: smtplib.SMTP) -> None:
    with suppress(OSError, smtplib.SMTPException):
        connection.quit()
    connection.close()


def _text(code: int, reply: bytes) -> str:
    said = " ".join(reply.decode("utf-8", "replace").split())
    return f"{code} {said}"[:_LONGEST_REPLY]


def _told(exc: Exception) -> str:
    if isinstance(exc, smtplib.SMTPResponseException):
        reply = exc.smtp_error if isinstance(exc.smtp_error, bytes) else str(exc.smtp_error).encode()
        return _text(exc.smtp_code, reply)
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return (str(exc) or type(exc).__name__)[:_LONGEST_REPLY]
