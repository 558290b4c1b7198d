"""What an attempt to send a mail does to it, and whether it may be sent at all. Pure.

billing/services/mails.py makes the attempts; billing/channels/smtp.py says how each ended.

- Accepted (250 behind the text): sent.
- Refused (5xx to the recipient or the text): dead, for a person to look at.
- Deferred (4xx, or the server went before it had the text): tried again, each time later.
- Ambiguous (the connection broke behind the text, before its answer): tried again with the same Message-ID, by which the
  reader's server knows a mail it has.

What could not go out for a week is dropped: what it tells is past. So is what nobody can receive.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from billing.model.mail import MailKind

STALE_AFTER_MS = 7 * 86_400_000
MOST_ATTEMPTS = 24
_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 60_000, 6 * 3_600_000
_MOST_DOUBLINGS = 10
_LONGEST_ADDRESS = 254

# Of ASCII what stands in an address unquoted, and none of what separates addresses, ends lines or begins a comment.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?=.{1,253}$)[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]+")

BILLS = frozenset(
    [
        MailKind.INVOICE_READY,
        MailKind.PAYMENT_RECEIVED,
        MailKind.PAYMENT_FAILED,
        MailKind.PAYMENT_FINAL_WARNING,
        MailKind.ACCOUNT_DOWNGRADED,
    ]
)
"""What also an organization that was deleted is told: it may still owe."""


class Answer(StrEnum):
    """How an attempt ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DEFERRED = "deferred"
    AMBIGUOUS = "ambiguous"


class MailState(StrEnum):
    """Of a mail."""

    WAITING = "waiting"
    SENT = "sent"
    DROPPED = "dropped"  # not wanted any more, or nobody to receive it
    DEAD = "dead"  # could not be sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The mail after an attempt. A next attempt stands only with WAITING."""

    state: MailState
    next_attempt_ms: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A mail as it is put on the wire. `unsubscribable`: nobody has to read it, and one may say so."""

    identifier: str
    to: str
    name: str
    subject: str
    text: str
    html: str
    language: str
    unsubscribable: bool = False


def judge(answer: Answer, attempt: int, *, reason: str, now_ms: int, jitter: float) -> Verdict:
    """What becomes of a mail after its `attempt`th attempt. `jitter` in [0, 1) spreads the next ones."""
    if answer is Answer.ACCEPTED:
        return Verdict(state=MailState.SENT)
    if answer is Answer.REFUSED:
        return Verdict(state=MailState.DEAD, reason=reason)
    if attempt >= MOST_ATTEMPTS:
        return Verdict(state=MailState.DEAD, reason=f"given up after {attempt} attempts; the last: {reason}")
    return Verdict(state=MailState.WAITING, next_attempt_ms=now_ms + back_off_ms(attempt, jitter), reason=reason)


def back_off_ms(attempt: int, jitter: float) -> int:
    """Doubling from a minute to six hours; of each wait the second half is left to chance."""
    wait = min(_FIRST_WAIT_MS << min(max(attempt, 1) - 1, _MOST_DOUBLINGS), _LONGEST_WAIT_MS)
    return wait // 2 + int(wait // 2 * jitter)


def undeliverable(address: str | None, *, deleted: bool, kind: MailKind) -> str | None:
    """Why nobody can receive it, or None. The address is one, and nothing in it could become a header or a second recipient."""
    if deleted and kind not in BILLS:
        return "the organization was deleted"
    if not address:
        return "the customer has no mail address"
    if len(address) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(address) or not _domain(address):
        return "the customer's mail address cannot be one"
    return None


def wire_address(address: str) -> str:
    """With its domain as mail servers spell it: anna@bücher.example is anna@xn--bcher-kva.example."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{_domain(address) or domain}"


def message_id(identifier: str, domain: str) -> str:
    """The same for every attempt at the same mail."""
    return f"<{hashlib.sha256(identifier.encode()).hexdigest()[:40]}@{domain}>"


def _domain(address: str) -> str | None:
    try:
        return address.rpartition("@")[2].encode("idna").decode("ascii") or None
    except UnicodeError:
        return None
