"""Invoices, payments, coupons and credits through control: what a token of one organization reaches of its own, and of no other."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from billing.api.rest import PREFIX
from billing.api.server import Parts, application
from billing.model.invoice import Invoice, Issuer
from billing.model.payment import PaymentMethod, PaymentOutcome, PaymentState
from billing.model.token import Scope
from billing.operations import credits, customers, invoice_acts, invoices, payments  # noqa: A004  the word of the trade
from billing.operations.dispatch import Dispatch
from billing.operations.operation import Facts
from billing.services.ports_stripe import NoSuchPaymentMethod
from billing.services.use_cases import Billing
from billing.wiring import Invoicing, open_billing
from metering.model.clock import to_datetime
from weighbridge.cli.context import Context
from weighbridge.cli.main import run

from .conftest import METERS, Desk

ROOT = Path(__file__).parents[3]


@dataclass
class Cards:
    """The port `PaymentDesk`: a customer with cards, and a bank that says yes."""

    held: list[PaymentMethod] = field(default_factory=list)
    charged: list[tuple[str, int]] = field(default_factory=list)

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        self.charged.append((invoice_id, amount_minor))
        return PaymentOutcome(state=PaymentState.PAID, payment_id=f"pi_{len(self.charged)}")

    async def pay_there(self, stripe_id: str) -> PaymentOutcome:
        return PaymentOutcome(state=PaymentState.DECLINED, reason="insufficient_funds")

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        return PaymentOutcome(state=PaymentState.PAID, payment_id="re_1")

    async def methods(self, ref: str) -> list[PaymentMethod]:
        return self.held

    async def attach(self, ref: str, token: str) -> PaymentMethod:
        made = PaymentMethod(id=token, org_id=ref, type="card", brand="visa", last4="4242", exp_month=12, exp_year=2028, default=True)
        self.held.append(made)
        return made

    async def set_default(self, ref: str, method_id: str) -> PaymentMethod:
        for method in self.held:
            if method.id == method_id:
                return method
        raise NoSuchPaymentMethod(f"there is no payment method {method_id}")

    async def remove(self, ref: str, method_id: str) -> PaymentMethod:
        gone = await self.set_default(ref, method_id)
        self.held.remove(gone)
        return gone

    async def setup_url(self, ref: str, *, back_to: str) -> str:
        return f"https://checkout.test/setup?back={back_to}"

    async def portal_url(self, ref: str, *, back_to: str) -> str:
        return "https://billing.test/portal"


@dataclass
class World:
    desk: Desk
    server: TestServer
    cards: Cards

    async def token(self, *scopes: Scope, org: str | None = None) -> str:
        return (await self.desk.billing.tokens.create(org_ref=org, scopes=scopes, label="", seconds=None, by="ann")).text

    async def typed(self, text: str, *arguments: str) -> tuple[int, list[str], str]:
        """(exit code, lines, stderr) of one command by this token."""
        environ = {"WEIGHBRIDGE_CONTROL_URL": str(self.server.make_url("/")), "WEIGHBRIDGE_TOKEN": text}
        return await _run(arguments, environ)

    async def invoice(self, org: str, amount: str = "49.00") -> Invoice:
        made = await self.desk.billing.invoices.charge_once(org, "Training", D(amount), now=True)
        assert isinstance(made, Invoice)
        return made


async def _run(arguments: Sequence[str], environ: dict[str, str]) -> tuple[int, list[str], str]:
    out, err = io.StringIO(), io.StringIO()

    def work() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return run(arguments, environ)

    code = await asyncio.to_thread(work)
    return code, out.getvalue().splitlines(), err.getvalue()


@pytest.fixture
async def world(sold: Desk) -> AsyncIterator[World]:
    """With acme and bolt; invoices are written here."""
    cards, terms = Cards(), Invoicing(issuer=Issuer.WEIGHBRIDGE)

    def billing(org: str | None, actor: str | None) -> Billing:
        return open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, invoicing=terms, org=org, actor=actor, payments=cards)

    sold.billing = billing(None, None)
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    facts = Facts(issuer=Issuer.WEIGHBRIDGE, back_to="https://app.test")

    async def ready() -> dict[str, Any]:
        return {"ready": True}

    parts = Parts(
        dispatch=Dispatch(billing, lambda: facts, sold.clock), readiness=ready, metrics=lambda: b"", inbox=lambda: sold.billing.inbox,
        webhook_came=lambda _outcome: None,
    )  # fmt: skip
    async with TestServer(application(parts)) as server:
        yield World(sold, server, cards)


async def test_no_route_of_an_invoice_shows_or_changes_that_of_another(world: World) -> None:
    """Bound to its organization or not: a caller that names one reaches the invoices of that one alone."""
    theirs = await world.invoice("bolt")
    said = {"line": 1, "lines": [{"line": 1}], "amount": "9.00", "reason": "none"}
    routes = [o for o in (*invoices.OPERATIONS, *invoice_acts.OPERATIONS) if "{invoice}" in o.path]
    assert len(routes) == 9
    async with TestClient(world.server) as client:
        for text in (await world.token(Scope.ADMIN, org="acme"), await world.token(Scope.ADMIN)):
            for operation in routes:
                for ref in (theirs.id, str(theirs.number)):
                    words = {name: said[name] for name in operation.ask.model_fields if name in said}
                    answer = await client.request(
                        operation.method, PREFIX + operation.path.replace("{invoice}", ref), params={"org": "acme"},
                        headers={"Authorization": f"Bearer {text}"}, json=words if operation.method == "POST" else None,
                    )  # fmt: skip
                    assert answer.status in (403, 404), (operation.name, await answer.text())
                    assert (await answer.json())["code"] in ("bound_token", "no_such_invoice"), operation.name
    assert (await world.desk.billing.invoices.show(theirs.id), world.cards.charged) == (theirs, [])


async def test_every_question_about_its_own_invoice_is_answered_under_row_level_security(world: World) -> None:
    mine = await world.invoice("acme")
    text = await world.token(Scope.READ, org="acme")
    async with TestClient(world.server) as client:
        for operation in (*invoices.OPERATIONS, *customers.OPERATIONS, *payments.OPERATIONS, *credits.OPERATIONS):
            if operation.need is Scope.READ:
                path = PREFIX + operation.path.replace("{invoice}", mine.id)
                answer = await client.request(operation.method, path, headers={"Authorization": f"Bearer {text}"})
                assert answer.status == 200, (operation.name, await answer.text())


async def test_a_token_of_one_organization_lists_its_own_invoices_and_one_for_all_lists_all(world: World) -> None:
    for org in ("acme", "bolt", "acme"):
        await world.invoice(org)
        world.desk.clock.advance(1)
    for text, numbers in (
        (await world.token(Scope.READ, org="acme"), ["INV-000003", "INV-000001"]),
        (await world.token(Scope.READ), ["INV-000003", "INV-000002", "INV-000001"]),
    ):
        code, lines, _ = await world.typed(text, "invoice", "list")
        assert (code, [line.split()[0] for line in lines[1:]]) == (0, numbers)


async def test_a_list_of_invoices_is_walked_page_by_page_and_each_stands_on_one(world: World) -> None:
    made = [await world.invoice("acme", f"{n}.00") for n in range(1, 6)]  # all of one instant
    seen, after = [], None
    async with TestClient(world.server) as client:
        headers = {"Authorization": f"Bearer {await world.token(Scope.READ, org='acme')}"}
        for _ in range(4):
            params = {"limit": "2", "status": "unpaid"} | ({"after": after} if after else {})
            answer = await (await client.get(PREFIX + "/invoices", params=params, headers=headers)).json()
            seen += [each["number"] for each in answer["invoices"]]
            after = answer["next"]
            if after is None:
                break
        bad = await client.get(PREFIX + "/invoices", params={"after": "nonsense"}, headers=headers)
        assert (bad.status, (await bad.json())["code"]) == (400, "bad_cursor")
    assert seen == [each.number for each in reversed(made)]


async def test_what_takes_money_from_us_takes_a_token_for_all(world: World) -> None:
    """Of its own organization a customer's token pays and reads; it grants, notes and takes back nothing."""
    mine = await world.invoice("acme")
    text = await world.token(Scope.ADMIN, org="acme")
    for words in (
        ("credit", "add", "--amount", "25", "--reason", "please"), ("credit", "revoke", "1"), ("invoice", "void", "INV-000001"),
        ("invoice", "give-up", "INV-000001"), ("invoice", "pay", "INV-000001", "--by-hand"),
        ("invoice", "credit", "INV-000001", "--line=1", "--reason=r"), ("invoice", "charge", "acme", "-9.00", "a gift"),
        ("invoice", "correct", "INV-000001", "--line=1", "--amount=-9.00", "--reason=r"), ("invoice", "config", "--prefix=X"),
        ("coupon", "create", "FREE", "--type=percent_off", "--amount=100"), ("close", "2026-01"), ("customer", "create", "--name=X"),
    ):  # fmt: skip
        code, lines, said = await world.typed(text, *words)
        assert (code, lines, "every organization" in said) == (1, [], True), (words, said)
    assert await world.desk.billing.invoices.show(mine.id) == mine


