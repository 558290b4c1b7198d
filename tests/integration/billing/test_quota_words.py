"""`weighbridge usage`, `quota` and `cap`: what they print, as the guide prints it. Over a real database and store."""

import argparse
import json
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.model.invoice import Issuer
from billing.model.plan import Feature, PerUnit, PlanSpec
from billing.operations import features
from billing.operations.dispatch import Dispatch
from billing.operations.operation import About, Facts, Model, Nothing, Operation
from billing.services.thresholds import Thresholds
from billing.wiring import Invoicing, open_billing
from metering.model import keys
from metering.model.clock import FrozenClock, to_ms
from metering.model.errors import BadInput, WeighbridgeError
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota, Window
from tests.integration.billing.conftest import METERS, NOW, Desk
from weighbridge.cli.main import normalized, parser
from weighbridge.desk import LocalDesk

HERE = {**METERS, "storage": Meter(name="storage", unit="byte", title="Storage", show="GB", show_size=10**9, kind=Kind.LEVEL)}
PLAN = PlanSpec(
    name="pro", title="Pro", price={"usd": Decimal(49)}, features=(Feature(key="sso", label="SSO"),),
    quotas=(
        Quota(meter="api", limit=200_000, mode=Mode.OVERAGE), Quota(meter="bandwidth", limit=100 * 10**9, mode=Mode.OVERAGE),
        Quota(meter="storage", limit=50 * 10**9, mode=Mode.OVERAGE),
    ),
    prices={
        "api": PerUnit(each=Decimal("0.001")), "bandwidth": PerUnit(each=Decimal("0.05"), per_unit_size=10**9),
        "storage": PerUnit(each=Decimal("0.10"), per_unit_size=10**9),
    },
)  # fmt: skip


OWN = Invoicing(issuer=Issuer.WEIGHBRIDGE)


@dataclass
class Terminal:
    """A command line over the desk, whose time stands still."""

    desk: Desk
    clock: FrozenClock
    options: argparse.Namespace = field(default_factory=argparse.Namespace)

    async def ask(self, operation: Operation[Any, Any], ask: Model) -> Any:
        def billing(org: str | None, actor: str | None) -> Any:
            return open_billing(self.desk.pool, self.desk.redis, self.clock, meters=HERE, org=org, actor=actor, invoicing=OWN)

        org = getattr(self.options, "org", None) if operation.about is About.ORG else None
        return await LocalDesk(Dispatch(billing, Facts, self.clock), "ann@here").call(operation, ask, org=org)

    async def type(self, *words: str) -> None:
        self.options = parser(words[0]).parse_args(normalized(words))
        assert await self.options.run(self.options, self) == 0


@pytest.fixture
async def terminal(desk: Desk) -> Terminal:
    """Acme on Pro, ten days into its period, with 45,231 requests and 12.3 GB held."""
    billing = open_billing(desk.pool, desk.redis, desk.clock, meters=HERE, invoicing=OWN)
    await billing.plans.apply({"pro": PLAN}, {})
    org = (await billing.orgs.create("Acme Corp", plan="pro")).org
    start_ms = to_ms(NOW)
    await desk.redis.set(keys.counter(org.id, "api", "o", Window.PERIOD, start_ms), 45_231)
    await desk.redis.set(keys.counter(org.id, "storage", "o", Window.PERIOD, start_ms), 12_300_000_000)
    hour = NOW + timedelta(hours=1)
    for number, (method, template, units, duration, errors) in enumerate(
        [("POST", "/graphql", 28_442, 125, 57), ("GET", "/api/users", 8_321, 45, 0), ("POST", "/api/auth/login", 4_521, 89, 50)], 1
    ):
        await desk.pool.execute("INSERT INTO billing.routes (id, template) VALUES ($1, $2)", number, template)
        await desk.pool.execute(
            "INSERT INTO billing.usage_hourly (org_id, service, hour, period_start, route_id, method, key_id, bucket, quantity, returned,"
            " event_count) VALUES ($1, 'api', $2, $3, $4, $5, 1, 0, $6, 0, 1)", org.id, hour, NOW, number, method, units,
        )  # fmt: skip
        await desk.pool.execute(
            "INSERT INTO billing.traffic_hourly VALUES ($1, $2, $3, $4, 0, $5, 0, $6, 0, $7, 0, 0)",
            org.id, hour, number, method, units - errors, errors, units * duration,
        )  # fmt: skip
    for part, quantity in (("PostgreSQL", 5_200_000_000), ("MinIO (S3)", 6_800_000_000), ("Redis", 300_000_000)):
        await desk.pool.execute(
            "INSERT INTO billing.levels_current VALUES ($1, 'storage', $2, $3, $4, 0)", org.id, part, NOW, quantity
        )  # fmt: skip
        await desk.pool.execute(
            "INSERT INTO billing.usage_levels VALUES ($1, 'storage', $2, $3, 1, $4)", org.id, part, NOW, quantity
        )  # fmt: skip
    return Terminal(desk, FrozenClock(to_ms(NOW + timedelta(days=10))))


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())


