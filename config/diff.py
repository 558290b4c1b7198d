"""What would change between two configurations. Pure; who prints it adds how many organizations each change touches."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal

from billing.model.cycle import said
from billing.model.plan import PlanSpec
from billing.model.pricing import PerUnit, Price
from metering.model.clock import isoformat
from metering.model.entitlement import rule_to_json
from metering.model.meter import Meter
from metering.model.quota import Concurrency, FailureRule, Per, Quota, Rate

from . import identity
from .gateway import Cost, Fixed, GatewayConfig, HeaderEdit, Messages, Route, Settled, Weighed
from .load import Configuration
from .orgs import OrgSpec
from .plans import OverrideSpec
from .upstreams import upstream_facts

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One difference. `plan` and `org` (a slug) name whom it touches, where it is not everybody."""

    path: str
    kind: Kind
    before: str | None = None
    after: str | None = None
    plan: str | None = None
    org: str | None = None

    def __str__(self) -> str:
        mark = {"added": "+", "removed": "-", "changed": "~"}[self.kind]
        values = [value for value in (self.before, self.after) if value is not None]
        return f"{mark} {self.path}" + (f": {' → '.join(values)}" if values else "")


@dataclass(frozen=True, slots=True)
class _Thing:
    """A plan, a route, a meter, …: its facts, compared one by one."""

    facts: Mapping[str, str]
    summary: str = ""
    plan: str | None = None
    org: str | None = None


def compare(old: Configuration | None, new: Configuration) -> list[Change]:
    """Every difference, in the order of the files' paths; all of `new` where there was nothing."""
    before = dict(_things(old)) if old is not None else {}
    after = dict(_things(new))
    changes: list[Change] = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was is None and now is not None:
            changes.append(Change(path, "added", None, now.summary or None, now.plan, now.org))
        elif now is None and was is not None:
            changes.append(Change(path, "removed", was.summary or None, None, was.plan, was.org))
        elif was is not None and now is not None:
            changes += _facts_changed(path, was, now)
    return changes


def _facts_changed(path: str, was: _Thing, now: _Thing) -> Iterator[Change]:
    for name in sorted(was.facts.keys() | now.facts.keys()):
        one, other = was.facts.get(name), now.facts.get(name)
        if one != other:
            kind: Kind = "added" if one is None else "removed" if other is None else "changed"
            yield Change(f"{path}.{name}", kind, one, other, now.plan, now.org)


def _things(config: Configuration) -> Iterator[tuple[str, _Thing]]:
    yield from _gateway_things(config.gateway, config.meters)
    for name, meter in config.meters.items():
        yield f"meters.{name}", _Thing(_meter_facts(meter), meter.unit)
    yield "plans.yaml", _Thing({"issuer": config.plans.issuer})
    for name, plan in config.plans.plans.items():
        yield f"plans.{name}", _Thing(_plan_facts(plan, config.meters), _money(plan.price), plan=name)
    for slug, override in config.plans.overrides.items():
        yield f"overrides.{slug}", _Thing(_override_facts(override, config.meters), override.reason, org=slug)
    for slug, org in (config.orgs.orgs if config.orgs else {}).items():
        yield f"orgs.{slug}", _Thing(_org_facts(org), org.plan, plan=org.plan, org=slug)


def _gateway_things(gateway: GatewayConfig, meters: Mapping[str, Meter]) -> Iterator[tuple[str, _Thing]]:
    for name, upstream in gateway.upstreams.items():
        yield f"upstreams.{name}", _Thing(upstream_facts(upstream), ", ".join(upstream.targets))
    for route in gateway.routes:
        spelled = " ".join(filter(None, (",".join(sorted(route.methods or ())), ",".join(route.hosts) + route.path)))
        facts = _route_facts(route, meters)
        yield f"routes[{spelled}]", _Thing(facts, facts["charge"])
    yield "identity", _Thing({str(number): identity.facts(each) for number, each in enumerate(gateway.identity)})
    yield "limits", _Thing({f.name: str(getattr(gateway.limits, f.name)) for f in fields(gateway.limits)})


