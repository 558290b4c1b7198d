"""The letters in German. Pure."""

from collections.abc import Callable, Mapping

from billing.model.letters.letter import Action, Block, Code, Letter, Points, Table, Text, Tone
from billing.model.letters.told import Told
from billing.model.mail import MailKind

_UNITS = {
    "request": "Aufrufe", "call": "Aufrufe", "query": "Abfragen", "token": "Token", "invocation": "Ausführungen",
    "credit": "Guthabenpunkte",
}  # fmt: skip
_EACH = {
    "request": "jeder weitere Aufruf", "call": "jeder weitere Aufruf", "query": "jede weitere Abfrage", "token": "jedes weitere Token",
    "invocation": "jede weitere Ausführung", "credit": "jeder weitere Guthabenpunkt",
}  # fmt: skip


def _letter(t: Told, subject: str, *blocks: Block, tone: Tone = Tone.PLAIN, because: str | None = None) -> Letter:
    return Letter(
        language="de",
        subject=subject,
        greeting=f"Guten Tag {t.name},",
        blocks=(*blocks, *((Text(f"Fragen? Schreiben Sie uns: {t.house.support}"),) if t.house.support else ())),
        closing=("Mit freundlichen Grüßen", f"Ihr {t.product}-Team"),
        small=because or f"{t.product} schickt dies an {t.organization}, weil es Ihr Konto betrifft.",
        tone=tone,
    )


def _offer(t: Told, subject: str, *blocks: Block, tone: Tone = Tone.PLAIN) -> Letter:
    """Nobody has to read it, and one may say so."""
    because = f"{t.product} schickt dies an {t.organization}. Wer keine solchen Mails mehr möchte, antwortet mit dem Wort „abmelden“."
    return _letter(t, subject, *blocks, tone=tone, because=because)


def _pay(t: Told) -> Action:
    return Action("Zahlungsmittel aktualisieren", t.house.page("/billing/payment"))


def _bill(t: Told, *more: tuple[str, str]) -> Table:
    return Table((("Rechnung", t.text("invoice")), ("Betrag", t.money()), *more))


def _lost(t: Told) -> tuple[str, ...]:
    shrinks = "{title}: {after}{per} statt {before}{per}"
    return t.lost(per_month=" im Monat", unlimited="unbegrenzt", shrinks=shrinks, goes="{feature}: nicht mehr enthalten")


_REASONS = {
    "card_declined": "Karte abgelehnt",
    "generic_decline": "Karte abgelehnt",
    "do_not_honor": "Karte abgelehnt",
    "insufficient_funds": "Karte abgelehnt (keine ausreichende Deckung)",
    "expired_card": "Die Karte ist abgelaufen",
    "incorrect_cvc": "Karte abgelehnt (falsche Prüfnummer)",
    "lost_card": "Karte abgelehnt",
    "stolen_card": "Karte abgelehnt",
    "authentication_required": "Ihre Bank möchte, dass Sie die Zahlung bestätigen",
    "no_payment_method": "Es ist kein Zahlungsmittel hinterlegt",
}


def _for_plan(t: Told) -> str:
    return f" für den Tarif {t.text('plan')}" if t.has("plan") else ""


def payment_failed(t: Told) -> Letter:
    reason = (("Grund", t.reason(_REASONS)),) if t.has("reason") else ()
    retry = "Von selbst versuchen wir es nicht noch einmal."
    if t.has("retry_at"):
        retry = f"Wir versuchen es am {t.date('retry_at')} von selbst noch einmal."
    steps = ("Aktualisieren Sie Ihr Zahlungsmittel oder fügen Sie eine neue Karte hinzu.", retry, "Ihr Dienst läuft vorerst weiter.")
    then = f"Dies ist Versuch {t.whole('attempt')} von {t.whole('attempts')}."
    if t.has("downgrade_at"):
        fall = f"wird Ihr Konto auf den Tarif {t.text('falls_to')} mit dessen Grenzen herabgestuft"
        then += f" Geht die Zahlung nicht bis zum {t.date('downgrade_at')} ein, {fall}."
    return _letter(
        t,
        "Zahlung fehlgeschlagen - bitte handeln",
        Text(f"Ihre Zahlung von {t.money()}{_for_plan(t)} konnte nicht ausgeführt werden."),
        _bill(t, ("Versucht", t.instant("attempted_at")), *reason),
        Points("Was jetzt zu tun ist:", steps, numbered=True),
        _pay(t),
        Text(then),
        tone=Tone.URGENT,
    )


