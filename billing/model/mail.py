"""Mails that must go out, each once: what they tell, to whom, when. Pure.

Written in the transaction that causes them; billing/services/mails.py renders and sends what is due.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class MailKind(StrEnum):
    PAYMENT_FAILED = "payment_failed"  # attempt n of m
    PAYMENT_FINAL_WARNING = "payment_final_warning"  # 48 hours before the downgrade
    ACCOUNT_DOWNGRADED = "account_downgraded"
    INVOICE_READY = "invoice_ready"
    PAYMENT_RECEIVED = "payment_received"
    TRIAL_WELCOME = "trial_welcome"  # day 1
    TRIAL_FEATURE = "trial_feature"  # day 3
    TRIAL_STORIES = "trial_stories"  # day 7
    TRIAL_ENDING = "trial_ending"  # BILLING_TRIAL_NOTIFY_DAYS_BEFORE the end
    TRIAL_LAST_DAY = "trial_last_day"  # a day before the end
    TRIAL_ENDED = "trial_ended"
    TRIAL_OFFER = "trial_offer"  # the day after, where nothing was bought
    WIN_BACK_OFFER = "win_back_offer"  # 7 days after a subscription ended
    QUOTA_THRESHOLD = "quota_threshold"
    SPEND_CAP_REACHED = "spend_cap_reached"  # overage ends for the rest of the period


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """Equal identifiers are the same mail: the second is not written. `to` None is the customer's address when it goes out; `facts`
    are what the text says, money and instants as strings."""

    org_id: str
    kind: MailKind
    identifier: str
    due_ms: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    to: str | None = None
    id: int = 0  # given by the database
