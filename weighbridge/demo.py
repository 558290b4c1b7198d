"""The two organizations of the first minute: made once, with keys in `<data>/demo.env` (0600) where the database holds hashes alone."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from billing.model.plan import PlanSpec
from billing.services.lookup import NoSuchOrganization
from billing.services.use_cases import Billing
from config.load import Configuration
from metering.model.apikey import checksum_fails, sha256_hex
from metering.model.quota import Mode, Quota, Window

from . import first_minute

if TYPE_CHECKING:
    from .house import House

REASON = "demo override, so you can see a 429"
FREE_LIMIT = Quota(meter="api", limit=3, window=Window.HOUR, mode=Mode.HARD, source="override")
_WANTED = {"PRO": ("demo-pro", "pro"), "FREE": ("demo-free", "free")}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOrg:
    """`variable` names its key in demo.env."""

    variable: str
    id: str
    slug: str
    plan: str
    api_key: str
    allowance: str


async def prepare(billing: Billing, config: Configuration, env_file: Path, currency: str) -> list[DemoOrg]:
    """Make what is missing. A plan that the operator has taken out of plans.yaml has no demo organization."""
    kept = read_env(env_file)
    found = []
    for variable, (slug, plan) in _WANTED.items():
        spec = config.plans.plans.get(plan)
        if spec is not None:
            found.append(await _one(billing, variable, slug, spec, kept.get(variable), currency))
    write_env(env_file, {org.variable: org.api_key for org in found})
    return found


async def _one(billing: Billing, variable: str, slug: str, spec: PlanSpec, api_key: str | None, currency: str) -> DemoOrg:
    try:
        view = await billing.orgs.show(slug)
        org_id, plan = view.org.id, view.subscription.plan if view.subscription else spec.name
        active = {key.sha256 for key in view.keys if key.revoked_at_ms is None}
        if api_key is None or sha256_hex(api_key) not in active:
            api_key = (await billing.keys.create(slug, label="demo")).api_key
    except NoSuchOrganization:
        made = await billing.orgs.create(slug, plan=spec.name, slug=slug)
        org_id, plan, api_key = made.org.id, spec.name, made.api_key
        if variable == "FREE":
            await billing.overrides.put(slug, [FREE_LIMIT], reason=REASON, until_ms=None)
    quota = next((q for q in spec.quotas if q.meter == "api" and q.window is Window.PERIOD), None)
    words = first_minute.allowance(FREE_LIMIT if variable == "FREE" else quota, spec, currency)
    return DemoOrg(variable=variable, id=org_id, slug=slug, plan=plan, api_key=api_key, allowance=words)


def lines(house: "House") -> list[str]:
    """The table of the first minute, and what to type next."""
    if not house.demo:
        return []
    env_file = first_minute.shown(house.settings.data_dir / "demo.env", Path.cwd()).removeprefix("./")
    rows = [first_minute.Row(org=o.slug, plan=o.plan, allowance=o.allowance) for o in house.demo]
    return first_minute.organizations(rows, env_file)


def read_env(path: Path) -> dict[str, str]:
    """Variable → key, of those that can be keys of ours."""
    try:
        pairs = [line.strip().partition("=") for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {name: value for name, _, value in pairs if value and not checksum_fails(value)}


def write_env(path: Path, keys: dict[str, str]) -> None:
    """PRO=… and FREE=…, for `. demo.env`; nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}={key}\n" for name, key in keys.items())
    fresh.replace(path)
