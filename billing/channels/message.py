"""A post as the bytes of a mail: headers, a text part, an HTML part. Pure.

Headers are made by Python's email package, which encodes what is not ASCII and refuses a line end in any of them.
"""

import re
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from billing.model.mail import MailKind
from billing.model.mail_delivery import Post, message_id, undeliverable, wire_address
from metering.model.clock import to_datetime
from metering.model.errors import BadInput

# Every server takes lines of ASCII; not every one takes more.
_POLICY = SMTP.clone(cte_type="7bit")
_SENDER = re.compile(r"""(?:"?(?P<name>[^"<>\r\n]*?)"?\s*<(?=[^<>]*>$))?(?P<address>[^<>\s]+)>?""")


class SenderFaulty(BadInput):
    """The sender's address cannot be one."""

    code = "sender_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who mails are from. Answers go to `reply_to`, where it is set."""

    address: str
    name: str
    reply_to: str | None = None

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def sender(text: str, *, product: str, reply_to: str | None = None) -> Sender:
    """From `billing@example.com` or `Example Billing <billing@example.com>`. Raises SenderFaulty."""
    found = _SENDER.fullmatch(text.strip())
    name, address = (found["name"] or "", found["address"]) if found else ("", "")
    if undeliverable(address, deleted=False, kind=MailKind.INVOICE_READY) is not None:
        raise SenderFaulty(f"{text!r} is no sender; write billing@example.com, or Example Billing <billing@example.com>")
    return Sender(address=wire_address(address), name=name.strip() or product, reply_to=reply_to)


def compose(post: Post, sender: Sender, now_ms: int) -> EmailMessage:
    """Equal posts have the same Message-ID, however often they are sent."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = _mailbox(sender.name, sender.address)
    message["To"] = _mailbox(post.name, post.to)
    if sender.reply_to:
        message["Reply-To"] = sender.reply_to
    message["Subject"] = post.subject
    message["Date"] = format_datetime(to_datetime(now_ms).replace(microsecond=0))
    message["Message-ID"] = message_id(post.identifier, sender.domain)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine need answer
    if post.unsubscribable:
        message["List-Unsubscribe"] = f"<mailto:{sender.reply_to or sender.address}?subject=unsubscribe>"
    message.set_content(post.text, cte="quoted-printable")
    message.add_alternative(post.html, subtype="html", cte="quoted-printable")
    message["Content-Language"] = post.language  # set before, it would be taken for the text part's
    return message


def _mailbox(name: str, address: str) -> Any:
    local, _, domain = address.rpartition("@")
    return Address(display_name=name, username=local, domain=domain)