def _route_facts(route: Route, meters: Mapping[str, Meter]) -> dict[str, str]:
    return {
        "upstream": route.upstream,
        "auth": route.auth,
        "charge": ", ".join(f"{meter}: {_cost(cost)}" for meter, cost in sorted(route.charge.items())) or "none",
        **_limit_facts(route.quotas, route.rates, route.concurrency, meters),
        "return_on": ", ".join(sorted(route.return_on)) or "none",
        "on_store_failure": _rule(route.on_store_failure),
        "strip_prefix": route.strip_prefix or "none",
        "host": route.host,
        "request_headers": _headers(route.request_headers),
        "response_headers": _headers(route.response_headers),
        "timeouts": f"connect {route.timeouts.connect_s:g}s, idle {route.timeouts.idle_s:g}s, "
        + (f"total {route.timeouts.total_s:g}s" if route.timeouts.total_s else "total none"),
        "preflight": route.preflight,
        "hide_credentials": str(route.hide_credentials).lower(),
        "scopes": ", ".join(sorted(route.scopes)) or "none",
        "tenant": f"header {route.tenant_header}" if route.tenant_header else "none",
    }


def _meter_facts(meter: Meter) -> dict[str, str]:
    return {f.name: str(getattr(meter, f.name)) for f in fields(meter) if f.name != "name"}


def _plan_facts(plan: PlanSpec, meters: Mapping[str, Meter]) -> dict[str, str]:
    return {
        "title": plan.title,
        "price": _money(plan.price),
        "interval": said(plan.interval, plan.interval_count),
        "trial_days": str(plan.trial_days),
        "rollout": plan.rollout.value,
        "discount_label": plan.discount_label or "none",
        **_limit_facts(plan.quotas, plan.rates, plan.concurrency, meters),
        **{f"prices.{meter}": _priced(price, meters.get(meter)) for meter, price in plan.prices.items()},
        **{f"features.{feature.key}": feature.label for feature in plan.features},
        **({"spend_cap": _money(plan.spend_cap)} if plan.spend_cap else {}),
        **{f"rollover.{meter}": f"{units:,}" for meter, units in plan.rollover.items()},
    }


def _override_facts(override: OverrideSpec, meters: Mapping[str, Meter]) -> dict[str, str]:
    limits = _limit_facts(override.quotas, override.rates, override.concurrency, meters)
    return {"reason": override.reason, "until": isoformat(override.until_ms), **limits}


def _org_facts(org: OrgSpec) -> dict[str, str]:
    keys = {f"keys.{key.sha256[:12]}": isoformat(key.expires_at_ms) if key.expires_at_ms else "active" for key in org.keys}
    return {"id": org.id, "name": org.name, "plan": org.plan, "anchor": isoformat(org.anchor_ms), **keys}


def _limit_facts(
    quotas: Iterable[Quota], rates: Iterable[Rate], concurrency: Iterable[Concurrency], meters: Mapping[str, Meter]
) -> dict[str, str]:
    facts = {f"quotas.{_quota_name(quota)}": _quota(quota, meters) for quota in quotas}
    facts |= {f"rates.{rate.meter or 'calls'}.{rate.per}{_by(rate.by)}": _rate(rate, meters) for rate in rates}
    return facts | {f"concurrency{_by(each.by)}": f"{each.limit:,} in flight{_shadow(each.shadow)}" for each in concurrency}


def _by(by: Per) -> str:
    return "" if by is Per.ORG else f".by_{by}"


def _shadow(shadow: bool) -> str:
    return ", shadow" if shadow else ""


def _rate(rate: Rate, meters: Mapping[str, Meter]) -> str:
    meter = meters.get(rate.meter) if rate.meter else None
    burst = f", burst {shown_amount(rate.burst, meter)}" if rate.burst is not None else ""
    return f"{shown_amount(rate.limit, meter)} a {rate.per}{burst}{_shadow(rate.shadow)}"


