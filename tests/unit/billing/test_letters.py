"""What mails say: every kind in every language, and nothing in a name that could forge any of it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.letters import LANGUAGES, House, Reader, clean, write
from billing.model.letters.html import as_html
from billing.model.letters.samples import READER, charged, sample
from billing.model.letters.text import as_text
from billing.model.letters.told import FactMissing
from billing.model.mail import Mail, MailKind
from billing.model.mailing import TRIAL_SERIES
from billing.services.mails import written

HOUSE = House(
    product="Acme", public_url="https://acme.example", upgrade_url="https://acme.example/billing/upgrade", support="help@acme.example"
)
K = MailKind


def post(kind: MailKind, language: str = "en", house: House = HOUSE, mail: Mail | None = None) -> str:
    made = written(mail or sample(kind), replace(READER, language=language), house, to="a@b.example")
    return f"{made.subject}\n\n{made.text}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", MailKind)
def test_every_kind_is_written_in_every_language(kind: MailKind, language: str) -> None:
    made = written(sample(kind), replace(READER, language=language), HOUSE, to="a@b.example")
    assert made.subject.startswith("[Acme] ")
    assert made.language == language
    assert "Alice" in made.text
    assert not re.search(r"None|\{|\}|Decimal", made.subject + made.text)
    assert Tags.of(made.html) == []
    assert made.html.count("<script") == 0
    words = re.sub(r"\s+", " ", Tags.text(made.html))
    for line in (paragraph.replace("\n", " ") for paragraph in made.text.split("\n\n")[1:2]):
        assert re.sub(r"\s+", " ", line) in words  # both parts say the same


SAID = [
    (K.PAYMENT_FAILED, "[Acme] Payment Failed - Action Required\n"),
    (K.PAYMENT_FAILED, "We couldn't process your payment of $49.00 for the Pro plan."),
    (K.PAYMENT_FAILED, "Invoice: INV-2026-0042\nAmount: $49.00\nAttempted: January 15, 2026, 08:30 UTC\nReason: Card declined (insuff"),
    (K.PAYMENT_FAILED, "We will automatically retry on January 18, 2026."),
    (K.PAYMENT_FAILED, "This is attempt 1 of 3. If payment is not received by January 24, 2026"),
    (K.PAYMENT_FAILED, "Update payment method:\nhttps://acme.example/billing/payment"),
    (K.PAYMENT_FAILED, "Contact support: help@acme.example"),
    (K.PAYMENT_FINAL_WARNING, "[Acme] URGENT: Payment Required - Service Interruption\n"),
    (K.PAYMENT_FINAL_WARNING, "is now 7 days overdue"),
    (K.PAYMENT_FINAL_WARNING, "will be downgraded to the Free plan in 48 hours"),
    (K.PAYMENT_FINAL_WARNING, "API Requests: 10,000 a month instead of 200,000 a month"),
    (K.PAYMENT_FINAL_WARNING, "Storage: 1 GB a month instead of 50 GB a month"),
    (K.PAYMENT_FINAL_WARNING, "Priority support: no longer included"),
    (K.PAYMENT_FINAL_WARNING, "This is your final reminder."),
    (K.ACCOUNT_DOWNGRADED, "[Acme] Your account was downgraded to the Free plan\n"),
    (K.QUOTA_THRESHOLD, "[Acme] You're using 80% of your API quota\n"),
    (K.QUOTA_THRESHOLD, "Used: 80,000 / 100,000 requests\nRemaining: 20,000 requests\nResets: February 1, 2026"),
    (K.QUOTA_THRESHOLD, "each additional request costs $0.0003"),
    (K.WIN_BACK_OFFER, "COMEBACK50"),
    (K.TRIAL_ENDING, "ends on January 29, 2026"),
    (K.TRIAL_LAST_DAY, "[Acme] Final reminder: your Pro trial ends tomorrow\n"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), SAID)
def test_what_the_english_says(kind: MailKind, text: str) -> None:
    assert re.sub(r"[ \n]+", " ", text) in re.sub(r"[ \n]+", " ", post(kind)) + " "


def test_the_german_counts_and_writes_as_german_does() -> None:
    text = post(K.QUOTA_THRESHOLD, "de").replace("\u00a0", " ")
    assert "[Acme] Sie nutzen 80 % Ihres Kontingents API" in text
    assert "Genutzt: 80.000 / 100.000 Aufrufe\nÜbrig: 20.000 Aufrufe\nBeginnt neu: 1. Februar 2026" in text
    assert "kostet jeder weitere Aufruf 0,0003 $" in text


def test_a_trial_with_a_card_is_told_what_will_be_charged() -> None:
    assert "$49.00 will be charged" in post(K.TRIAL_ENDING, mail=charged(sample(K.TRIAL_ENDING))).replace("\n", " ")
    assert "nothing is charged" in post(K.TRIAL_ENDING).replace("\n", " ")


def test_the_last_attempt_promises_no_other() -> None:
    mail = sample(K.PAYMENT_FAILED)
    text = post(K.PAYMENT_FAILED, mail=replace(mail, facts={**mail.facts, "attempt": 3, "retry_at": None, "reason": None}))
    assert "attempt 3 of 3" in text
    assert "We will not retry" in text
    assert "Reason" not in text


@pytest.mark.parametrize(
    ("mode", "said"),
    [("hard", "further requests are refused until February 1, 2026"), ("throttle", "slowed down"), ("soft", "nothing is refused")],
)
def test_what_follows_a_threshold_is_the_quotas_own(mode: str, said: str) -> None:
    mail = sample(K.QUOTA_THRESHOLD)
    assert said in post(K.QUOTA_THRESHOLD, mail=replace(mail, facts={**mail.facts, "mode": mode})).replace("\n", " ")


def test_without_addresses_there_are_no_links() -> None:
    for kind in MailKind:
        text = post(kind, house=House(product="Acme"))
        assert "http" not in text
        assert "Contact support" not in text


def test_the_settings_code_is_offered_where_the_mail_has_none() -> None:
    mail = sample(K.WIN_BACK_OFFER)
    bare = replace(mail, facts={**mail.facts, "code": None})
    assert "WELCOME" in post(K.WIN_BACK_OFFER, house=replace(HOUSE, win_back_code="WELCOME"), mail=bare)
    assert "discount code" not in post(K.WIN_BACK_OFFER, mail=bare)


def test_a_mail_without_its_facts_is_refused_by_name() -> None:
    with pytest.raises(FactMissing, match="lacks plan"):
        write(K.TRIAL_ENDED, {}, READER, HOUSE)


# --- names that were made to harm ---------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Elements that are not closed, and the texts between them."""

    VOID = ("meta", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @classmethod
    def of(cls, html: str) -> list[str]:
        return cls(html).open

    @classmethod
    def text(cls, html: str) -> str:
        return "".join(cls(html).texts)


HARMLESS = {tag for kind in MailKind for tag in Tags(as_html(write(kind, sample(kind).facts, READER, HOUSE), "Acme")).seen}
NASTY = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{house}{0}%s${x}{{7*7}}", "a\r\nBcc: eve@example.com", "‮evil"]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", MailKind)
def test_a_name_stays_a_name(kind: MailKind, name: str) -> None:
    facts = {
        key: name if key in ("plan", "reason", "falls_to", "title", "invoice", "code") else value
        for key, value in sample(kind).facts.items()
    }
    made = written(replace(sample(kind), facts=facts), Reader(organization=name, name=name), HOUSE, to="a@b.example")
    assert Tags(made.html).seen <= HARMLESS
    assert Tags.of(made.html) == []
    assert not set("\r\n") & set(made.subject + made.name)
    assert "\u202e" not in made.subject + made.text + made.html
    assert "\r" not in made.text


@settings(deadline=None)
@given(text=st.text(max_size=400))
def test_what_is_cleaned_is_one_short_line(text: str) -> None:
    found = clean(text)
    assert len(found) <= 200
    assert len(found.splitlines()) <= 1
    assert clean(found) == found
    assert found.encode().decode() == found  # no half of a character


def test_lists_of_nothing_are_left_out() -> None:
    mail = sample(K.ACCOUNT_DOWNGRADED)
    letter = write(mail.kind, {**mail.facts, "losses": {}}, READER, HOUSE)
    assert "What changed" not in as_text(letter)


def test_a_series_greets_whoever_is_known() -> None:
    for kind in TRIAL_SERIES:
        assert write(kind, sample(kind).facts, Reader(organization="Acme Corp"), HOUSE).greeting == "Hi Acme Corp,"
