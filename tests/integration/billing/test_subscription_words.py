"""`weighbridge subscription` and `trial`: what they print, as the guide prints it. One story over a real database."""

import argparse
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from billing.model.invoice import Issuer
from billing.model.plan import Feature, PlanSpec
from billing.operations.dispatch import Dispatch
from billing.operations.operation import About, Facts, Model, Operation
from billing.services.use_cases import Billing
from billing.wiring import Invoicing, open_billing
from metering.model.clock import to_ms
from metering.model.errors import WeighbridgeError
from tests.integration.billing.conftest import METERS, Desk
from weighbridge.cli.main import normalized, parser
from weighbridge.desk import LocalDesk

PLANS = {
    spec.name: spec
    for spec in (
        PlanSpec(name="free", title="Free", price={"usd": Decimal(0)}),
        PlanSpec(name="starter", title="Starter", price={"usd": Decimal(19)}),
        PlanSpec(name="pro", title="Pro", price={"usd": Decimal(49)}, features=(Feature(key="sla", label="Priority support"),)),
        PlanSpec(name="enterprise", title="Enterprise", price={"usd": Decimal(299)}),
    )
}


@dataclass
class Terminal:
    """A command line over the desk, whose time stands still."""

    desk: Desk
    settings: SimpleNamespace
    named: str | None = None

    @contextlib.asynccontextmanager
    async def billing(self) -> AsyncIterator[Billing]:
        yield self.desk.billing

    async def ask(self, operation: Operation[Any, Any], ask: Model) -> Any:
        dispatch = Dispatch(lambda org, actor: self.desk.billing, Facts, self.desk.clock)
        org = self.named if operation.about is About.ORG else None
        return await LocalDesk(dispatch, "ann@here").call(operation, ask, org=org)

    async def type(self, line: str, answers: str = "", monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        if monkeypatch is not None:
            monkeypatch.setattr("sys.stdin", io.StringIO(answers))
        options: argparse.Namespace = parser(line.split()[0]).parse_args(normalized(line.split()))
        self.named = getattr(options, "org", None)
        await options.run(options, self)

    def at(self, text: str) -> None:
        self.desk.clock.advance((to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC)) - self.desk.clock.now_ms()) / 1000)


@pytest.fixture
async def terminal(desk: Desk) -> Terminal:
    desk.billing = open_billing(desk.pool, desk.redis, desk.clock, meters=METERS, invoicing=Invoicing(issuer=Issuer.WEIGHBRIDGE))
    await desk.billing.plans.apply(PLANS, {})
    terminal = Terminal(desk, SimpleNamespace(billing_currency="usd"))
    terminal.at("2026-04-01")
    await desk.billing.orgs.create("Acme", plan="pro", email="billing@acme.test")
    terminal.at("2026-04-16")
    return terminal


async def test_the_words_of_the_guide(terminal: Terminal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def printed(line: str, answers: str = "") -> list[str]:
        await terminal.type(line, answers, monkeypatch)
        return capsys.readouterr().out.splitlines()

    assert (await printed("subscription show"))[1:] == [
        "Plan: Pro ($49/month)", "Status: active", "Current Period: 2026-04-01 to 2026-05-01", "Next Invoice: 2026-05-01 ($49.00)",
        "Cancel at Period End: No",
    ]  # fmt: skip
    assert [row.split() for row in (await printed("subscription plans"))[:2]] == [
        ["name", "price", "interval", "features"], ["free", "$0", "month", "-"],
    ]  # fmt: skip
    assert (await printed("subscription upgrade enterprise --preview"))[0] == "Subscription would be upgraded to Enterprise"
    assert await printed("subscription upgrade enterprise") == [
        "✓ Subscription upgraded to Enterprise", "  Proration credit: -$24.50", "  Due for the rest of the period: $149.50",
        "  New monthly charge: $299.00", "  Effective immediately",
    ]  # fmt: skip
    assert await printed("subscription downgrade starter") == [
        "✓ Subscription will downgrade to Starter on 2026-05-01", "  You will continue to have Enterprise access until then",
        "  New monthly charge (starting 2026-05-01): $19.00",
    ]  # fmt: skip
    assert await printed("subscription cancel --reason=expensive", "n\n") == ["Nothing was canceled."]
    assert await printed("subscription cancel --reason=expensive", "y\nend\n") == [
        "✓ Subscription will be canceled on 2026-05-01", "  You will continue to have access until then", "  No refunds for partial months",
    ]  # fmt: skip
    assert (await printed("subscription show"))[-1] == "Cancel at Period End: Yes, on 2026-05-01"
    assert await printed("subscription reactivate") == [
        "✓ Subscription reactivated", "  You will be billed $299.00 on 2026-05-01", "  Cancellation removed",
    ]  # fmt: skip
    assert (await printed("subscription update --billing_cycle_anchor 15"))[0] == "✓ The next billing period starts on 2026-05-15"
    assert (await printed("subscription align --date 2026-05-01"))[0] == "✓ The next billing period starts on 2026-05-01"
    assert (await printed("subscription pause"))[0] == "✓ Subscription paused"
    assert (await printed("subscription resume"))[0] == "✓ Subscription resumed"
    assert await printed("trial auto-downgrade --enable") == ["✓ Auto-downgrade after a trial: on"]


async def test_a_trial_is_started_by_the_customers_address(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.desk.billing.orgs.create("Fresh", plan="free", email="new@fresh.test")
    await terminal.type("trial start new@fresh.test --plan=pro --days=7")
    assert capsys.readouterr().out.splitlines() == ["✓ Trial of Pro started for Fresh", "  Ends: 2026-04-23"]
    with pytest.raises(WeighbridgeError, match="no organization has the address"):
        await terminal.type("trial start nobody@fresh.test")
    with pytest.raises(WeighbridgeError, match="say which organization"):
        await terminal.type("subscription show")
    await terminal.type("subscription show --org=fresh --format=json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["trial_end"], shown["next_amount"]) == ("trialing", "2026-04-23T00:00:00Z", "49")
