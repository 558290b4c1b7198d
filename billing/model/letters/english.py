"""The letters in English. Pure."""

from collections.abc import Callable, Mapping

from billing.model.letters.letter import Action, Block, Code, Letter, Points, Table, Text, Tone
from billing.model.letters.told import Told
from billing.model.mail import MailKind

_UNITS = {"request": "requests", "call": "calls", "query": "queries", "token": "tokens", "invocation": "invocations", "credit": "credits"}


def _letter(t: Told, subject: str, *blocks: Block, tone: Tone = Tone.PLAIN, because: str | None = None) -> Letter:
    return Letter(
        language="en",
        subject=subject,
        greeting=f"Hi {t.name},",
        blocks=(*blocks, *((Text(f"Questions? Contact support: {t.house.support}"),) if t.house.support else ())),
        closing=("Best,", f"The {t.product} team"),
        small=because or f"{t.product} sends this to {t.organization} because it concerns your account.",
        tone=tone,
    )


def _offer(t: Told, subject: str, *blocks: Block, tone: Tone = Tone.PLAIN) -> Letter:
    """Nobody has to read it, and one may say so."""
    because = f"{t.product} sends this to {t.organization}. To get no more mails like this one, answer it with the word “unsubscribe”."
    return _letter(t, subject, *blocks, tone=tone, because=because)


def _pay(t: Told) -> Action:
    return Action("Update payment method", t.house.page("/billing/payment"))


def _bill(t: Told, *more: tuple[str, str]) -> Table:
    return Table((("Invoice", t.text("invoice")), ("Amount", t.money()), *more))


def _lost(t: Told) -> tuple[str, ...]:
    shrinks = "{title}: {after}{per} instead of {before}{per}"
    return t.lost(per_month=" a month", unlimited="unlimited", shrinks=shrinks, goes="{feature}: no longer included")


_REASONS = {
    "card_declined": "Card declined",
    "generic_decline": "Card declined",
    "do_not_honor": "Card declined",
    "insufficient_funds": "Card declined (insufficient funds)",
    "expired_card": "The card has expired",
    "incorrect_cvc": "Card declined (wrong security code)",
    "lost_card": "Card declined",
    "stolen_card": "Card declined",
    "authentication_required": "Your bank wants you to confirm the payment",
    "no_payment_method": "There is no payment method to charge",
}


def _for_plan(t: Told) -> str:
    return f" for the {t.text('plan')} plan" if t.has("plan") else ""


def payment_failed(t: Told) -> Letter:
    reason = (("Reason", t.reason(_REASONS)),) if t.has("reason") else ()
    retry = f"We will automatically retry on {t.date('retry_at')}." if t.has("retry_at") else "We will not retry by ourselves any more."
    steps = ("Update your payment method, or add a new card.", retry, "Your service is not interrupted yet.")
    then = f"This is attempt {t.whole('attempt')} of {t.whole('attempts')}."
    if t.has("downgrade_at"):
        fall = f"your account will be downgraded to the {t.text('falls_to')} plan, with its limits"
        then += f" If payment is not received by {t.date('downgrade_at')}, {fall}."
    return _letter(
        t,
        "Payment Failed - Action Required",
        Text(f"We couldn't process your payment of {t.money()}{_for_plan(t)}."),
        _bill(t, ("Attempted", t.instant("attempted_at")), *reason),
        Points("Next steps:", steps, numbered=True),
        _pay(t),
        Text(then),
        tone=Tone.URGENT,
    )


def payment_final_warning(t: Told) -> Letter:
    days = t.whole("overdue_days")
    return _letter(
        t,
        "URGENT: Payment Required - Service Interruption",
        Text(f"Your payment of {t.money()}{_for_plan(t)} is now {days} day{'' if days == 1 else 's'} overdue."),
        Text(f"Your account will be downgraded to the {t.text('falls_to')} plan in {t.whole('hours')} hours, on "
             f"{t.instant('downgrade_at')}, if payment is not received."),
        _bill(t),
        Points("This means:", _lost(t)),
        _pay(t),
        Text("This is your final reminder."),
        tone=Tone.URGENT,
    )  # fmt: skip


