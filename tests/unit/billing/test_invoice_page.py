"""An invoice as people read it: words and money of their language, and the PDF that is drawn of it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest

from billing.documents.invoice_pdf import LogoUnreadable, render
from billing.model.invoice import Deduction, Event, Invoice, Issuer, State, build
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.invoice_page import Detail, file_name, page
from billing.model.invoice_words import WORDS, words
from billing.model.pricing.base import PartKind
from billing.model.tax import TaxRule

JAN, DAY = 1_767_225_600_000, 86_400_000
TIERS = [
    {"kind": "tier", "tier": 1, "quantity": "100000", "unit_price": "0.001", "amount": "100"},
    {"kind": "tier", "tier": 2, "quantity": "20000", "unit_price": "0.0008", "amount": "16"},
]


def item(description: str, amount: str, kind: ItemKind = ItemKind.USAGE, **more: Any) -> InvoiceItem:
    given = {
        "org_id": "o", "identifier": description, "kind": kind, "description": description, "quantity": D(1), "unit_price": None,
        "amount": D(amount), "currency": "eur", "period_start_ms": JAN, "period_end_ms": JAN + 31 * DAY, "evidence": {},
    }  # fmt: skip
    return InvoiceItem(**{**given, **more})


ITEMS = [
    item("Pro Plan (Monthly)", "1234.50", ItemKind.BASE, unit_price=D("1234.50")),
    item("Storage beyond 50 GB", "0.25", ItemKind.OVERAGE, quantity=D("2.5"), unit_price=D("0.10"), evidence={"unit": "GB"}),
    item("Calls", "116.00", quantity=D(120_000), evidence={"unit": "request", "parts": TIERS}),
]


def invoice(
    items: Sequence[InvoiceItem] = ITEMS, *, language: str | None = None, state: State = State.OPEN, inclusive: bool = False
) -> Invoice:
    lines, sums, rate = build(
        items, currency="eur", rule=TaxRule(rate=D("0.19"), inclusive=inclusive),
        discounts=lambda _: [Deduction(reference="c", description="LAUNCH (20% off)", amount=D("50.75"))],
    )  # fmt: skip
    draft = Invoice(
        id="in_1", org_id="o", issuer=Issuer.WEIGHBRIDGE, identifier="i", state=State.DRAFT, currency="eur", lines=lines, totals=sums,
        tax_rate=rate, period_start_ms=JAN, period_end_ms=JAN + 31 * DAY, created_ms=JAN + 31 * DAY, due_ms=JAN + 45 * DAY,
        seller={"name": "Acme", "address": "1 Main St\nTown", "tax_id": "12-3", "footer": "Thank you"},
        buyer={"name": "Łódź GmbH", "address": ["Große Straße 1", "80331 München"], "language": language, "tax_id": ["DE1"]},
    )  # fmt: skip
    if state is State.DRAFT:
        return draft
    final = replace(draft.moved(Event.FINALIZE, JAN + 31 * DAY), number="INV-000042")
    if state is State.PAID:
        return replace(final.moved(Event.PAY, JAN + 32 * DAY), amount_paid=sums.amount_due, payment_method="Visa ending in 4242")
    return final if state is State.OPEN else final.moved(Event.VOID, JAN + 32 * DAY)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_in_english() -> None:
    found = page(invoice())
    assert (found.title, found.headline) == ("Invoice", "€1,547.00 due February 15, 2026")
    assert [(row.description, row.quantity, row.unit_price, row.amount) for row in found.rows] == [
        ("Pro Plan (Monthly)", "1", "€1,234.50", "€1,234.50"), ("Storage beyond 50 GB", "2.5 GB", "€0.10", "€0.25"),
        ("Calls", "120,000", "", "€116.00"),
    ]  # fmt: skip
    assert found.rows[2].details == (
        Detail(text="January 1, 2026 – January 31, 2026"),
        Detail(text="Tier 1", quantity="100,000", unit_price="€0.001", amount="€100.00"),
        Detail(text="Tier 2", quantity="20,000", unit_price="€0.0008", amount="€16.00"),
    )
    assert found.sums == (
        ("Subtotal", "€1,350.75", False), ("LAUNCH (20% off)", "-€50.75", False), ("Tax (19%)", "€247.00", False),
        ("Total", "€1,547.00", True),
    )  # fmt: skip
    assert found.buyer == ("Łódź GmbH", "Große Straße 1", "80331 München", "Tax ID: DE1")


def test_in_german() -> None:
    found = page(invoice(language="de-AT"))
    assert plain(found.headline) == "1.547,00 € fällig am 15. Februar 2026"
    assert [(row.description, row.quantity, plain(row.amount)) for row in found.rows] == [
        ("Tarif Pro (monatlich)", "1", "1.234,50 €"), ("Storage über 50 GB hinaus", "2,5 GB", "0,25 €"), ("Calls", "120.000", "116,00 €"),
    ]  # fmt: skip
    assert [(name, plain(value)) for name, value, _ in found.sums][1:3] == [
        ("LAUNCH (20 % Rabatt)", "-50,75 €"), (f"Umsatzsteuer (19{chr(160)}%)", "247,00 €"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("Pro Plan (Yearly)", "Tarif Pro (jährlich)"),
        ("Pro Plan (every 3 months)", "Tarif Pro (alle 3 Monate)"),
        ("Unused time on Pro Plan after 2026-02-15", "Nicht genutzte Zeit im Tarif Pro ab 15. Februar 2026"),
        ("Remaining time on Pro Plan after 2026-02-15", "Verbleibende Zeit im Tarif Pro ab 15. Februar 2026"),
        ("API Requests beyond 200,000", "API Requests über 200.000 hinaus"),
        ("API Requests: what is lacking of the commitment", "API Requests: was zur vereinbarten Abnahme fehlt"),
        (
            "API of 2026-01-01 to 2026-01-31, arrived later",
            "API vom 1. Januar 2026 bis 31. Januar 2026, nachträglich eingegangen",
        ),
        ("Correction of INV-1, row 2 (API): outage", "Korrektur zu INV-1, Zeile 2 (API): outage"),
        ("Balance", "Guthaben"),
        ("Credit: Referral bonus", "Guthaben: Referral bonus"),
        ("Onboarding workshop", "Onboarding workshop"),
    ],
)
def test_what_our_own_lines_say_is_said_in_german_and_what_somebody_typed_stays(english: str, german: str) -> None:
    said, wording = words("de")
    assert said.said(english, wording) == german
    assert words("en")[0].said(english, wording) == english


def test_every_language_has_every_word() -> None:
    first, *others = WORDS.values()
    for other in others:
        assert other.labels.keys() == first.labels.keys()
        assert other.parts.keys() == first.parts.keys()
        for name, text in other.labels.items():
            assert re.findall(r"{\w+}", text) == re.findall(r"{\w+}", first.labels[name])
    assert {kind.value for kind in PartKind} == first.parts.keys()


@pytest.mark.parametrize(
    ("state", "title", "headline", "last"),
    [
        (State.DRAFT, "Preview", "€1,547.00", ("Amount due", "€1,547.00", True)),
        (State.PAID, "Invoice", "€1,547.00 paid on February 2, 2026", ("Amount due", "€0.00", True)),
        (State.VOID, "Invoice", "This invoice is void. Nothing is due.", ("Amount due", "€0.00", True)),
    ],
)
def test_it_says_what_became_of_it(state: State, title: str, headline: str, last: tuple[str, str, bool]) -> None:
    found = page(invoice(state=state))
    assert (found.title, found.headline, found.sums[-1]) == (title, headline, last)


def test_tax_that_prices_contain_stands_below_the_total() -> None:
    names = [name for name, _, _ in page(invoice(inclusive=True)).sums]
    assert names == ["Subtotal", "LAUNCH (20% off)", "Total", "of which tax (19%)"]


def test_a_file_is_named_by_number_and_date() -> None:
    assert file_name(invoice()) == "invoice_INV-000042_2026-02-01.pdf"
    assert file_name(replace(invoice(), number="A/../b")) == "invoice_A----b_2026-02-01.pdf"


# --- drawn --------------------------------------------------------------------------------------------------------------


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_equal_invoices_are_equal_files() -> None:
    first = render(page(invoice()))
    assert first.startswith(b"%PDF-")
    assert pages(first) == 1
    assert render(page(invoice())) == first


def test_many_lines_go_over_several_pages() -> None:
    many = [*ITEMS, *(item(f"Model {n}", "1.00") for n in range(40))]
    assert pages(render(page(invoice(many)))) == 3


def test_letters_of_many_scripts_are_drawn(caplog: pytest.LogCaptureFixture) -> None:
    named = replace(invoice(), buyer={"name": "Żółć Ελλάς Привет Ğüneş Đặng ₹ €"})
    render(page(named))
    assert "missing" not in caplog.text


def test_a_logo_that_is_no_picture_is_refused() -> None:
    with pytest.raises(LogoUnreadable):
        render(page(invoice()), b"<html>not found</html>")