def payment_final_warning(t: Told) -> Letter:
    days = t.whole("overdue_days")
    return _letter(
        t,
        "DRINGEND: Zahlung erforderlich - Ihr Dienst wird eingeschränkt",
        Text(f"Ihre Zahlung von {t.money()}{_for_plan(t)} ist seit {days} {'Tag' if days == 1 else 'Tagen'} überfällig."),
        Text(f"Ihr Konto wird in {t.whole('hours')} Stunden, am {t.instant('downgrade_at')}, auf den Tarif {t.text('falls_to')} "
             "herabgestuft, wenn die Zahlung bis dahin nicht eingeht."),
        _bill(t),
        Points("Das bedeutet:", _lost(t)),
        _pay(t),
        Text("Dies ist die letzte Erinnerung."),
        tone=Tone.URGENT,
    )  # fmt: skip


def account_downgraded(t: Told) -> Letter:
    return _letter(
        t,
        f"Ihr Konto wurde auf den Tarif {t.text('falls_to')} herabgestuft",
        Text(f"Ihre Zahlung von {t.money()} ist nicht eingegangen. Ihr Konto wechselte deshalb am {t.instant('downgraded_at')} vom Tarif "
             f"{t.text('plan')} zum Tarif {t.text('falls_to')}."),
        _bill(t),
        Points("Was sich geändert hat:", _lost(t)),
        Text(f"Ihre Daten und Einstellungen bleiben. Sobald die Rechnung bezahlt ist, gilt von selbst wieder der Tarif {t.text('plan')}."),
        Action("Jetzt bezahlen", t.house.page("/billing/payment")),
        tone=Tone.URGENT,
    )  # fmt: skip


def invoice_ready(t: Told) -> Letter:
    due = (("Fällig", t.date("due_at")),) if t.has("due_at") else ()
    what = "Wir buchen den Betrag ab; Sie müssen nichts tun." if t.has("charged") else "Bitte bezahlen Sie sie, bis sie fällig ist."
    return _letter(
        t,
        f"Ihre Rechnung {t.text('invoice')}",
        Text(f"Ihre Rechnung{_for_plan(t)} liegt bereit. {what}"),
        _bill(t, *due),
        Action("Rechnung ansehen", t.house.page("/billing/invoices")),
    )


def payment_received(t: Told) -> Letter:
    back = (Text(f"Für Ihr Konto gilt wieder der Tarif {t.text('plan')}."),) if t.has("restored") else ()
    return _letter(
        t,
        "Zahlung erhalten - vielen Dank",
        Text(f"Ihre Zahlung von {t.money()} ist bei uns eingegangen. Vielen Dank!"),
        _bill(t, ("Bezahlt", t.instant("paid_at"))),
        *back,
        tone=Tone.GOOD,
    )


def trial_welcome(t: Told) -> Letter:
    if t.has("charged") and t.has("amount"):
        after = f"Danach läuft er als bezahltes Abonnement ({t.money()}) weiter, wenn Sie nicht vorher kündigen."
    else:
        after = f"Keine Karte wird belastet. Danach entscheiden Sie: {t.text('plan')} oder {t.text('falls_to')}."
    return _letter(
        t,
        f"Willkommen zum Test von {t.text('plan')}",
        Text(f"Ihr Test des Tarifs {t.text('plan')} hat begonnen: {t.whole('days')} Tage, bis zum {t.date('ends_at')}. {after}"),
        Points("Ein guter Anfang:", (
            "Erstellen Sie einen API-Schlüssel und schicken Sie den ersten Aufruf.",
            "Sehen Sie nach, was gezählt wurde: die Nutzung erscheint nach Sekunden.",
            "Richten Sie eine Warnung ein, damit keine Grenze Sie überrascht.",
        ), numbered=True),
        Action("Zum Konto", t.house.page("/billing/usage")),
        tone=Tone.GOOD,
    )  # fmt: skip