def account_downgraded(t: Told) -> Letter:
    return _letter(
        t,
        f"Your account was downgraded to the {t.text('falls_to')} plan",
        Text(f"We did not receive your payment of {t.money()}, so your account moved from the {t.text('plan')} plan to the "
             f"{t.text('falls_to')} plan on {t.instant('downgraded_at')}."),
        _bill(t),
        Points("What changed:", _lost(t)),
        Text(f"Your data and settings are kept. As soon as the invoice is paid, you are back on the {t.text('plan')} plan by yourself."),
        Action("Pay now", t.house.page("/billing/payment")),
        tone=Tone.URGENT,
    )  # fmt: skip


def invoice_ready(t: Told) -> Letter:
    due = (("Due", t.date("due_at")),) if t.has("due_at") else ()
    what = "We will charge your payment method; there is nothing to do." if t.has("charged") else "Please pay it by the date it is due."
    return _letter(
        t,
        f"Your invoice {t.text('invoice')}",
        Text(f"Your invoice{_for_plan(t)} is ready. {what}"),
        _bill(t, *due),
        Action("View invoice", t.house.page("/billing/invoices")),
    )


def payment_received(t: Told) -> Letter:
    back = (Text(f"Your account is back on the {t.text('plan')} plan."),) if t.has("restored") else ()
    return _letter(
        t,
        "Payment received - Thank you",
        Text(f"We received your payment of {t.money()}. Thank you!"),
        _bill(t, ("Paid", t.instant("paid_at"))),
        *back,
        tone=Tone.GOOD,
    )


def trial_welcome(t: Told) -> Letter:
    if t.has("charged") and t.has("amount"):
        after = f"Then it goes on as a paid subscription ({t.money()}), unless you cancel before."
    else:
        after = f"No card is charged. Afterwards you choose: the {t.text('plan')} plan, or {t.text('falls_to')}."
    return _letter(
        t,
        f"Welcome to your {t.text('plan')} trial",
        Text(f"Your {t.whole('days')}-day trial of the {t.text('plan')} plan has begun. It ends on {t.date('ends_at')}. {after}"),
        Points("A good start:", (
            "Make an API key and send your first request.",
            "Look at what it counted: usage shows within seconds.",
            "Set an alert, so that no limit surprises you.",
        ), numbered=True),
        Action("Open your account", t.house.page("/billing/usage")),
        tone=Tone.GOOD,
    )  # fmt: skip


def trial_feature(t: Told) -> Letter:
    return _offer(
        t,
        f"See what you use, as you use it ({t.text('plan')} trial)",
        Text("The part of your plan that people miss most when they lose it: usage by the second. Each request is counted when it "
             "passes, so what you see is what you will be billed, line by line."),
        Points("Try it:", (
            "Open the usage page while your service runs.",
            "Set an alert at 80% of a quota; you will hear of it before your users do.",
        )),
        Action("View usage", t.house.page("/billing/usage")),
    )  # fmt: skip


def trial_stories(t: Told) -> Letter:
    return _offer(
        t,
        f"Half-time: what teams do with {t.text('plan')}",
        Text(f"Your trial of the {t.text('plan')} plan ends on {t.date('ends_at')}. Two things that teams set up around now:"),
        Points("", (
            "A key for each service, with scopes and limits of its own, so that one runaway job cannot use up everybody's quota.",
            "A spending cap: the bill stops where you say, exactly.",
        )),
        Action("Compare plans", t.house.upgrade_url),
    )  # fmt: skip


def trial_ending(t: Told) -> Letter:
    return _letter(
        t,
        f"Your {t.text('plan')} trial ends on {t.date('ends_at')}",
        Text(f"Your trial of the {t.text('plan')} plan ends on {t.date('ends_at')}."),
        *_what_then(t),
    )


def trial_last_day(t: Told) -> Letter:
    return _letter(
        t,
        f"Final reminder: your {t.text('plan')} trial ends tomorrow",
        Text(f"Your trial of the {t.text('plan')} plan ends tomorrow, on {t.instant('ends_at')}."),
        *_what_then(t),
        tone=Tone.URGENT,
    )


