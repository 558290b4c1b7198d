"""`weighbridge invoice` and `weighbridge close`, as people type them, over a real database."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from billing.model.discount import Coupon
from billing.model.invoice import Issuer, LineKind
from billing.model.tax import TaxRule
from billing.wiring import Invoicing, open_billing
from weighbridge.cli.context import Context
from weighbridge.cli.main import run

from .conftest import METERS, Desk

ROOT = Path(__file__).parents[3]
Command = Callable[..., Awaitable[str]]


@pytest.fixture
async def acme(sold: Desk) -> Desk:
    """With one invoice, as in the guide: 49.00 + 1.50 + 0.25 and 8.5 % tax, for somebody in California."""
    terms = Invoicing(issuer=Issuer.WEIGHBRIDGE, tax=TaxRule(rate=D("0.085"), regions=("US-CA",)))
    sold.billing = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, invoicing=terms)
    await sold.billing.orgs.create("Acme Corp", plan="free", slug="acme")
    await sold.billing.customers.update("acme", state="CA", country="US", city="San Francisco")
    charge = sold.billing.invoices.charge_once
    await charge("acme", "Pro Plan (Monthly)", D("49.00"))
    await charge("acme", "API Overage", D("1.50"))
    await charge("acme", "Storage Overage", D("0.25"))
    sold.clock.advance(timedelta(days=31).total_seconds())
    await sold.billing.issuing.run()
    return sold


@pytest.fixture
def command(
    sold: Desk, database: str, redis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Context, "clock", sold.clock)
    environ = {
        "DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(ROOT / "config"),
        "WEIGHBRIDGE_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip

    async def typed(*words: str, code: int = 0) -> str:
        assert await asyncio.to_thread(run, words, environ) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return typed


async def test_the_list_has_the_columns_of_the_guide(acme: Desk, command: Command) -> None:
    lines = (await command("invoice", "list")).splitlines()
    assert lines[0].split() == ["id", "date", "amount", "status", "due_date", "paid_date"]
    assert lines[1].split() == ["INV-000001", "2026-03-03", "$55.06", "open", "2026-03-03", "-"]
    assert await command("invoice", "list", "--status=past_due") == "No invoices.\n"
    acme.clock.advance(86_400)
    late = (await command("invoice", "list", "--status=past_due")).splitlines()
    assert [line.split() for line in late] == [
        ["id", "date", "amount", "status", "attempts", "next_retry"],
        ["INV-000001", "2026-03-03", "$55.06", "past_due", "0", "2026-03-03"],
    ]
    assert await command("invoice", "list", "--year=2025") == "No invoices.\n"
    assert "there are: draft, open" in await command("invoice", "list", "--status=owing", code=1)
    unpaid = json.loads(await command("invoice", "list", "--status", "unpaid", "--format=json"))
    assert [row["total"] for row in unpaid["invoices"]] == ["55.06"]


async def test_one_is_shown_as_in_the_guide(acme: Desk, command: Command) -> None:
    shown = await command("invoice", "show", "INV-000001")
    for line in ("Invoice: INV-000001", "Customer: Acme Corp", "Date: 2026-03-03", "Amount: $55.06", "Line Items:"):
        assert line in shown.splitlines()
    assert [line.split() for line in shown.splitlines()[-3:]] == [
        ["Subtotal:", "$50.75"], ["Tax", "(8.5%):", "$4.31"], ["Total:", "$55.06"],
    ]  # fmt: skip
    assert "there is no invoice 'in_none'" in await command("invoice", "show", "in_none", code=1)


async def test_it_is_paid_by_hand_credited_and_its_month_closed(acme: Desk, command: Command) -> None:
    assert "✓ Credit note CN-000001: $0.27" in await command("invoice", "credit", "INV-000001", "--line", "3", "--reason", "outage")
    assert "$54.79 paid, $0.00 due" in await command("invoice", "pay", "INV-000001", "--by-hand", "--reference", "wire 7")
    shown = await command("invoice", "show", "INV-000001")
    assert "Payment Method: by hand" in shown
    assert "Credit note CN-000001: $0.27 (outage)" in shown
    assert "nothing is left of it" in await command("invoice", "credit", "INV-000001", "--line=3", "--reason=again", code=1)
    assert "2026-03 is not over yet" in await command("close", "2026-03", code=1)
    acme.clock.advance(timedelta(days=31).total_seconds())
    assert "✓ 2026-03 ties out" in await command("close", "2026-03", "--dry-run")
    closed = await command("close", "2026-03")
    assert "✓ 2026-03 is closed" in closed
    assert ["total:", "55.06"] in [line.split() for line in closed.splitlines()]
    assert await command("close") == "2026-03\n"
    assert "take back the rest by a credit note" in await command("invoice", "void", "INV-000001", code=1)


async def test_invoices_are_downloaded_one_or_all_of_a_year(acme: Desk, command: Command, tmp_path: Path) -> None:
    name = "invoice_INV-000001_2026-03-03.pdf"
    assert await command("invoice", "download", "INV-000001") == f"Downloading invoice INV-000001...\n✓ Invoice downloaded: {name}\n"
    assert (tmp_path / name).read_bytes().startswith(b"%PDF-")
    told = await command("invoice", "download", "--year=2026", "--output=all/", "--language=de")
    assert told == f"Downloading 1 invoice...\n✓ Downloaded to: all/\n  - {name}\n"
    assert (tmp_path / "all" / name).is_file()
    assert "say which" in await command("invoice", "download", code=1)


async def test_every_invoice_says_who_writes_it_and_a_sample_shows_it(acme: Desk, command: Command, tmp_path: Path) -> None:
    await command("invoice", "config", "--company-name", "Acme Corporation", "--company-tax-id=12-3456789", "--due_days", "14")
    told = await command("invoice", "config", "--footer", "Thank you", "--prefix=AC")
    for line in ("✓ Invoice settings updated", "Company name: Acme Corporation", "Footer: Thank you", "Prefix: AC", "Due days: 14"):
        assert line in told.splitlines()
    assert await command("invoice", "preview") == "✓ Sample invoice written: invoice_preview.pdf\n"
    assert (tmp_path / "invoice_preview.pdf").stat().st_size > 5_000
    assert "cannot begin a number" in await command("invoice", "config", "--prefix", "€", code=1)
    made = json.loads(await command("invoice", "charge", "acme", "10.00", "Training", "--now", "--format=json"))
    assert made["invoice"]["number"] == "AC-000002"


async def test_a_preview_of_an_organization_is_what_would_be_due_now(acme: Desk, command: Command) -> None:
    assert "On the next invoice: Setup, $20.00" in await command("invoice", "charge", "acme", "20.00", "Setup")
    await command("invoice", "correct", "INV-000001", "--line=1", "--amount=-9.00", "--reason", "too dear")
    shown = json.loads(await command("invoice", "preview", "--org", "acme", "--format", "json"))
    assert (shown["number"], [line["amount"] for line in shown["lines"]][:2]) == (None, ["-9.00", "20.00"])


async def test_a_line_is_explained(acme: Desk, command: Command) -> None:
    told = await command("invoice", "explain", "INV-000001")
    assert "1. Pro Plan (Monthly): $49.00" in told.splitlines()


async def test_without_stripe_nothing_is_charged_and_the_way_out_is_named(acme: Desk, command: Command) -> None:
    assert "There is no Stripe" in await command("invoice", "pay", "INV-000001", code=1)


def picture() -> bytes:
    found = io.BytesIO()
    Image.new("RGB", (40, 10), "navy").save(found, "PNG")
    return found.getvalue()


async def test_a_logo_is_fetched_once_and_not_from_inside(acme: Desk, command: Command) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/elsewhere":
            raise web.HTTPFound("/logo.png")
        return web.Response(body=picture() if request.path == "/logo.png" else b"<html>")

    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with TestServer(app) as server:
        inside = str(server.make_url("/logo.png"))
        assert "not on the public internet" in await command("invoice", "config", "--logo", inside, code=1)
        assert asked == []
        page = str(server.make_url("/page"))
        assert "no PNG or JPEG" in await command("invoice", "config", "--logo", page, "--allow-private", code=1)
        moved = str(server.make_url("/elsewhere"))
        assert "answers 302" in await command("invoice", "config", "--logo", moved, "--allow-private", code=1)
        assert f"Logo: {inside}" in await command("invoice", "config", "--logo", inside, "--allow-private")
    assert "link-local" in await command("invoice", "config", "--logo=http://169.254.169.254/x.png", "--allow-private", code=1)
    await command("invoice", "download", "INV-000001")  # the server is gone: it was kept
    assert asked.count("/logo.png") == 1
    assert (await acme.billing.invoices.settings()).logo == picture()
    assert "Logo" not in await command("invoice", "config", "--logo", "")


# --- what comes off -----------------------------------------------------------------------------------------------------


async def test_coupons_come_off_before_tax_and_credits_after_it_and_both_come_back_with_a_void(acme: Desk) -> None:
    billing = acme.billing
    await billing.coupons.create(Coupon(code="HALF", percent_off=D(50)))
    await billing.coupons.apply("acme", "HALF")
    await billing.credits.add("acme", D("25.00"), reason="Referral bonus")
    made = await billing.invoices.charge_once("acme", "Training", D("40.00"), now=True)
    assert [(line.kind.value, str(line.amount)) for line in made.lines] == [  # type: ignore[union-attr]
        ("one_time", "40.00"), ("discount", "-20.00"), ("tax", "1.70"), ("credit", "-21.70"),
    ]  # fmt: skip
    assert (made.state.value, made.totals.amount_due) == ("paid", 0)  # type: ignore[union-attr]
    second = await billing.invoices.charge_once("acme", "Training", D("40.00"), now=True)
    assert [line.amount for line in second.lines if line.kind is LineKind.CREDIT] == [D("-3.30")]  # type: ignore[union-attr]
    assert not [line for line in second.lines if line.kind is LineKind.DISCOUNT]  # type: ignore[union-attr]
    await billing.invoices.void(second.id)
    assert [each.total for each in (await billing.credits.statement("acme")).balances] == [D("3.30")]


async def test_credits_are_not_spent_twice_by_invoices_at_once(acme: Desk) -> None:
    await acme.billing.credits.add("acme", D("25.00"), reason="Prepaid")
    charge = acme.billing.invoices.charge_once
    made = await asyncio.gather(*(charge("acme", f"Training {n}", D("10.00"), now=True) for n in range(5)))
    assert sum(invoice.totals.credit for invoice in made) == D("25.00")  # type: ignore[union-attr]
    assert sum(invoice.totals.total for invoice in made) == D("54.25")  # type: ignore[union-attr]


async def test_tax_is_due_by_the_customers_address(acme: Desk) -> None:
    charge = acme.billing.invoices.charge_once
    await acme.billing.customers.update("acme", state="TX")
    made = await charge("acme", "Training", D("40.00"), now=True)
    assert made.totals.tax == 0  # type: ignore[union-attr]
    assert made.buyer == {"name": "Acme Corp", "address": ["San Francisco TX", "US"], "country": "US", "state": "TX"}  # type: ignore[union-attr]
