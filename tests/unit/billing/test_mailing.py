"""Which mails a trial, an ended subscription, a quota make, and when each is due."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.mail import MailKind
from billing.model.mailing import (
    DAY_MS,
    OFFERS,
    TRIAL_NOTICES,
    TRIAL_SERIES,
    Spent,
    Trial,
    quota_threshold,
    trial_mails,
    trial_over,
    win_back,
)

START = 1_767_225_600_000  # 2026-01-01
K = MailKind


def trial(days: int = 14, **changed: object) -> Trial:
    terms: dict[str, object] = {
        "org_id": "o", "subscription_id": "s", "plan": "Pro", "start_ms": START, "end_ms": START + days * DAY_MS,
        "amount": Decimal("49.00"),
        "currency": "usd", "charged": False,
    }  # fmt: skip
    return Trial(**{**terms, **changed})  # type: ignore[arg-type]


def days(mails: tuple[object, ...]) -> list[tuple[MailKind, int]]:
    return [(m.kind, (m.due_ms - START) // DAY_MS) for m in mails]  # type: ignore[attr-defined]


SERIES = [
    (14, 3, [(K.TRIAL_WELCOME, 0), (K.TRIAL_FEATURE, 3), (K.TRIAL_STORIES, 7), (K.TRIAL_ENDING, 11), (K.TRIAL_LAST_DAY, 13)]),
    (30, 5, [(K.TRIAL_WELCOME, 0), (K.TRIAL_FEATURE, 3), (K.TRIAL_STORIES, 7), (K.TRIAL_ENDING, 25), (K.TRIAL_LAST_DAY, 29)]),
    (7, 3, [(K.TRIAL_WELCOME, 0), (K.TRIAL_FEATURE, 3), (K.TRIAL_ENDING, 4), (K.TRIAL_LAST_DAY, 6)]),
    (14, 1, [(K.TRIAL_WELCOME, 0), (K.TRIAL_FEATURE, 3), (K.TRIAL_STORIES, 7), (K.TRIAL_LAST_DAY, 13)]),
    (14, 0, [(K.TRIAL_WELCOME, 0), (K.TRIAL_FEATURE, 3), (K.TRIAL_STORIES, 7), (K.TRIAL_LAST_DAY, 13)]),
    (3, 3, [(K.TRIAL_WELCOME, 0), (K.TRIAL_LAST_DAY, 2)]),
    (3, 30, [(K.TRIAL_WELCOME, 0), (K.TRIAL_LAST_DAY, 2)]),
    (1, 3, [(K.TRIAL_WELCOME, 0)]),
]


@pytest.mark.parametrize(("length", "notify", "expected"), SERIES)
def test_a_trial_is_accompanied_by_its_series(length: int, notify: int, expected: list[tuple[MailKind, int]]) -> None:
    assert days(trial_mails(trial(length), notify)) == expected


def test_a_trial_without_a_purchase_is_told_its_end_and_a_day_later_an_offer() -> None:
    assert days(trial_over(trial())) == [(K.TRIAL_ENDED, 14), (K.TRIAL_OFFER, 15)]


def test_a_longer_trial_repeats_no_lesson_and_tells_its_new_end() -> None:
    first, second = trial_mails(trial(14)), trial_mails(trial(21))
    known = {mail.identifier for mail in first}
    assert [mail.kind for mail in second if mail.identifier not in known] == [K.TRIAL_ENDING, K.TRIAL_LAST_DAY]


def test_someone_who_left_gets_an_offer_after_a_week() -> None:
    [mail] = win_back(org_id="o", subscription_id="s", plan="Pro", ended_ms=START, code="COMEBACK50")
    assert (mail.kind, mail.due_ms, mail.facts["code"]) == (K.WIN_BACK_OFFER, START + 7 * DAY_MS, "COMEBACK50")
    assert mail.kind in OFFERS


@settings(deadline=None)
@given(length=st.integers(1, 800), notify=st.integers(0, 400))
def test_no_series_has_two_mails_of_one_time_or_one_behind_its_end(length: int, notify: int) -> None:
    mails = trial_mails(trial(length), notify)
    dues = [mail.due_ms for mail in mails]
    assert dues == sorted(set(dues))
    assert all(START <= due < START + length * DAY_MS for due in dues)
    assert {mail.kind for mail in mails} <= TRIAL_SERIES
    assert len({mail.identifier for mail in [*mails, *trial_over(trial(length))]}) == len(mails) + 2
    assert all(mail.kind in TRIAL_NOTICES for mail in mails[-1:]) or length == 1


SPENT = {
    "org_id": "o", "meter": "api", "title": "API", "unit": "requests", "used": Decimal(80_000), "limit": Decimal(100_000),
    "window": "period",
    "resets_ms": START + 31 * DAY_MS, "mode": "overage", "plan": "Pro", "each": Decimal("0.0003"),
}  # fmt: skip


def test_a_threshold_is_told_once_in_a_window_and_again_in_the_next() -> None:
    def identifier(start_ms: int, threshold: int = 80) -> str:
        return quota_threshold(Spent(**SPENT, window_start_ms=start_ms), threshold, START).identifier  # type: ignore[arg-type]

    assert identifier(START) == identifier(START)
    assert len({identifier(START), identifier(START + 31 * DAY_MS), identifier(START, 90)}) == 3


def test_the_longest_identifier_fits_its_column() -> None:
    spent = Spent(**{**SPENT, "org_id": "0" * 36, "meter": "m" * 63}, window_start_ms=START)  # type: ignore[arg-type]
    assert len(quota_threshold(spent, 100, START).identifier) <= 200