def _what_then(t: Told) -> tuple[Block, ...]:
    if t.has("charged"):
        price = f" and {t.money()} will be charged" if t.has("amount") else ""
        return (
            Text(f"There is nothing to do to keep it: your subscription begins then{price}. If you would rather not go on, cancel before."),
            Action("Manage subscription", t.house.upgrade_url),
        )
    return (
        Text(f"To keep the plan, add a payment method. Otherwise your account moves to the {t.text('falls_to')} plan; nothing is charged."),
        Action("Keep the plan", t.house.upgrade_url),
    )


def trial_ended(t: Told) -> Letter:
    return _letter(
        t,
        f"Your {t.text('plan')} trial has ended",
        Text(f"Your trial of the {t.text('plan')} plan ended on {t.date('ends_at')}, and your account is now on the {t.text('falls_to')} "
             "plan. Nothing was charged; your data and keys are where they were."),
        Action(f"Get {t.text('plan')}", t.house.upgrade_url),
    )  # fmt: skip


def trial_offer(t: Told) -> Letter:
    return _offer(
        t,
        f"Still thinking about {t.text('plan')}?",
        Text(f"Your trial has ended, and {t.text('plan')} is one step away: your settings, keys and limits of the trial are kept."),
        *_code(t),
        Action("Choose a plan", t.house.upgrade_url),
        Text("Was something missing? Answer this mail and tell us."),
    )


def win_back_offer(t: Told) -> Letter:
    return _offer(
        t,
        "We'd like to have you back",
        Text(f"A week ago your {t.text('plan')} subscription ended. If something was wrong, answer this mail and tell us: we read each."),
        *_code(t),
        Action("Come back", t.house.upgrade_url),
    )


def _code(t: Told) -> tuple[Block, ...]:
    code = t.text("code") if t.has("code") else t.house.win_back_code
    return (Code("Your discount code for a new start:", code),) if code else ()


def quota_threshold(t: Told) -> Letter:
    left = t.wording.number(max(t.decimal("limit") - t.decimal("used"), t.decimal("limit") * 0))
    unit = _UNITS.get(t.text("unit"), t.text("unit"))
    costs = f"each additional {t.text('unit')} costs {t.money('each')}" if t.has("each") else "overage charges apply"
    beyond = {
        "overage": f"Beyond 100%: {costs}.",
        "hard": f"At 100%: further requests are refused until {t.date('resets_at')}.",
        "throttle": f"At 100%: requests are slowed down until {t.date('resets_at')}.",
        "soft": "At 100%: nothing is refused; we will tell you.",
    }[str(t.fact("mode"))]  # fmt: skip
    return _letter(
        t,
        f"You're using {t.share('threshold')} of your {t.text('title')} quota",
        Text(f"Your organization “{t.organization}” has used {t.share('threshold')} of its {t.text('title')} quota on the "
             f"{t.text('plan')} plan."),
        Table((
            ("Used", f"{t.number('used')} / {t.number('limit')} {unit}"), ("Remaining", f"{left} {unit}"), ("Resets", t.date("resets_at")),
        )),
        Points("What happens next:", (beyond,)),
        Action("View usage", t.house.page("/billing/usage")),
        Action("Upgrade now", t.house.upgrade_url),
    )  # fmt: skip


def spend_cap_reached(t: Told) -> Letter:
    cap = t.wording.money(t.decimal("cap"), t.text("currency"))
    return _letter(
        t,
        f"Your spend cap of {cap} is reached",
        Text(f"Your organization “{t.organization}” has reached its spend cap on the {t.text('plan')} plan. What your plan includes goes "
             f"on; requests beyond it are refused until {t.date('resets_at')}, or until the cap is raised."),
        Table((
            ("Spend cap", cap), ("Overage so far", t.wording.money(t.decimal("spent"), t.text("currency"))),
            ("Resets", t.date("resets_at")),
        )),
        Action("View usage", t.house.page("/billing/usage")),
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
