"""Who can receive a mail, and what an attempt does to it."""

import pytest

from billing.model.mail import MailKind
from billing.model.mail_delivery import MOST_ATTEMPTS, Answer, MailState, back_off_ms, judge, message_id, undeliverable, wire_address

ADDRESSES = [
    ("alice@example.com", True), ("a.b+c@sub.example.co.uk", True), ("o'hara@example.com", True), ("anna@bücher.example", True),
    ("", False), (None, False), ("alice", False), ("@example.com", False), ("alice@", False), ("a b@example.com", False),
    ("alice@example.com\r\nBcc: eve@example.com", False), ("alice@example.com\n", False), ("a@b.example,c@d.example", False),
    ("<alice@example.com>", False), ("alice@exa mple.com", False), ("a@b@example.com", False), ("alice@example.com;eve@example.com", False),
    ("älice@example.com", False), ("a\x00@example.com", False), ("a@" + "b" * 300 + ".example", False), ("a@..example", False),
    ("a@[127.0.0.1]", False), ("alice@example.com SIZE=1", False), ("a@b\u2028c.example", False),
]  # fmt: skip


@pytest.mark.parametrize(("address", "good"), ADDRESSES)
def test_an_address_is_one_or_nobody_is_written_to(address: str | None, good: bool) -> None:
    assert (undeliverable(address, deleted=False, kind=MailKind.INVOICE_READY) is None) is good


def test_an_organization_that_was_deleted_is_told_of_its_bills_only() -> None:
    assert undeliverable("a@b.example", deleted=True, kind=MailKind.PAYMENT_FAILED) is None
    assert undeliverable("a@b.example", deleted=True, kind=MailKind.WIN_BACK_OFFER) == "the organization was deleted"


def test_a_domain_is_spelled_as_servers_do() -> None:
    assert wire_address("anna@bücher.example") == "anna@xn--bcher-kva.example"


VERDICTS = [
    (Answer.ACCEPTED, 1, MailState.SENT), (Answer.REFUSED, 1, MailState.DEAD), (Answer.DEFERRED, 1, MailState.WAITING),
    (Answer.AMBIGUOUS, 1, MailState.WAITING), (Answer.DEFERRED, MOST_ATTEMPTS, MailState.DEAD),
    (Answer.AMBIGUOUS, MOST_ATTEMPTS, MailState.DEAD),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "attempt", "state"), VERDICTS)
def test_what_becomes_of_a_mail(answer: Answer, attempt: int, state: MailState) -> None:
    verdict = judge(answer, attempt, reason="said", now_ms=1000, jitter=0.0)
    assert verdict.state is state
    assert (verdict.next_attempt_ms is not None) is (state is MailState.WAITING)


@pytest.mark.parametrize(("attempt", "least_s", "most_s"), [(1, 30, 60), (2, 60, 120), (6, 960, 1920), (40, 10_800, 21_600)])
def test_each_attempt_waits_longer_up_to_six_hours(attempt: int, least_s: int, most_s: int) -> None:
    assert back_off_ms(attempt, 0.0) == least_s * 1000
    assert least_s * 1000 < back_off_ms(attempt, 0.999) <= most_s * 1000


def test_a_message_id_is_that_of_its_mail() -> None:
    assert message_id("a", "x.example") == message_id("a", "x.example")
    assert message_id("a", "x.example") != message_id("b", "x.example")