def trial_feature(t: Told) -> Letter:
    return _offer(
        t,
        f"Sehen, was Sie nutzen, während Sie es nutzen (Test von {t.text('plan')})",
        Text("Was man am meisten vermisst, wenn es fehlt: die Nutzung auf die Sekunde. Jeder Aufruf wird gezählt, wenn er geschieht; was "
             "Sie sehen, ist das, was später Zeile für Zeile auf der Rechnung steht."),
        Points("Zum Ausprobieren:", (
            "Öffnen Sie die Nutzungsseite, während Ihr Dienst läuft.",
            "Richten Sie eine Warnung bei 80 % eines Kontingents ein; Sie erfahren es vor Ihren Nutzern.",
        )),
        Action("Nutzung ansehen", t.house.page("/billing/usage")),
    )  # fmt: skip


def trial_stories(t: Told) -> Letter:
    return _offer(
        t,
        f"Halbzeit: was Teams mit {t.text('plan')} machen",
        Text(f"Ihr Test des Tarifs {t.text('plan')} endet am {t.date('ends_at')}. Zwei Dinge, die Teams jetzt meist einrichten:"),
        Points("", (
            "Einen Schlüssel für jeden Dienst, mit eigenen Rechten und Grenzen: ein Programm außer Rand und Band verbraucht dann nicht das "
            "Kontingent aller.",
            "Eine Ausgabengrenze: die Rechnung endet genau dort, wo Sie es sagen.",
        )),
        Action("Tarife vergleichen", t.house.upgrade_url),
    )  # fmt: skip


def trial_ending(t: Told) -> Letter:
    return _letter(
        t,
        f"Ihr Test von {t.text('plan')} endet am {t.date('ends_at')}",
        Text(f"Ihr Test des Tarifs {t.text('plan')} endet am {t.date('ends_at')}."),
        *_what_then(t),
    )


def trial_last_day(t: Told) -> Letter:
    return _letter(
        t,
        f"Letzte Erinnerung: Ihr Test von {t.text('plan')} endet morgen",
        Text(f"Ihr Test des Tarifs {t.text('plan')} endet morgen, am {t.instant('ends_at')}."),
        *_what_then(t),
        tone=Tone.URGENT,
    )


def _what_then(t: Told) -> tuple[Block, ...]:
    if t.has("charged"):
        price = f", und {t.money()} werden abgebucht" if t.has("amount") else ""
        return (
            Text(f"Wer ihn behalten möchte, muss nichts tun: dann beginnt Ihr Abonnement{price}. Sonst kündigen Sie bitte vorher."),
            Action("Abonnement verwalten", t.house.upgrade_url),
        )
    return (
        Text(f"Um den Tarif zu behalten, hinterlegen Sie ein Zahlungsmittel. Sonst wechselt Ihr Konto zum Tarif {t.text('falls_to')}; "
             "abgebucht wird nichts."),
        Action("Tarif behalten", t.house.upgrade_url),
    )  # fmt: skip


def trial_ended(t: Told) -> Letter:
    return _letter(
        t,
        f"Ihr Test von {t.text('plan')} ist zu Ende",
        Text(f"Ihr Test des Tarifs {t.text('plan')} endete am {t.date('ends_at')}; für Ihr Konto gilt jetzt der Tarif "
             f"{t.text('falls_to')}. Abgebucht wurde nichts; Ihre Daten und Schlüssel sind, wo sie waren."),
        Action(f"{t.text('plan')} bestellen", t.house.upgrade_url),
    )  # fmt: skip


def trial_offer(t: Told) -> Letter:
    return _offer(
        t,
        f"Denken Sie noch über {t.text('plan')} nach?",
        Text(f"Ihr Test ist zu Ende, und bis {t.text('plan')} ist es ein Schritt: Einstellungen, Schlüssel und Grenzen sind noch da."),
        *_code(t),
        Action("Tarif wählen", t.house.upgrade_url),
        Text("Hat etwas gefehlt? Antworten Sie auf diese Mail und sagen Sie es uns."),
    )


