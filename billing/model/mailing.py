"""Mails as what happened makes them: which ones, when each is due, what each tells. Pure.

Whoever decides that something happened writes what these functions return, in the same transaction; equal identifiers are the
same mail, so calling again changes nothing. Facts are plain JSON: money and instants as texts, put into words of a language when
the mail goes out (billing/model/letters/).

The series of a trial, of 14 days: welcome at its start, then days 3, 7, 11 (it ends in 3 days), 13 (tomorrow), 14 (ended), 15 (an
offer). The last two are for trials that ended without a purchase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.mail import Mail, MailKind
from metering.model.clock import isoformat

DAY_MS = 86_400_000
FEATURE_DAY, STORIES_DAY = 3, 7
WIN_BACK_DAYS = 7

TRIAL_SERIES = frozenset(
    [MailKind.TRIAL_WELCOME, MailKind.TRIAL_FEATURE, MailKind.TRIAL_STORIES, MailKind.TRIAL_ENDING, MailKind.TRIAL_LAST_DAY]
)
"""What `trial_mails` makes: dropped when a trial ends early, whichever way."""

TRIAL_NOTICES = frozenset([MailKind.TRIAL_ENDING, MailKind.TRIAL_LAST_DAY])
"""Those that tell the end: dropped, and made anew, when a trial is made longer or shorter."""

OFFERS = frozenset([MailKind.TRIAL_ENDED, MailKind.TRIAL_OFFER, MailKind.WIN_BACK_OFFER])
"""What asks somebody to come back: dropped once they have (`unit.mails.drop`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`plan` is its title, `falls_to` that of the plan afterwards; `charged`: a payment method is there, so that it goes on as a
    paid subscription unless it is cancelled."""

    org_id: str
    subscription_id: str
    plan: str
    start_ms: int
    end_ms: int
    amount: Decimal | None  # an interval, in major units; None where it was negotiated
    currency: str
    charged: bool
    falls_to: str = "Free"

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "plan": self.plan, "ends_at": isoformat(self.end_ms), "amount": _plain(self.amount), "currency": self.currency,
            "charged": self.charged, "falls_to": self.falls_to, "days": round((self.end_ms - self.start_ms) / DAY_MS),
        }  # fmt: skip


def trial_mails(trial: Trial, notify_days_before: int = 3) -> tuple[Mail, ...]:
    """The series of a trial that starts, or whose end was moved (then drop TRIAL_NOTICES before).

    What would come at the time of the notice of the end, or behind it, is left out; so is a notice that would come with the start.
    `notify_days_before` 0 leaves only the notice of the last day.
    """
    notice_ms, last_day_ms = trial.end_ms - notify_days_before * DAY_MS, trial.end_ms - DAY_MS
    first_notice_ms = max(trial.start_ms, min(notice_ms, last_day_ms))
    planned = [
        (MailKind.TRIAL_WELCOME, trial.start_ms),
        *((kind, trial.start_ms + day * DAY_MS) for kind, day in _LESSONS if trial.start_ms + day * DAY_MS < first_notice_ms),
    ]
    if notify_days_before > 1 and notice_ms > trial.start_ms:
        planned.append((MailKind.TRIAL_ENDING, notice_ms))
    if last_day_ms > trial.start_ms:
        planned.append((MailKind.TRIAL_LAST_DAY, last_day_ms))
    return tuple(_trial_mail(trial, kind, due_ms) for kind, due_ms in planned)


def trial_over(trial: Trial) -> tuple[Mail, ...]:
    """For a trial that ended without a purchase: that it ended, and the day after an offer."""
    return (
        _trial_mail(trial, MailKind.TRIAL_ENDED, trial.end_ms),
        _trial_mail(trial, MailKind.TRIAL_OFFER, trial.end_ms + DAY_MS),
    )


def win_back(
    *, org_id: str, subscription_id: str, plan: str, ended_ms: int, code: str | None = None, days: int = WIN_BACK_DAYS
) -> tuple[Mail, ...]:
    """For a paid subscription that ended: an offer, `days` later. Drop OFFERS when the organization subscribes again.

    `code` None is the one that the settings name, if they do.
    """
    facts = {"plan": plan, "ended_at": isoformat(ended_ms), "code": code}
    identifier = f"win_back:{subscription_id}:{ended_ms // 1000}"
    due_ms = ended_ms + days * DAY_MS
    return (Mail(org_id=org_id, kind=MailKind.WIN_BACK_OFFER, identifier=identifier, due_ms=due_ms, facts=facts),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How much of a quota is used, in the unit that people read. `mode` is what happens beyond it (metering/model/quota.py)."""

    org_id: str
    meter: str
    title: str
    unit: str
    used: Decimal
    limit: Decimal
    window: str
    window_start_ms: int
    resets_ms: int
    mode: str
    plan: str
    each: Decimal | None = None  # what one unit beyond it costs
    currency: str = "usd"


def quota_threshold(spent: Spent, threshold: int, now_ms: int) -> Mail:
    """That `threshold` percent are used: once in a window, again in the next."""
    facts = {
        "meter": spent.meter, "title": spent.title, "unit": spent.unit, "used": _plain(spent.used), "limit": _plain(spent.limit),
        "threshold": threshold, "resets_at": isoformat(spent.resets_ms), "window": spent.window, "mode": spent.mode, "plan": spent.plan,
        "each": _plain(spent.each), "currency": spent.currency,
    }  # fmt: skip
    identifier = f"quota:{spent.org_id}:{spent.meter}:{spent.window}:{threshold}:{spent.window_start_ms // 1000}"
    return Mail(org_id=spent.org_id, kind=MailKind.QUOTA_THRESHOLD, identifier=identifier, due_ms=now_ms, facts=facts)


def spend_cap_reached(*, org_id: str, plan: str, cap: Decimal, spent: Decimal, currency: str, period: tuple[int, int], now_ms: int) -> Mail:
    """That overage has ended for the rest of the period: once for each amount that a cap has in it."""
    start_ms, end_ms = period
    facts = {"plan": plan, "cap": _plain(cap), "spent": _plain(spent), "currency": currency, "resets_at": isoformat(end_ms)}
    identifier = f"spend_cap:{org_id}:{start_ms // 1000}:{_plain(cap)}"
    return Mail(org_id=org_id, kind=MailKind.SPEND_CAP_REACHED, identifier=identifier, due_ms=now_ms, facts=facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """An invoice, as a mail tells it. `number` is what people know it by."""

    org_id: str
    invoice_id: str
    number: str
    plan: str
    amount: Decimal
    currency: str

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "invoice": self.number, "invoice_id": self.invoice_id, "plan": self.plan, "amount": _plain(self.amount),
            "currency": self.currency,
        }  # fmt: skip


def invoice_ready(bill: Bill, *, due_ms: int | None, charged: bool, now_ms: int) -> Mail:
    """That an invoice was issued. `charged`: it will be taken from the payment method, nothing is to be done."""
    facts = {**bill.facts, "due_at": _instant(due_ms), "charged": charged}
    return _bill_mail(bill, MailKind.INVOICE_READY, f"invoice_ready:{bill.invoice_id}", now_ms, facts)


def payment_received(bill: Bill, *, paid_ms: int, restored: bool = False) -> Mail:
    """`restored`: the account was downgraded for this debt, and is back on its plan."""
    facts = {**bill.facts, "paid_at": isoformat(paid_ms), "restored": restored}
    return _bill_mail(bill, MailKind.PAYMENT_RECEIVED, f"payment_received:{bill.invoice_id}", paid_ms, facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt to charge a bill that failed: the `attempt`th of `attempts`, for a `reason` in the words of whoever refused
    (insufficient_funds). `retry_ms` None: none follows; `downgrade_ms` None: there is no plan to lose."""

    attempt: int
    attempts: int
    failed_ms: int
    reason: str | None
    retry_ms: int | None
    downgrade_ms: int | None


def payment_failed(bill: Bill, failure: Failure, falls_to: str) -> Mail:
    """One mail an attempt."""
    facts = {
        **bill.facts, "attempt": failure.attempt, "attempts": failure.attempts, "attempted_at": isoformat(failure.failed_ms),
        "reason": failure.reason, "retry_at": _instant(failure.retry_ms), "downgrade_at": _instant(failure.downgrade_ms),
        "falls_to": falls_to,
    }  # fmt: skip
    identifier = f"payment_failed:{bill.invoice_id}:{failure.attempt}"
    return _bill_mail(bill, MailKind.PAYMENT_FAILED, identifier, failure.failed_ms, facts)


def final_warning(bill: Bill, *, failed_ms: int, downgrade_ms: int, falls_to: str, losses: Mapping[str, Any], now_ms: int) -> Mail:
    """Before the account is downgraded at `downgrade_ms`; `losses` (billing/model/losses.py) is what that takes away."""
    facts = {
        **bill.facts, "overdue_days": (now_ms - failed_ms) // DAY_MS, "hours": -(-(downgrade_ms - now_ms) // 3_600_000),
        "downgrade_at": isoformat(downgrade_ms), "falls_to": falls_to, "losses": losses,
    }  # fmt: skip
    return _bill_mail(bill, MailKind.PAYMENT_FINAL_WARNING, f"final_warning:{bill.invoice_id}", now_ms, facts)


def account_downgraded(bill: Bill, *, falls_to: str, losses: Mapping[str, Any], now_ms: int) -> Mail:
    facts = {**bill.facts, "falls_to": falls_to, "losses": losses, "downgraded_at": isoformat(now_ms)}
    return _bill_mail(bill, MailKind.ACCOUNT_DOWNGRADED, f"account_downgraded:{bill.invoice_id}", now_ms, facts)


_LESSONS = ((MailKind.TRIAL_FEATURE, FEATURE_DAY), (MailKind.TRIAL_STORIES, STORIES_DAY))


def _trial_mail(trial: Trial, kind: MailKind, due_ms: int) -> Mail:
    """Two notices of different ends are different mails; a lesson is given once, however often the end is moved."""
    at_ms = trial.start_ms if kind in TRIAL_SERIES - TRIAL_NOTICES else trial.end_ms
    identifier = f"{kind}:{trial.subscription_id}:{at_ms // 1000}"
    return Mail(org_id=trial.org_id, kind=kind, identifier=identifier, due_ms=due_ms, facts=trial.facts)


def _bill_mail(bill: Bill, kind: MailKind, identifier: str, due_ms: int, facts: Mapping[str, Any]) -> Mail:
    return Mail(org_id=bill.org_id, kind=kind, identifier=identifier, due_ms=due_ms, facts=facts)


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else isoformat(at_ms)
