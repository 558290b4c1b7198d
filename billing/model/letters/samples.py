"""One mail of every kind, for previews and tests. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from billing.model.letters.letter import Reader
from billing.model.mail import Mail, MailKind
from billing.model.mailing import (
    DAY_MS,
    Bill,
    Failure,
    Spent,
    Trial,
    account_downgraded,
    final_warning,
    invoice_ready,
    payment_failed,
    payment_received,
    quota_threshold,
    spend_cap_reached,
    trial_mails,
    trial_over,
    win_back,
)

READER = Reader(organization="Acme Corp", name="Alice")
_START_MS = 1_768_465_800_000  # 15 January 2026, 08:30 UTC
_ORG = "00000000-0000-4000-8000-000000000000"
_BILL = Bill(org_id=_ORG, invoice_id="in_sample", number="INV-2026-0042", plan="Pro", amount=Decimal("49.00"), currency="usd")
_TRIAL = Trial(
    org_id=_ORG, subscription_id="sample", plan="Pro", start_ms=_START_MS, end_ms=_START_MS + 14 * DAY_MS, amount=Decimal("49.00"),
    currency="usd", charged=False,
)  # fmt: skip
_LOSSES = {
    "quotas": [
        {"title": "API Requests", "unit": "", "window": "period", "before": "200000", "after": "10000"},
        {"title": "Storage", "unit": "GB", "window": "period", "before": "50", "after": "1"},
    ],
    "features": ["Priority support"],
}
_SPENT = Spent(
    org_id=_ORG, meter="api", title="API", unit="request", used=Decimal(80_000), limit=Decimal(100_000), window="period",
    window_start_ms=_START_MS, resets_ms=_START_MS + 17 * DAY_MS, mode="overage", plan="Pro", each=Decimal("0.0003"), currency="usd",
)  # fmt: skip


def sample(kind: MailKind) -> Mail:
    """As if it had happened in January 2026."""
    return next(mail for mail in _all() if mail.kind is kind)


def _all() -> Iterator[Mail]:
    downgrade_ms = _START_MS + 9 * DAY_MS
    failure = Failure(
        attempt=1, attempts=3, failed_ms=_START_MS, reason="insufficient_funds", retry_ms=_START_MS + 3 * DAY_MS,
        downgrade_ms=downgrade_ms,
    )  # fmt: skip
    yield payment_failed(_BILL, failure, "Free")
    yield final_warning(
        _BILL, failed_ms=_START_MS, downgrade_ms=downgrade_ms, falls_to="Free", losses=_LOSSES, now_ms=downgrade_ms - 2 * DAY_MS
    )
    yield account_downgraded(_BILL, falls_to="Free", losses=_LOSSES, now_ms=downgrade_ms)
    yield invoice_ready(_BILL, due_ms=_START_MS + 14 * DAY_MS, charged=False, now_ms=_START_MS)
    yield payment_received(_BILL, paid_ms=_START_MS + 4 * DAY_MS)
    yield from trial_mails(_TRIAL)
    yield from trial_over(_TRIAL)
    yield from win_back(org_id=_ORG, subscription_id="sample", plan="Pro", ended_ms=_START_MS, code="COMEBACK50")
    yield quota_threshold(_SPENT, 80, _START_MS)
    yield spend_cap_reached(
        org_id=_ORG, plan="Pro", cap=Decimal("500.00"), spent=Decimal("500.07"), currency="usd",
        period=(_START_MS, _START_MS + 17 * DAY_MS), now_ms=_START_MS,
    )  # fmt: skip


def charged(mail: Mail) -> Mail:
    """A trial's mail for somebody with a payment method."""
    return replace(mail, facts={**mail.facts, "charged": True})
