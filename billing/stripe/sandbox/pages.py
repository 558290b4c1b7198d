"""Pages that stand in for Stripe's hosted ones: checkout, portal, an invoice to pay, a bank that asks the card's owner.

Each says that it is not Stripe. A person presses its buttons; a test sends the same form by POST.
"""

import html
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from aiohttp import web

from billing.stripe.sandbox.cards import CARDS
from billing.stripe.sandbox.errors import Refusal
from billing.stripe.sandbox.resources.base import Body, Call
from billing.stripe.sandbox.resources.checkout import completed
from billing.stripe.sandbox.resources.invoice_life import tried
from billing.stripe.sandbox.resources.owners import live_customer
from billing.stripe.sandbox.resources.payment_intents import attempt
from billing.stripe.sandbox.resources.payment_methods import attached, declined, new_card
from billing.stripe.sandbox.resources.portal_acts import ACTS
from billing.stripe.sandbox.resources.setup_intents import set_up

if TYPE_CHECKING:
    from billing.stripe.sandbox.server import Sandbox

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
_WHOLE = {"jpy", "krw", "vnd", "clp", "xaf", "xof", "pyg", "ugx", "rwf"}
_THOUSANDTHS = {"bhd", "kwd", "jod", "omr", "tnd"}
_FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}}
aside{{background:#fff3cd;padding:.5rem 1rem}}.wrong{{color:#b00020}}td,th{{padding:.2rem .8rem .2rem 0;text-align:left}}
button{{padding:.3rem .8rem}}</style></head><body>
<aside>Weighbridge's Stripe sandbox: this is not Stripe, and no money moves. Do not type a real card number anywhere.</aside>
<h1>{title}</h1>{body}</body></html>"""


def money(amount: int | None, currency: str | None) -> str:
    if amount is None or currency is None:
        return ""
    digits = 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2
    return f"{Decimal(amount).scaleb(-digits):,.{digits}f} {currency.upper()}"


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = _FRAME.format(title=html.escape(title), body=body)
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _wrong(sentence: str | None) -> str:
    return f'<p class="wrong">{html.escape(sentence)}</p>' if sentence else ""


def _form(*fields: str, button: str, **hidden: str) -> str:
    kept = "".join(f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in hidden.items())
    return f'<form method="post">{kept}{"".join(fields)} <button>{html.escape(button)}</button></form>'


def _cards() -> str:
    options = "".join(f"<option>{name}</option>" for name in CARDS)
    return f'<label>Test card <select name="card">{options}</select></label>'


def _away(url: str | None, said: str) -> web.StreamResponse:
    """To where the session wants its customer, or a page that says what became of it."""
    if url is None:
        return _page(said, "<p>You can close this page.</p>")
    return web.Response(status=303, headers={"Location": url})


class Pages:
    """Routes of one sandbox."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    def register(self, router: web.UrlDispatcher) -> None:
        for path, show, take in (
            ("checkout", self._checkout, self._check_out),
            ("portal", self._portal, self._manage),
            ("invoices", self._invoice, self._pay_invoice),
            ("pay", self._bank, self._authenticate),
        ):
            router.add_get(f"/_sandbox/{path}/{{id}}", show)
            router.add_post(f"/_sandbox/{path}/{{id}}", take)
        router.add_get("/_sandbox/credit_notes/{id}", self._credit_note)

    def _found(self, request: web.Request, *kinds: str) -> Body:
        for kind in kinds:
            if found := self._sandbox.store.get(kind, request.match_info["id"]):
                return found
        raise web.HTTPNotFound(text=f"The sandbox knows no {kinds[0].replace('_', ' ')} of this id.")

    async def _card(self, request: web.Request) -> str:
        card = str((await request.post()).get("card", "pm_card_visa"))
        if card not in CARDS:
            raise web.HTTPBadRequest(text=f"card is one of {', '.join(CARDS)}")
        return card

    # checkout

    async def _checkout(self, request: web.Request, wrong: str | None = None) -> web.StreamResponse:
        session = self._found(request, "checkout.session")
        if session["status"] != "open":
            return _page(f"Checkout is {session['status']}", "", status=410)
        rows = "".join(
            f"<tr><td>{html.escape(item['description'])}</td><td>{item['quantity'] or 'metered'}</td>"
            f"<td>{money(item['amount_total'], item['currency'])}</td></tr>"
            for item in session["_bought"]
        )
        email = "" if session["customer"] else '<label>E-mail <input name="email" type="email"></label> '
        total = f"<p>Due now: <b>{money(session['amount_total'], session['currency'])}</b></p>" if rows else ""
        forms = _form(email, _cards(), button="Save card" if session["mode"] == "setup" else "Pay")
        leave = _form(button="Leave", action="cancel")
        return _page("Checkout", f"{_wrong(wrong)}<table>{rows}</table>{total}{forms}{leave}", status=402 if wrong else 200)

    async def _check_out(self, request: web.Request) -> web.StreamResponse:
        """The form's fields: card (a test card), email, or action=cancel."""
        session, form = self._found(request, "checkout.session"), await request.post()
        if form.get("action") == "cancel":
            return _away(session["cancel_url"], "Checkout was left")
        card, email = await self._card(request), str(form.get("email") or "") or None
        try:
            done = self._sandbox.act(lambda call: completed(call, session, card, email))
        except Refusal as refusal:
            return await self._checkout(request, wrong=refusal.message)
        url = (session["success_url"] or "").replace("{CHECKOUT_SESSION_ID}", done["id"]) or None
        return _away(url, "Checkout is complete")

    # portal

    async def _portal(self, request: web.Request, wrong: str | None = None) -> web.StreamResponse:
        session = self._found(request, "billing_portal.session")
        store = self._sandbox.store
        customer = store.get("customer", session["customer"]) or {}
        chosen = customer.get("invoice_settings", {}).get("default_payment_method")
        cards = "".join(
            f"<li>{card['card']['brand']} …{card['card']['last4']}"
            + (" (default)" if card["id"] == chosen else _form(button="Make default", action="default", payment_method=card["id"]))
            + _form(button="Remove", action="remove", payment_method=card["id"])
            for card in store.of("payment_method", "customer", session["customer"])
        )
        subscriptions = "".join(
            f"<li>{each['id']}: {each['status']}"
            + _form(
                button="Keep" if each["cancel_at_period_end"] else "Cancel",
                action="keep" if each["cancel_at_period_end"] else "cancel",
                subscription=each["id"],
            )
            for each in store.of("subscription", "customer", session["customer"])
            if each["ended_at"] is None
        )
        invoices = "".join(
            f"<tr><td>{each['number'] or 'draft'}</td><td>{each['status']}</td><td>{money(each['total'], each['currency'])}</td></tr>"
            for each in store.of("invoice", "customer", session["customer"])
        )
        back = f'<p><a href="{html.escape(session["return_url"])}">Back</a></p>' if session["return_url"] else ""
        body = f"{_wrong(wrong)}<h2>Cards</h2><ul>{cards}</ul>{_form(_cards(), button='Add card', action='add_card')}"
        body += f"<h2>Subscriptions</h2><ul>{subscriptions}</ul><h2>Invoices</h2><table>{invoices}</table>{back}"
        return _page("Billing portal", body, status=402 if wrong else 200)

    async def _manage(self, request: web.Request) -> web.StreamResponse:
        """The form's fields: action (add_card, default, remove, cancel, keep, update) and what it is about."""
        session = self._found(request, "billing_portal.session")
        form = {name: str(value) for name, value in (await request.post()).items()}
        act = ACTS.get(form.get("action", ""))
        if act is None:
            raise web.HTTPBadRequest(text=f"action is one of {', '.join(ACTS)}")
        try:
            self._sandbox.act(lambda call: act(call, session, form))
        except Refusal as refusal:
            return await self._portal(request, wrong=refusal.message)
        after = ((session["flow"] or {}).get("after_completion") or {}).get("redirect")
        return _away(after["return_url"] if after else f"/_sandbox/portal/{session['id']}", "Done")

    # an invoice, and the bank

    async def _invoice(self, request: web.Request, wrong: str | None = None) -> web.StreamResponse:
        invoice = self._found(request, "invoice")
        rows = "".join(
            f"<tr><td>{html.escape(line['description'] or '')}</td><td>{money(line['amount'], line['currency'])}</td></tr>"
            for line in invoice.get("_lines", [])
        )
        sums = f"<p>Total {money(invoice.get('total'), invoice.get('currency'))}, {invoice['status']}</p>"
        pay = _form(_cards(), button="Pay") if invoice["status"] in ("open", "uncollectible") else ""
        title = f"Invoice {invoice.get('number') or ''}"
        return _page(title, f"{_wrong(wrong)}<table>{rows}</table>{sums}{pay}", status=402 if wrong else 200)

    async def _pay_invoice(self, request: web.Request) -> web.StreamResponse:
        invoice, card = self._found(request, "invoice"), await self._card(request)
        if invoice["status"] not in ("open", "uncollectible"):
            return await self._invoice(request, wrong=f"This invoice is {invoice['status']}.")
        try:
            self._sandbox.act(lambda call: _paid(call.of(invoice), invoice, card))
        except Refusal as refusal:
            return await self._invoice(request, wrong=refusal.message)
        return await self._invoice(request)

    async def _credit_note(self, request: web.Request) -> web.StreamResponse:
        note = self._found(request, "credit_note")
        rows = "".join(
            f"<tr><td>{html.escape(line['description'] or '')}</td><td>{money(line['amount'], note['currency'])}</td></tr>"
            for line in note["_lines"]
        )
        return _page(f"Credit note {note['number']}", f"<table>{rows}</table><p>Total {money(note['total'], note['currency'])}</p>")

    async def _bank(self, request: web.Request) -> web.StreamResponse:
        intent = self._found(request, "payment_intent", "setup_intent")
        if intent["status"] != "requires_action":
            return _page(f"Nothing to confirm: {intent['status']}", "")
        asked = money(intent.get("amount"), intent.get("currency"))
        yes, no = _form(button="Complete", outcome="ok"), _form(button="Fail", outcome="fail")
        return _page("Your bank asks: is this you?", f"<p>{asked}</p>{yes}{no}")

    async def _authenticate(self, request: web.Request) -> web.StreamResponse:
        """The form's field: outcome, ok or fail."""
        intent, form = self._found(request, "payment_intent", "setup_intent"), await request.post()
        if intent["status"] != "requires_action":
            return _page(f"Nothing to confirm: {intent['status']}", "", status=409)
        done = self._sandbox.act(lambda call: _answered(call, intent, ok=form.get("outcome") == "ok"))
        return _page(f"Confirmed: {done['status']}", "")


def _paid(call: Call, invoice: Body, card: str) -> Body:
    """By somebody who stands before it, so a card that wants its owner has him."""
    method = attached(call, new_card(call, card), live_customer(call, invoice["customer"]))
    after = tried(call, invoice, method, off_session=False)
    intent = call.store.get("payment_intent", after["_intent"]) or {}
    if intent.get("status") == "requires_action":
        _answered(call, intent, ok=True)
    elif after["status"] != "paid":
        raise declined((intent.get("last_payment_error") or {}).get("decline_code", "generic_decline"))
    return call.store.get("invoice", invoice["id"]) or after


def _answered(call: Call, intent: Body, *, ok: bool) -> Body:
    """The owner of the card said yes or no."""
    owner = call.store.get("customer", intent["customer"]) if intent["customer"] else None
    call = call.of(owner) if owner else call
    method = call.store.get("payment_method", intent["payment_method"])
    assert method is not None
    if intent["object"] == "setup_intent":
        failed = {"payment_method": None, "status": "requires_payment_method", "next_action": None}
        if ok:
            return set_up(call, intent, method, authenticated=True)
        call.store.replace("setup_intent", intent | failed)
        return intent | failed
    if ok:
        return attempt(call, intent, method, off_session=False, authenticated=True)
    failed_intent = {"payment_method": None, "status": "requires_payment_method", "next_action": None}
    call.store.replace("payment_intent", intent | failed_intent)
    return intent | failed_intent
