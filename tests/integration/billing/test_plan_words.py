"""`weighbridge plan`: what it prints, as the guide prints it, and who manages a plan."""

import csv
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import config
from billing.model.invoice import Issuer
from billing.services.lifecycle import NoSuchPlan
from billing.services.plans import DefaultPlanNeeded, ManagedElsewhere
from billing.wiring import Invoicing, open_billing
from config.files import FileSet
from config.load import load_good
from metering.model.errors import BadInput
from tests.integration.billing.conftest import Desk
from tests.integration.billing.test_subscription_words import Terminal
from weighbridge.cli.main import normalized, parser

NAMES = ("gateway.yaml", "meters.yaml", "plans.yaml")
SHIPPED = load_good(FileSet(texts={name: (Path(config.__file__).parent / name).read_text("utf-8") for name in NAMES}))
GUIDE = [
    (
        "plan create free --price 0 --interval month --quota-api 10000 --quota-storage 1 --quota-bandwidth 5",
        ["✓ Plan created: free", "  Price: $0/month", "  Quotas:", "    - API Requests: 10,000/month", "    - Storage: 1 GB",
         "    - Bandwidth: 5 GB/month"],
    ),
    (
        "plan create pro --price 49 --interval month --quota-api 100000 --quota-storage 50 --quota-bandwidth 100 "
        "--overage-api 0.001 --overage-storage 0.10 --overage-bandwidth 0.05",
        ["✓ Plan created: pro", "  Base Price: $49/month", "  Quotas:", "    - API Requests: 100,000/month (overage: $0.001/req)",
         "    - Storage: 50 GB (overage: $0.10/GB)", "    - Bandwidth: 100 GB/month (overage: $0.05/GB)"],
    ),
    (
        "plan create premium --price 99 --interval month --quota-api=500000 --quota-storage 100 --quota-bandwidth 250 --overage-api 0.0002 "
        "--overage-storage 0.08 --overage-bandwidth 0.04 --features 'Priority Support,Advanced Monitoring,SSO'",
        ["✓ Plan created: premium", "  Base Price: $99/month", "  Quotas:", "    - API Requests: 500,000/month (overage: $0.0002/req)",
         "    - Storage: 100 GB (overage: $0.08/GB)", "    - Bandwidth: 250 GB/month (overage: $0.04/GB)", "  Features:",
         "    - Priority Support", "    - Advanced Monitoring", "    - SSO"],
    ),
    (
        "plan create pro-annual --price 490 --interval year --copy-from pro --discount 17",
        ["✓ Plan created: pro-annual", "  Price: $490/year (17% discount vs. $588 monthly)", "  Quotas: Copied from Pro plan",
         "  Billing: Annual (save $98/year)"],
    ),
    (
        "plan create pro-annual --price 490 --interval year --discount_percentage 17",
        ["✓ Plan created: pro-annual (version 1, unchanged)", "  Price: $490/year (17% discount vs. $588 monthly)"],
    ),
    (
        "plan create pay-as-you-go --price 0 --interval month --quota-api 0 --overage-api 0.001 --quota-storage 0 --overage-storage 0.15 "
        "--mode metered",
        ["✓ Plan created: pay-as-you-go", "  Base Price: $0/month", "  Quotas: None (usage-only)", "  Pricing:",
         "    - API: $0.001 per request", "    - Storage: $0.15 per GB", "  Mode: Metered (charged for all usage)"],
    ),
    (
        "plan create pro --price-usd 49 --price-eur 45 --price-gbp 39 --price-cad 65 --price-aud 70",
        ["✓ Plan created: pro (version 2)", "  Base Price: $49/month (€45, £39, CA$65, A$70)"],
    ),
]  # fmt: skip


@dataclass
class Typed:
    """What is typed and what it prints."""

    terminal: Terminal
    captured: pytest.CaptureFixture[str]

    async def __call__(self, line: str) -> list[str]:
        options = parser("plan" if line.startswith("plan") else line.split()[0]).parse_args(normalized(shlex.split(line)))
        self.terminal.named = getattr(options, "org", None)
        await options.run(options, self.terminal)
        return self.captured.readouterr().out.splitlines()


@pytest.fixture
def typed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Typed:
    invoicing = Invoicing(issuer=Issuer.WEIGHBRIDGE)
    desk.billing = open_billing(desk.pool, desk.redis, desk.clock, meters=SHIPPED.meters, invoicing=invoicing)
    return Typed(Terminal(desk, SimpleNamespace(billing_currency="usd")), capsys)


async def test_plans_are_created_with_the_words_of_the_guide(typed: Typed) -> None:
    for line, expected in GUIDE:
        assert (await typed(line))[: len(expected)] == expected, line
    assert [row.split()[:6] for row in await typed("plan list")] == [
        ["name", "price", "interval", "api_quota", "storage_quota", "status"],
        ["free", "$0", "month", "10,000", "1", "GB"],
        ["pay-as-you-go", "$0", "month", "-", "-", "active"],
        ["pro", "$49", "month", "100,000", "50", "GB"],
        ["premium", "$99", "month", "500,000", "100", "GB"],
        ["pro-annual", "$490", "year", "100,000", "50", "GB"],
    ]
    assert (await typed("plan compare"))[-1] == "Annual billing available for Pro (save 17%)"


