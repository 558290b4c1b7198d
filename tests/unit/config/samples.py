"""Small configurations for the tests: a faultless set, and what becomes of it when one file is another."""

from config.faults import Fault
from config.files import FileSet
from config.load import Parsed, parse

GATEWAY = """
upstreams:
  app: {targets: ["http://127.0.0.1:9000"]}
defaults:
  charge: {api: 1, bandwidth: bytes}
  on_store_failure: {grace: 200}
routes:
  - {path: /health, methods: [GET], auth: none, charge: none}
  - {path: /*}
"""
METERS = """
meters:
  api: {unit: request}
  bandwidth: {unit: byte, show: GB, report: MB}
  storage: {unit: byte, kind: level, show: GB, report: MB}
  pages: {unit: page}
"""
PLANS = """
plans:
  free:
    price: {usd: "0"}
    quotas: [{meter: api, limit: 10_000}]
  pro:
    price: {usd: "49.00"}
    quotas: [{meter: api, limit: 200_000, mode: overage}]
    prices: {api: {each: "0.0003"}}
"""


def files(gateway: str = GATEWAY, meters: str = METERS, plans: str = PLANS, orgs: str | None = None) -> FileSet:
    texts = {"gateway.yaml": gateway, "meters.yaml": meters, "plans.yaml": plans}
    return FileSet(texts=texts | ({"orgs.yaml": orgs} if orgs is not None else {}))


def parsed(gateway: str = GATEWAY, meters: str = METERS, plans: str = PLANS, orgs: str | None = None) -> Parsed:
    return parse(files(gateway, meters, plans, orgs))


def faults(gateway: str = GATEWAY, meters: str = METERS, plans: str = PLANS, orgs: str | None = None) -> list[Fault]:
    return parsed(gateway, meters, plans, orgs).faults


def gateway_with(routes: str = "  - {path: /*}", defaults: str = "  charge: {api: 1}", upstreams: str | None = None) -> str:
    """gateway.yaml with these routes (YAML list lines) and defaults (YAML mapping lines)."""
    named = upstreams or '  app: {targets: ["http://127.0.0.1:9000"]}'
    return f"upstreams:\n{named}\ndefaults:\n{defaults}\nroutes:\n{routes}\n"


def plan_with(words: str) -> str:
    """plans.yaml with one plan, `pro`, of these words (a flow mapping's inside)."""
    return 'plans:\n  pro: {price: {usd: "49.00"}, ' + words + "}\n"