async def test_usage_is_the_guides_table(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("usage")
    assert (
        printed(capsys)
        == """\
Usage Report: 2026-01-31 to 2026-02-28   Acme Corp, Pro plan

Service       Usage    Quota    % Used  Status
API Requests  45,231   200,000  23%     OK
Bandwidth     0 GB     100 GB   0%      OK
Storage       12.3 GB  50 GB    25%     OK

Total Estimated Cost: $49.00 (base) + $0.00 (overage) = $49.00"""
    )


async def test_a_services_usage_is_by_endpoint_and_a_levels_by_what_it_is_held_in(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await terminal.type("usage", "--service=api")
    assert (
        printed(capsys)
        == """\
API Request Usage Report: 2026-01-31 to 2026-02-28   Acme Corp, Pro plan

Endpoint              Requests  Avg Response  Error Rate
POST /graphql         28,442    125ms         0.2%
GET /api/users        8,321     45ms          0.0%
POST /api/auth/login  4,521     89ms          1.1%

Total: 45,231 requests
Quota: 200,000 requests/month
Remaining: 154,769 (77%)"""
    )
    await terminal.type("usage", "--service=storage", "--detailed")
    assert (
        printed(capsys)
        == """\
Storage Usage Report: 2026-01-31 to 2026-02-28   Acme Corp, Pro plan

Resource Type  Usage   % of Total
MinIO (S3)     6.8 GB  55%
PostgreSQL     5.2 GB  42%
Redis          0.3 GB  3%

Total: 12.3 GB
Quota: 50 GB
Remaining: 37.7 GB (75%)"""
    )


async def test_usage_of_another_time_is_the_ledgers(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("usage", "--period=custom", "--start=2026-01-31", "--end", "2026-01-31", "--format=json")
    found = json.loads(printed(capsys))
    assert [(use["service"], use["current_usage"], use["source"]) for use in found["usage"]] == [
        ("api", 41_284, "stored"), ("bandwidth", 0, "stored"), ("storage", 6.15, "stored"),
    ]  # fmt: skip
    assert (found["period"]["start"], found["estimated_cost"]) == ("2026-01-31T00:00:00Z", None)
    await terminal.type("usage", "--period=year")
    assert "API Requests 41,284 - - OK" in " ".join(printed(capsys).split())
    await terminal.type("usage", "--period=last-month", "--format", "csv")
    assert printed(capsys).splitlines()[1] == "api,API Requests,41284,request,200000,20.64,ok"


async def test_the_quotas_are_the_guides_tables(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("quota")
    assert (
        printed(capsys)
        == """\
Quota Report - Pro Plan

Service       Quota          Used     Remaining  Status
API Requests  200,000/month  45,231   154,769    OK
Bandwidth     100 GB/month   0 GB     100 GB     OK
Storage       50 GB          12.3 GB  37.7 GB    OK

Overage Pricing (if quota exceeded):
  - API: $0.001 per request
  - Bandwidth: $0.05 per GB
  - Storage: $0.10 per GB"""
    )
    await terminal.type("quota", "--usage")
    assert (
        printed(capsys)
        == """\
API Requests:  [=====>......................] 23% (45,231 / 200,000)
Bandwidth:     [............................]  0% (0 GB / 100 GB)
Storage:       [=====>......................] 25% (12.3 GB / 50 GB)"""
    )
    await terminal.type("quota", "--service=api")
    assert (
        printed(capsys)
        == """\
API Request Quota - Pro Plan

Total Quota: 200,000 requests/month
Used: 45,231 requests (23%)
Remaining: 154,769 requests (77%)
Resets: 2026-02-28 (18 days)

Top Endpoints:
  1. POST /graphql        - 28,442 requests (69%)
  2. GET /api/users       - 8,321 requests (20%)
  3. POST /api/auth/login - 4,521 requests (11%)

Status: OK
Overage: $0.001 per additional request"""
    )


async def test_a_quota_set_by_hand_holds_until_it_is_reset(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("quota", "set", "--org=acme-corp", "--service=api", "--limit=500000", "--mode=hard")
    assert (
        printed(capsys)
        == """\
✓ Custom quota set for Acme Corp
  Service: API Requests
  Limit: 500,000/month
  Mode: Hard limit (blocks at quota)
  Plan: Pro (custom)"""
    )
    await terminal.type("quota", "set", "--org=acme-corp", "--service=storage", "--limit=100", "--mode=overage", "--overage-rate=0.08")
    assert (
        printed(capsys)
        == """\
✓ Quota updated
  Service: Storage
  Limit: 100 GB
  Mode: Overage billing
  Rate: $0.08/GB over quota"""
    )
    await terminal.type("quota", "--format=json")
    found = {use["service"]: use for use in json.loads(printed(capsys))["quotas"]}
    assert (found["api"]["quota"], found["api"]["mode"], found["storage"]["quota"]) == (500_000, "hard", 100)
    assert Decimal(found["storage"]["overage_price"]) == Decimal("0.08")
    await terminal.type("quota", "reset", "--org=acme-corp")
    assert printed(capsys) == "✓ Quotas reset to Pro plan defaults\n  All custom overrides removed"
    await terminal.type("quota", "--format=json")
    found = {use["service"]: use for use in json.loads(printed(capsys))["quotas"]}
    assert (found["api"]["quota"], found["storage"]["quota"], Decimal(found["storage"]["overage_price"])) == (200_000, 50, Decimal("0.1"))


@pytest.mark.parametrize(
    "line",
    [
        "quota set --service=nothing --limit=5", "quota set --service=storage --limit=0.0000000001", "quota set --service=api --limit=-5",
        "quota set --service=api --limit=5 --mode=hard --overage-rate=1", "quota set --service=api --limit=unlimited --mode=hard",
        "quota set --service=api --limit=5 --mode=throttle",
        "quota set --service=api --limit=5 --mode=throttle --then 2/period", "quota set --service=storage --limit=5 --window=day",
        "quota set --service=api --limit=5 --mode=overage --overage-rate=-1", "quota --service=nothing", "usage --service=nothing",
        "usage --detailed", "quota alert nothing --threshold 80", "quota alert api --threshold 80 --email nobody", "quota alert api",
        "quota alert api --disable --threshold 33", "quota alert config --threshold 5",
    ],
)  # fmt: skip
async def test_what_will_not_do_is_refused_and_leaves_nothing(terminal: Terminal, line: str) -> None:
    with pytest.raises(WeighbridgeError):
        await terminal.type(*line.split())
    assert (
        await terminal.desk.pool.fetchval(
            "SELECT (SELECT count(*) FROM billing.quotas) + (SELECT count(*) FROM billing.quota_alerts) + (SELECT count(*) FROM"
            " billing.alert_destinations) + (SELECT count(*) FROM billing.subscriptions WHERE terms IS NOT NULL)"
        )
        == 0
    )


async def test_a_throttle_says_what_it_falls_to(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("quota", "set", "--service=api", "--limit=500", "--mode=throttle", "--then", "20/hour", "--until", "2030-01-01")
    assert "Mode: Throttle (slower beyond quota)" in printed(capsys)


async def test_alerts_are_configured_listed_foretold_and_disabled(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("quota", "alert", "api", "--threshold", "80", "--email", "billing@example.com")
    assert (
        printed(capsys)
        == """\
✓ Alert configured
  Service: API Requests
  Threshold: 80% (160,000 requests)
  Notification: Email to billing@example.com"""
    )
    await terminal.type("quota", "alert", "api", "--threshold", "80", "--slack", "https://hooks.slack.com/services/T0/B0/XX")
    await terminal.type("quota", "alert", "api", "--threshold", "25")
    await terminal.type("quota", "alert", "config", "--webhook", "https://example.com/alerts")
    await terminal.type(
        "quota", "alert", "storage", "--threshold", "75", "--email", "b@example.com", "--threshold", "95", "--webhook", "https://example.com/a"
    )  # fmt: skip
    capsys.readouterr()
    await terminal.type("quota", "alert", "list")
    assert (
        printed(capsys)
        == """\
service  threshold  channels      status
api      25%        webhook       active
api      80%        email, slack  active
storage  75%        email         active
storage  95%        webhook       active"""
    )
    await terminal.type("quota", "--alerts", "--service", "api")
    assert (
        printed(capsys)
        == """\
Active Quota Alerts:

Service  Threshold  Status         Alert On
API      25%        OK (23% used)  2026-02-11
API      80%        OK (23% used)  Never"""
    )
    await terminal.type("quota", "alert", "api", "--disable")
    assert printed(capsys) == "✓ Alerts disabled: api"
    await terminal.type("quota", "alert", "list", "--format=json")
    found = json.loads(printed(capsys))["alerts"]
    assert [(row["service"], row["active"]) for row in found] == [("api", False), ("api", False), ("storage", True), ("storage", True)]
    assert "services/T0" not in json.dumps(found)
    log = await terminal.desk.pool.fetch("SELECT * FROM billing.audit_log")
    assert "B0/XX" not in str(log)
    assert "alert.created" in str(log)


async def test_the_watcher_hears_what_the_rules_say_and_nothing_of_what_is_disabled(terminal: Terminal) -> None:
    desk, billing = terminal.desk, open_billing(terminal.desk.pool, terminal.desk.redis, terminal.clock, meters=HERE)
    await desk.pool.execute(
        "INSERT INTO billing.hook_endpoints (id, url, types, created_by, created_at)"
        " VALUES ('hook_12345678', 'https://example.com', '{*}', 'x', now())"
    )
    await desk.pool.execute(
        "INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative, updated_at)"
        " SELECT id, 'api', $1, $3, 0, 45231, $2 FROM billing.organizations", NOW, NOW + timedelta(days=10), NOW + timedelta(days=28),
    )  # fmt: skip
    watcher = Thresholds(desk.books, terminal.clock)
    assert await watcher.look(billing.usage) == 0  # 23 % and 25 % are below every default
    await billing.alerts.set("acme-corp", "api", [(20, ())])
    await billing.alerts.set("acme-corp", "storage", [(25, ())])
    await billing.alerts.disable("acme-corp", "api", ())
    assert await watcher.look(billing.usage) == 0  # 24.6 % of storage; api is silent
    await billing.alerts.set("acme-corp", "api", [(10, ())])
    assert await watcher.look(billing.usage) == 2
    assert (await billing.usage.report("acme-corp")).meters[0].limits[0].status == "warning"


async def test_a_cap_is_shown_set_and_removed(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    await terminal.type("cap", "set", "200")
    await terminal.type("cap", "set", "50", "--customer")
    capsys.readouterr()
    await terminal.type("cap", "show")
    assert (
        printed(capsys)
        == """\
Spend cap: $50.00
  Plan: none
  Operator: $200.00
  Customer: $50.00
  Spent beyond the base price: $0.00"""
    )
    await terminal.type("cap", "remove", "--customer")
    await terminal.type("cap", "lift", "--format=json")
    with pytest.raises(BadInput):
        await terminal.type("cap", "set", "-1")


async def test_a_feature_is_checked(terminal: Terminal) -> None:
    found = await terminal.ask(features.check, features.AskFeature(key="sso"))
    assert (found.allowed, found.required_plan) == (True, "pro")
    assert not (await terminal.ask(features.check, features.AskFeature(key="sla"))).allowed
    assert [f.key for f in (await terminal.ask(features.list_features, Nothing())).features] == ["sso"]
