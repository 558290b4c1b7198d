"""What stands on an invoice in each language: its labels, and what our own lines say. Pure.

Lines are written in English when they are caused; in another language what follows one of our forms is said in that language's, and
what somebody typed (a one-time charge, a coupon's name) stays as it was typed. To add a language: its Words in WORDS, and its Wording
in billing/model/wording.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from billing.model.wording import Wording, language_of, wording
from metering.model.clock import to_datetime

_Say = Callable[[re.Match[str], Wording], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """`labels` by name, `parts` by the kind of a step of a price, `forms` what our own lines say."""

    labels: Mapping[str, str]
    parts: Mapping[str, str]
    forms: tuple[tuple[re.Pattern[str], _Say], ...] = field(default=())

    def label(self, name: str, **values: str) -> str:
        return self.labels[name].format(**values)

    def said(self, description: str, language: Wording) -> str:
        for form, say in self.forms:
            if found := form.fullmatch(description):
                return say(found, language)
        return description


def _date(text: str, language: Wording) -> str:
    year, month, day = map(int, text.split("-"))
    return language.date(to_datetime(0).replace(year=year, month=month, day=day))


def _number(text: str, language: Wording) -> str:
    """200,000 GB as the language writes it."""
    figure, _, unit = text.partition(" ")
    return " ".join(filter(None, (language.number(Decimal(figure.replace(",", ""))), unit)))


_ENGLISH = Words(
    labels={
        "invoice": "Invoice", "draft": "Preview", "number": "Invoice number", "date": "Date", "due": "Due date", "period": "Billing period",
        "bill_to": "Bill to", "from": "From", "description": "Description", "quantity": "Quantity", "unit_price": "Unit price",
        "amount": "Amount", "subtotal": "Subtotal", "total": "Total", "tax": "Tax ({rate})", "tax_included": "of which tax ({rate})",
        "due_now": "{amount} due {date}", "paid_on": "{amount} paid on {date}", "amount_due": "Amount due", "amount_paid": "Paid",
        "credited": "Credited", "void": "This invoice is void. Nothing is due.", "nothing_due": "Nothing is due.",
        "balance": "Credit balance", "tax_id": "Tax ID", "page": "Page {page} of {pages}", "continued": "{number}, continued",
        "paid_by": "Paid: {method}", "not_yet": "This is a preview of what would be due now. It is not an invoice.",
        "carried": "Carried to your balance", "by hand": "bank transfer or other means",
    },
    parts={
        "units": "Units", "free": "Included", "tier": "Tier {tier}", "flat": "Flat fee", "package": "Packages", "percentage": "Share",
        "fixed": "Events", "event_minimum": "Least per event", "event_maximum": "Most per event", "multiple": "Multiplied",
        "minimum": "Minimum", "maximum": "Maximum",
    },
)  # fmt: skip

_EVERY = {"Daily": "täglich", "Weekly": "wöchentlich", "Monthly": "monatlich", "Yearly": "jährlich"}
_TIMES = {"day": "Tage", "days": "Tage", "weeks": "Wochen", "months": "Monate", "years": "Jahre"}


def _every_german(text: str) -> str:
    if text in _EVERY:
        return _EVERY[text]
    count, _, unit = text.removeprefix("every ").partition(" ")
    return f"alle {count} {_TIMES.get(unit, unit)}"


_GERMAN = Words(
    labels={
        "invoice": "Rechnung", "draft": "Vorschau", "number": "Rechnungsnummer", "date": "Datum", "due": "Fällig am",
        "period": "Abrechnungszeitraum", "bill_to": "Rechnung an", "from": "Von", "description": "Beschreibung", "quantity": "Menge",
        "unit_price": "Einzelpreis", "amount": "Betrag", "subtotal": "Zwischensumme", "total": "Gesamtbetrag",
        "tax": "Umsatzsteuer ({rate})",
        "tax_included": "darin Umsatzsteuer ({rate})", "due_now": "{amount} fällig am {date}", "paid_on": "{amount} bezahlt am {date}",
        "amount_due": "Zu zahlen", "amount_paid": "Bezahlt", "credited": "Gutgeschrieben",
        "void": "Diese Rechnung ist storniert. Es ist nichts zu zahlen.", "nothing_due": "Es ist nichts zu zahlen.", "balance": "Guthaben",
        "tax_id": "USt-IdNr./Steuernummer", "page": "Seite {page} von {pages}", "continued": "{number}, Fortsetzung",
        "paid_by": "Bezahlt: {method}", "not_yet": "Dies ist eine Vorschau auf das, was jetzt fällig wäre. Es ist keine Rechnung.",
        "carried": "Auf Ihr Guthaben übertragen", "by hand": "Überweisung oder auf anderem Weg",
    },
    parts={
        "units": "Einheiten", "free": "Inklusive", "tier": "Stufe {tier}", "flat": "Grundbetrag", "package": "Pakete",
        "percentage": "Anteil", "fixed": "Vorgänge", "event_minimum": "Mindestens je Vorgang", "event_maximum": "Höchstens je Vorgang",
        "multiple": "Vervielfacht", "minimum": "Mindestbetrag", "maximum": "Höchstbetrag",
    },
    forms=(
        (re.compile(r"(.+) Plan \((\w+|every .+)\)"), lambda m, _: f"Tarif {m[1]} ({_every_german(m[2])})"),
        (re.compile(r"Unused time on (.+) Plan after (\S+)"), lambda m, w: f"Nicht genutzte Zeit im Tarif {m[1]} ab {_date(m[2], w)}"),
        (re.compile(r"Remaining time on (.+) Plan after (\S+)"), lambda m, w: f"Verbleibende Zeit im Tarif {m[1]} ab {_date(m[2], w)}"),
        (re.compile(r"(.+) beyond ([\d,.]+(?: \S+)?)"), lambda m, w: f"{m[1]} über {_number(m[2], w)} hinaus"),
        (re.compile(r"(.+): what is lacking of the commitment"), lambda m, _: f"{m[1]}: was zur vereinbarten Abnahme fehlt"),
        (
            re.compile(r"(.+) of (\d+-\d+-\d+) to (\d+-\d+-\d+), arrived later"),
            lambda m, w: f"{m[1]} vom {_date(m[2], w)} bis {_date(m[3], w)}, nachträglich eingegangen",
        ),
        (
            re.compile(r"Correction of (\S+), row (\d+) \((.+)\): (.+)"),
            lambda m, _: f"Korrektur zu {m[1]}, Zeile {m[2]} ({m[3]}): {m[4]}",
        ),
        (re.compile(r"(.+) \(([\d.]+)% off\)"), lambda m, w: f"{m[1]} ({w.number(Decimal(m[2]))} % Rabatt)"),
        (re.compile(r"(.+) ending in (\w+)"), lambda m, _: f"{m[1]}, endet auf {m[2]}"),
        (re.compile(r"Credit: (.+)"), lambda m, _: f"Guthaben: {m[1]}"),
        (re.compile(r"Balance"), lambda _, __: "Guthaben"),
    ),
)  # fmt: skip

WORDS: Mapping[str, Words] = {"en": _ENGLISH, "de": _GERMAN}


def words(tag: str | None) -> tuple[Words, Wording]:
    """Those of the language we have for a tag such as de-AT; English for every other."""
    return WORDS[language_of(tag)], wording(tag)