async def test_the_same_words_by_a_token_as_beside_the_database(
    world: World, database: str, redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Context, "clock", world.desk.clock)
    beside = {"DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(ROOT / "config"), "WEIGHBRIDGE_DATA_DIR": "data"}
    await world.invoice("acme")
    text = await world.token(Scope.ADMIN)
    assert (await world.typed(text, "credit", "add", "--org", "acme", "--amount", "25", "--reason", "Referral bonus"))[1] == [
        "✓ Credit added: $25.00 to Acme", "  Reason: Referral bonus", "  Expires: never", "  Balance: $25.00",
    ]  # fmt: skip
    for words in (
        ("invoice", "list"), ("invoice", "list", "--format=csv"), ("invoice", "show", "INV-000001"),
        ("invoice", "explain", "INV-000001"), ("invoice", "download", "INV-000001"),
        ("invoice", "download", "--year=2026", "--output=all", "--format=csv"),
        ("invoice", "config"), ("customer", "show", "--org=acme"), ("credit", "list", "--org=acme"), ("coupon", "list"), ("close",),
        ("invoice", "list", "--format=json"), ("customer", "show", "--org=acme", "--format=json"),
    ):  # fmt: skip
        far, near = await world.typed(text, *words), await _run(words, beside)
        assert far == near, words
        assert far[0] == 0, far


async def test_a_customer_adds_a_card_pays_and_takes_the_card_away_by_its_own_token(world: World) -> None:
    await world.invoice("acme")
    await world.invoice("acme", "1.50")
    text = await world.token(Scope.BILLING, org="acme")

    async def printed(*words: str) -> list[str]:
        code, lines, said = await world.typed(text, *words)
        assert code == 0, said
        return lines

    assert await printed("payment", "list") == ["No payment methods. weighbridge payment add adds one."]
    assert (await printed("payment", "add"))[2] == "Checkout URL: https://checkout.test/setup?back=https://app.test"
    assert await printed("payment", "add", "--method", "pm_1") == ["✓ Payment method added (Visa ending in 4242)"]
    assert [line.split() for line in await printed("payment", "list")] == [
        ["id", "type", "brand", "last4", "exp_date", "default"], ["pm_1", "card", "Visa", "4242", "12/2028", "Yes"],
    ]  # fmt: skip
    assert await printed("invoice", "pay", "INV-000001") == [
        "Processing payment for invoice INV-000001", "Amount: $49.00", "Payment method: Stripe", "", "✓ Payment successful",
        "  Transaction ID: pi_1", f"  Paid on: {to_datetime(world.desk.clock.now_ms()):%Y-%m-%d %H:%M:%S} UTC",
    ]  # fmt: skip
    assert (await printed("invoice", "pay", "--all", "--yes"))[-2:] == ["✓ INV-000002 paid ($1.50)", "Total paid: $1.50"]
    assert await printed("payment", "default", "pm_1") == ["✓ Default payment method updated to Visa ending in 4242"]
    assert await printed("payment", "remove", "pm_1") == ["✓ Payment method removed (Visa ending in 4242)"]
    assert (await world.typed(text, "payment", "remove", "pm_1"))[2] == "weighbridge: there is no payment method pm_1\n"
    assert await printed("customer", "portal") == ["Customer Portal URL (expires in 1 hour):", "https://billing.test/portal"]


async def test_all_that_is_unpaid_is_shown_asked_about_and_paid(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for amount in ("49.00", "1.50"):
        await world.invoice("acme", amount)
    text = await world.token(Scope.BILLING, org="acme")
    owed = [
        "You have 2 unpaid invoices totaling $50.50:",
        "  - INV-000001 ($49.00, due 2026-01-31)", "  - INV-000002 ($1.50, due 2026-01-31)", "",
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert await world.typed(text, "invoice", "pay", "--all") == (1, owed, "Proceed with payment? (y/N): ")
    assert world.cards.charged == []
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, lines, _ = await world.typed(text, "invoice", "pay", "--all")
    assert (code, lines) == (0, [*owed, "✓ INV-000001 paid ($49.00)", "✓ INV-000002 paid ($1.50)", "Total paid: $50.50"])
    assert [amount for _, amount in world.cards.charged] == [4900, 150]
    assert (await world.typed(text, "invoice", "pay", "--all"))[1] == ["No invoice is open."]


async def test_a_refund_by_stripe_is_told_with_its_credit_note(world: World) -> None:
    await world.invoice("acme")
    text = await world.token(Scope.BILLING)
    await world.typed(text, "invoice", "pay", "INV-000001")
    async with world.desk.books.transaction() as unit:
        invoice = await unit.invoices.get("INV-000001")
    assert invoice is not None
    assert invoice.state == "paid"
    code, lines, said = await world.typed(text, "invoice", "credit", "INV-000001", "--line", "1=9.00", "--reason", "outage", "--refund")
    assert (code, said) == (0, "")
    assert lines == [
        "✓ Credit note CN-000001: $9.00", "  Row 1: Training, $9.00", "  $9.00 to be refunded",
        "  It was not paid by Stripe: give it back the way it came",  # this bank kept no try
    ]  # fmt: skip


async def test_an_api_key_which_programs_carry_shows_no_address_and_no_invoice(world: World) -> None:
    key = (await world.desk.billing.keys.create("acme")).api_key
    async with TestClient(world.server) as client:
        for path in ("/customer", "/payment-methods", "/invoices", "/credits"):
            answer = await client.get(PREFIX + path, headers={"X-API-Key": key})
            assert (answer.status, (await answer.json())["code"]) == (403, "token_wanted")


async def test_an_organizations_own_token_sees_which_customer_it_is_at_stripe_and_no_other(world: World) -> None:
    desk = world.desk
    async with desk.books.transaction() as unit:
        for slug in ("acme", "bolt"):
            org = await unit.orgs.find(slug)
            assert org is not None
            await unit.stripe_ids.keep("customer", org.id, f"cus_{slug}", desk.clock.now_ms())
    texts = {slug: await world.token(Scope.READ, org=slug) for slug in ("acme", "bolt")}
    async with TestClient(world.server) as client:
        for slug, text in texts.items():
            mine = await (await client.get(PREFIX + "/customer", headers={"X-API-Key": text})).json()
            assert mine["stripe_id"] == f"cus_{slug}"
            for ref, status in (("cus_acme", 200 if slug == "acme" else 404), ("cus_nobody", 404)):
                assert (await client.get(PREFIX + "/customer", params={"org": ref}, headers={"X-API-Key": text})).status == status
