"""`weighbridge coupon`, `credit`, `customer`, `cap`: the guide's commands, one after another, as they are typed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import config
from weighbridge.cli.main import run

SHIPPED = Path(config.__file__).parent


class Line:
    """The command line in this process, over one database and one store."""

    def __init__(self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        self.environ, self._capsys = environ, capsys

    def __call__(self, *arguments: str) -> str:
        code = run(arguments, self.environ)
        said = self._capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def refused(self, *arguments: str) -> str:
        assert run(arguments, self.environ) == 1
        return self._capsys.readouterr().err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--format", "json"))


@pytest.fixture
def line(database: str, redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    """With the shipped plans and the organization acme on pro."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config"
    folder.mkdir()
    for file in SHIPPED.glob("*.yaml"):
        shutil.copy(file, folder)
    made = Line({"DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(folder)}, capsys)
    made("init")
    made("org", "create", "Acme Corp", "--plan", "pro", "--email", "billing@example.com")
    return made


def test_a_coupon_is_created_applied_and_removed(line: Line) -> None:
    created = line(
        "coupon", "create", "LAUNCH2026", "--type", "percent_off", "--amount", "50", "--duration", "repeating", "--duration_in_months", "3",
        "--max_redemptions", "100", "--expires", "2999-03-31",
    )  # fmt: skip
    assert created.splitlines() == [
        "✓ Coupon created: LAUNCH2026", "  Discount: 50% off", "  Duration: 3 months", "  Max uses: 100", "  Expires: 2999-03-31",
    ]  # fmt: skip
    assert "✓ Coupon applied: LAUNCH2026" in line("subscription", "apply-coupon", "LAUNCH2026")
    assert line.json("coupon", "show", "LAUNCH2026")["redeemed"] == 1
    assert "removed from acme-corp" in line("coupon", "remove", "LAUNCH2026")
    line("coupon", "withdraw", "LAUNCH2026")
    assert [row["status"] for row in line.json("coupon", "list")["coupons"]] == ["withdrawn"]
    assert "already" in line.refused("coupon", "create", "LAUNCH2026", "--type", "amount_off", "--amount", "5")
    assert "no amount" in line.refused("coupon", "create", "X", "--type", "amount_off", "--amount", "five")


def test_credit_is_granted_listed_and_revoked(line: Line) -> None:
    said = line("credit", "add", "--customer", "acme-corp", "--amount", "25", "--reason", "Referral bonus")
    assert said.splitlines() == [
        "✓ Credit added: $25.00 to Acme Corp", "  Reason: Referral bonus", "  Expires: never", "  Balance: $25.00",
    ]  # fmt: skip
    [row] = line.json("credit", "list")["credits"]
    assert (row["left"], row["kind"], row["status"]) == ("25", "promotional", "active")
    line("credit", "revoke", str(row["id"]))
    assert line.json("credit", "list")["credits"][0]["status"] == "revoked"
    assert "cus_nobody" in line.refused("credit", "add", "--customer", "cus_nobody", "--amount", "25", "--reason", "r")
    assert "above zero" in line.refused("credit", "add", "--amount", "-25", "--reason", "r")


def test_a_customer_is_shown_and_updated(line: Line) -> None:
    line(
        "customer", "update", "--email", "pay@example.com", "--name", "Acme Corporation LLC", "--address", "123 Main St", "--city",
        "San Francisco", "--state", "CA", "--postal_code", "94102", "--country", "US",
    )  # fmt: skip
    shown = line("customer", "show")
    for said in (
        "Organization: Acme Corp",
        "Email: pay@example.com",
        "Payment Methods: none",
        "(Pro Plan)",
        "Lifetime Value: $0.00 (0 months)",
    ):
        assert said in shown
    assert line.json("customer", "show")["address"]["postal_code"] == "94102"
    assert "ISO 3166" in line.refused("customer", "update", "--country", "USA")


def test_a_customer_of_a_marketplace_needs_the_setting_and_leaves_nothing_half_done(line: Line) -> None:
    wanted = ("customer", "create", "--email", "buyer@example.com", "--marketplace", "aws", "--marketplace-customer-id", "m-1")
    assert "BILLING_MARKETPLACE_ENABLED" in line.refused(*wanted)
    assert len(line.json("org", "list")["orgs"]) == 1
    line.environ["BILLING_MARKETPLACE_ENABLED"] = "true"
    assert line.json(*wanted)["customer"]["marketplace_customer_id"] == "m-1"


def test_a_cap_is_set_by_the_operator_and_lower_by_the_customer(line: Line) -> None:
    assert line("cap", "show").splitlines()[0] == "Spend cap: none"
    line("cap", "set", "500")
    assert "500.00 USD" in line.refused("cap", "set", "600", "--customer")
    assert line.json("cap", "set", "20", "--customer")["cap"] == "20.00"
    line("cap", "remove", "--customer")
    assert line.json("cap", "lift")["cap"] is None