def _quota_name(quota: Quota) -> str:
    return f"{quota.meter}.{quota.window}" + ("" if quota.per is Per.ORG else f".per_{quota.per}")


def _quota(quota: Quota, meters: Mapping[str, Meter]) -> str:
    meter = meters.get(quota.meter)
    then = f", then {shown_amount(quota.then.limit, meter)} by the {quota.then.window}" if quota.then else ""
    stop = f", stops at {shown_amount(quota.stop_at, meter)}" if quota.stop_at is not None else ""
    cut = ", cut" if quota.at_limit == "cut" else ""
    rule = f", {_rule(quota.on_store_failure)} while the store is away" if quota.on_store_failure else ""
    return f"{shown_amount(quota.limit, meter)} {quota.mode}{then}{stop}{cut}{_shadow(quota.shadow)}{rule}"


def shown_amount(base_units: int | None, meter: Meter | None) -> str:
    """An amount as people read it, exactly: 200,000; 50 GB; unlimited."""
    if base_units is None:
        return "unlimited"
    if meter is None or not meter.show:
        return f"{base_units:,}"
    return f"{(Decimal(base_units) / meter.show_size).normalize():,f} {meter.show}"


def _priced(price: Price, meter: Meter | None) -> str:
    """With the model's word in front, but for the plainest."""
    text = _plain(price.to_json(), meter)
    return text if price.kind == PerUnit.kind else f"{price.kind}: {text}"


def _plain(price: Mapping[str, Any], meter: Meter | None) -> str:
    """As people read it: 0.05 a GB; graduated: to 100,000 at 0.001, beyond at 0.0005 each."""
    unit = f" a {meter.show}" if meter is not None and meter.show else " each"
    if set(price) == {"each", "per_unit_size"}:
        return f"{price['each']}{unit}"
    return ", ".join(_word(word, value, meter) for word, value in price.items() if value is not None and word != "per_unit_size")


def _word(word: str, value: Any, meter: Meter | None) -> str:
    if word == "price":
        return f"{value['model']} ({_plain(_without_model(value), meter)})"
    if word == "prices":
        return ", ".join(f"{currency}: {_plain(_without_model(inner), meter)}" for currency, inner in value.items())
    if word == "tiers":
        return "; ".join(_tier(tier, meter) for tier in value)
    return f"{word} {shown_amount(value, meter) if word in ('size', 'free') else value}"


def _tier(tier: Mapping[str, Any], meter: Meter | None) -> str:
    costs = [f"{tier['percentage']} %" if "percentage" in tier else str(tier["each"])]
    costs += [f"{tier['flat']} flat"] if tier["flat"] != "0" else []
    return ("beyond" if tier["to"] is None else f"to {shown_amount(tier['to'], meter)}") + f" at {' + '.join(costs)}"


def _without_model(price: Mapping[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in price.items() if word != "model"}


def _money(price: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in sorted(price.items())) or "contact sales"


def _cost(cost: Cost) -> str:
    if isinstance(cost, Fixed):
        return f"{cost.units:,}"
    if isinstance(cost, Settled):
        sources = " or ".join(f"{source.kind}:{source.name}" for source in cost.sources)
        return f"reserve {cost.reserve:,}, settle {sources}, otherwise {cost.unsaid:,}, within {cost.within:,} bytes"
    return cost.source if isinstance(cost, Weighed | Messages) else f"header:{cost.name}"


def _rule(rule: FailureRule) -> str:
    value = rule_to_json(rule)
    return f"grace {value['grace']}" if isinstance(value, dict) else str(value)


def _headers(edit: HeaderEdit) -> str:
    lines = [*(f"+{name}: {value}" for name, value in sorted(edit.add.items())), *(f"-{name}" for name in sorted(edit.remove))]
    return ", ".join(lines) or "none"
