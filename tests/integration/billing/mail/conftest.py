"""A mail server of our own on an ephemeral port: it keeps what it takes, and fails as it is told to."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from billing.channels.message import Sender, sender
from billing.channels.smtp import Server, SmtpChannel, Tls
from billing.model.mail_delivery import Post
from metering.model.clock import FrozenClock

NOW_MS = 1_768_465_800_000
SENDER: Sender = sender("Acme Billing <billing@acme.example>", product="Acme", reply_to="help@acme.example")


@dataclass
class MailServer:
    """`say` are answers in place of its own, one for each next step (RCPT, or DATA behind the text); CUT breaks the connection there."""

    port: int = 0
    taken: list[Envelope] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    rcpt: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    connections: int = 0

    def parsed(self, position: int = -1) -> EmailMessage:
        content = self.taken[position].content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        return message

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        answer = self.rcpt.pop(0) if self.rcpt else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.data.pop(0) if self.data else "250 taken"
        if answer == KEEP_AND_CUT or answer.startswith("250"):
            self.taken.append(envelope)
        if answer in (CUT, KEEP_AND_CUT):
            assert server.transport is not None
            server.transport.abort()
        return answer

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append(data.login)
        return AuthResult(success=(data.login, data.password) == (b"acme", b"secret"), handled=False)


CUT, KEEP_AND_CUT = "cut", "keep and cut"


async def listen(keeper: MailServer, **options: Any) -> asyncio.Server:
    def connected() -> SMTP:
        keeper.connections += 1
        return SMTP(keeper, hostname="mx.test", **options)

    wrapped: ssl.SSLContext | None = options.pop("wrapped", None)
    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0, ssl=wrapped)
    keeper.port = server.sockets[0].getsockname()[1]
    return server


@pytest.fixture
async def keeper() -> AsyncIterator[MailServer]:
    keeper = MailServer()
    server = await listen(keeper)
    yield keeper
    server.close()


@pytest.fixture
def channel(keeper: MailServer) -> SmtpChannel:
    return channel_to(keeper)


def channel_to(keeper: MailServer, **terms: Any) -> SmtpChannel:
    terms = {"tls": Tls.NONE, "timeout_seconds": 5.0, **terms}
    return SmtpChannel(Server(host="127.0.0.1", port=keeper.port, **terms), SENDER, FrozenClock(NOW_MS))


def post(**changed: Any) -> Post:
    terms = {
        "identifier": "payment_failed:in_1:1", "to": "alice@example.com", "name": "Alice", "subject": "[Acme] Payment Failed",
        "text": "Hi\n",        "html": "<p>Hi</p>", "language": "en",
    }  # fmt: skip
    return Post(**{**terms, **changed})