def win_back_offer(t: Told) -> Letter:
    return _offer(
        t,
        "Wir hätten Sie gern zurück",
        Text(f"Vor einer Woche endete Ihr Abonnement {t.text('plan')}. War etwas nicht gut? Antworten Sie auf diese Mail: wir lesen jede."),
        *_code(t),
        Action("Zurückkommen", t.house.upgrade_url),
    )


def _code(t: Told) -> tuple[Block, ...]:
    code = t.text("code") if t.has("code") else t.house.win_back_code
    return (Code("Ihr Rabattcode für einen neuen Anfang:", code),) if code else ()


def quota_threshold(t: Told) -> Letter:
    left = t.wording.number(max(t.decimal("limit") - t.decimal("used"), t.decimal("limit") * 0))
    unit, each = _UNITS.get(t.text("unit"), t.text("unit")), _EACH.get(t.text("unit"), f"jede weitere Einheit ({t.text('unit')})")
    beyond = {
        "overage": f"Über 100 % kostet {each} {t.money('each')}." if t.has("each") else "Über 100 % wird zusätzlich berechnet.",
        "hard": f"Bei 100 % werden weitere Aufrufe bis zum {t.date('resets_at')} abgelehnt.",
        "throttle": f"Bei 100 % werden Aufrufe bis zum {t.date('resets_at')} verlangsamt.",
        "soft": "Bei 100 % wird nichts abgelehnt; wir sagen Ihnen Bescheid.",
    }[str(t.fact("mode"))]
    return _letter(
        t,
        f"Sie nutzen {t.share('threshold')} Ihres Kontingents {t.text('title')}",
        Text(f"Ihre Organisation „{t.organization}“ hat {t.share('threshold')} ihres Kontingents {t.text('title')} genutzt "
             f"(Tarif {t.text('plan')})."),
        Table((
            ("Genutzt", f"{t.number('used')} / {t.number('limit')} {unit}"), ("Übrig", f"{left} {unit}"),
            ("Beginnt neu", t.date("resets_at")),
        )),
        Points("Wie es weitergeht:", (beyond,)),
        Action("Nutzung ansehen", t.house.page("/billing/usage")),
        Action("Tarif erhöhen", t.house.upgrade_url),
    )  # fmt: skip


def spend_cap_reached(t: Told) -> Letter:
    cap = t.wording.money(t.decimal("cap"), t.text("currency"))
    return _letter(
        t,
        f"Ihre Ausgabengrenze von {cap} ist erreicht",
        Text(f"Ihre Organisation „{t.organization}“ hat ihre Ausgabengrenze erreicht (Tarif {t.text('plan')}). Was Ihr Tarif enthält, "
             f"läuft weiter; was darüber hinausgeht, wird bis zum {t.date('resets_at')} abgelehnt, oder bis die Grenze höher liegt."),
        Table((
            ("Ausgabengrenze", cap), ("Zusätzlich bisher", t.wording.money(t.decimal("spent"), t.text("currency"))),
            ("Beginnt neu", t.date("resets_at")),
        )),
        Action("Nutzung ansehen", t.house.page("/billing/usage")),
    )  # fmt: skip


LETTERS: Mapping[MailKind, Callable[[Told], Letter]] = {
    MailKind.PAYMENT_FAILED: payment_failed,
    MailKind.PAYMENT_FINAL_WARNING: payment_final_warning,
    MailKind.ACCOUNT_DOWNGRADED: account_downgraded,
    MailKind.INVOICE_READY: invoice_ready,
    MailKind.PAYMENT_RECEIVED: payment_received,
    MailKind.TRIAL_WELCOME: trial_welcome,
    MailKind.TRIAL_FEATURE: trial_feature,
    MailKind.TRIAL_STORIES: trial_stories,
    MailKind.TRIAL_ENDING: trial_ending,
    MailKind.TRIAL_LAST_DAY: trial_last_day,
    MailKind.TRIAL_ENDED: trial_ended,
    MailKind.TRIAL_OFFER: trial_offer,
    MailKind.WIN_BACK_OFFER: win_back_offer,
    MailKind.QUOTA_THRESHOLD: quota_threshold,
    MailKind.SPEND_CAP_REACHED: spend_cap_reached,
}