COMPARED = """
Price            $0         $19        $49          Custom/year
API Requests     10K        50K        200K         Unlimited
Storage          1 GB       10 GB      50 GB        Unlimited
Bandwidth        5 GB       25 GB      100 GB       Unlimited
Compute          10 hrs     50 hrs     200 hrs      Unlimited
Organizations    1          3          10           Unlimited
Team Members     5          15         50           Unlimited
Support          Community  Email 24h  Priority 4h  Dedicated 1h
SLA              -          -          99.9%        99.99%
SSO              -          -          SAML         SAML + OIDC
Custom Domains   -          ✓          ✓            ✓
Overage Billing  -          ✓          ✓            Negotiated
"""


async def test_the_plans_that_are_shipped_stand_side_by_side_as_in_the_guide(typed: Typed) -> None:
    await typed.terminal.desk.billing.plans.apply(SHIPPED.plans.plans, {})
    shown = await typed("plan compare")
    assert shown[0] == "Plan Comparison"
    assert shown[2].split() == ["Free", "Starter", "Pro", "Enterprise"]
    assert shown[3:] == COMPARED.replace("/year", "").strip().splitlines()
    two = await typed("plan compare starter pro --format csv")
    assert next(csv.reader(two)) == ["property", "Starter", "Pro"]
    assert "Database,500K,2M" in two
    assert await typed("subscription plans") == [
        "name        price   interval  features",
        "free        $0      month     10K API, 1GB storage, Community support",
        "starter     $19     month     50K API, 10GB storage, Email support",
        "pro         $49     month     200K API, 50GB storage, Priority support",
        "enterprise  Custom  -         Unlimited, 99.99% SLA, Dedicated support",
    ]


async def test_a_plan_of_the_files_that_is_created_is_taken_over_and_given_back(typed: Typed) -> None:
    plans = typed.terminal.desk.billing.plans
    await plans.apply(SHIPPED.plans.plans, {})
    await typed("plan create free --price 0 --quota-api 10000")
    assert (await plans.show("free")).managed_by == "file"  # what it says already takes nothing over
    made = json.loads("\n".join(await typed("plan create pro --price 59 --format json")))
    assert (made["what"], made["taken_over"], made["plan"]["version"], made["plan"]["price"]) == ("changed", True, 2, "59")
    kept = await plans.apply(SHIPPED.plans.plans, {})
    assert [(change.plan, change.what) for change in kept.plans if change.what != "unchanged"] == [("pro", "kept")]
    await typed("plan release pro")
    back = await plans.apply(SHIPPED.plans.plans, {})
    assert [(change.what, change.version) for change in back.plans if change.plan == "pro"] == [("changed", 3)]
    assert (await plans.show("pro", 2)).spec.price["usd"] == 59


async def test_a_plan_is_archived_where_it_was_made(typed: Typed) -> None:
    plans = typed.terminal.desk.billing.plans
    await plans.apply(SHIPPED.plans.plans, {})
    with pytest.raises(ManagedElsewhere, match=r"plans\.yaml"):
        await typed("plan archive pro")
    await typed("plan create premium --price 99 --quota-api 1")
    await typed("plan archive premium")
    assert "archived" in next(row for row in await typed("plan list") if row.startswith("premium"))
    assert not [row for row in await typed("subscription plans") if row.startswith("premium")]
    assert (await typed("plan create premium --price 99"))[0] == "✓ Plan created: premium (version 1)"
    assert (await typed("plan show premium"))[:2] == ["Plan: Premium (premium, version 1)", "Status: active"]
    await typed("plan release free")
    await typed("plan create free --quota-api 5")
    with pytest.raises(DefaultPlanNeeded, match="BILLING_DEFAULT_PLAN"):
        await typed("plan archive free")


REFUSED: list[tuple[str, type[Exception], str]] = [
    ("plan create x --quota-api ten --price 1", BadInput, "no amount"),
    ("plan create x --price 1 --quota-api 1 --quota_api=2", BadInput, "stands twice"),
    ("plan create x --price 1 --copy-from y", NoSuchPlan, "y does not exist"),
    ("plan create x --price 490 --interval year --discount 17", BadInput, "copy_from"),
    ("plan show x", NoSuchPlan, "x does not exist"),
    ("plan compare x", NoSuchPlan, "x does not exist"),
]


@pytest.mark.parametrize(("line", "error", "why"), REFUSED)
async def test_what_cannot_be_is_refused_and_nothing_is_made(typed: Typed, line: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        await typed(line)
    assert await typed.terminal.desk.billing.plans.all() == []


async def test_a_coupon_is_applied_and_said(typed: Typed) -> None:
    desk = typed.terminal.desk
    await desk.billing.plans.apply(SHIPPED.plans.plans, {})
    await desk.billing.orgs.create("Acme", plan="pro")
    await typed("coupon create LAUNCH2026 --type percent_off --amount 50 --duration repeating --duration_in_months 3")
    applied = ["✓ Coupon applied: LAUNCH2026", "  Discount: 50% off", "  Until: 2026-04-30"]
    assert await typed("subscription apply-coupon LAUNCH2026") == applied
