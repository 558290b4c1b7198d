"""What `weighbridge plan` prints of plans, made from the answers alone."""

from decimal import Decimal

from billing.operations.plans import ComparisonAnswer, PlanAnswer, PlanMade, PlanPrice, PlanQuota

from .words import money, short_money

_UNITS = {"request": "req"}
_ADVERBS = {"day": "Daily", "week": "Weekly", "month": "Monthly", "year": "Annual"}


def price_words(price: Decimal | None, currency: str) -> str:
    return "Custom" if price is None else short_money(price, currency)


def made_lines(made: PlanMade, *, metered: bool) -> list[str]:
    """✓ Plan created: pro, and what it says."""
    plan = made.plan
    note = {"created": "", "unchanged": f" (version {plan.version}, unchanged)"}.get(made.what, f" (version {plan.version})")
    lines = [f"✓ Plan created: {plan.name}{note}", f"  {_price(made, metered=metered)}"]
    if made.copied and made.what == "created":
        lines.append(f"  Quotas: Copied from {made.copied} plan")
    elif metered:
        lines += ["  Quotas: None (usage-only)", "  Pricing:"]
        lines += [f"    - {price.name}: {_each(price, plan.currency)} per {price.unit}" for price in plan.overage]
        lines.append("  Mode: Metered (charged for all usage)")
    else:
        lines += [f"  {line}" for line in _quota_lines(plan)]
    if made.saving is not None:
        saved = short_money(made.saving.saved, plan.currency)
        lines.append(
            f"  Billing: {_ADVERBS[plan.interval] if plan.interval_count == 1 else f'Every {plan.every}'} (save {saved}/{plan.every})"
        )
    if not made.copied:
        lines += [f"  {line}" for line in _feature_lines(plan)]
    moved = {"now": made.orgs_now, "as they renew": made.orgs_at_renewal}
    lines += [f"  Subscriptions that change {when}: {count:,}" for when, count in moved.items() if count]
    return lines


def plan_lines(plan: PlanAnswer) -> list[str]:
    every = f"/{plan.every}" if plan.prices else ""
    lines = [
        f"Plan: {plan.title} ({plan.name}, version {plan.version})",
        f"Status: {plan.status}",
        f"Managed by: {'plans.yaml' if plan.managed_by == 'file' else 'command line and API'}",
        f"Price: {price_words(plan.price, plan.currency)}{every}",
    ]
    others = [f"{money(amount, code)}" for code, amount in plan.prices.items() if code != plan.currency]
    lines += [f"Other currencies: {', '.join(others)}"] if others else []
    lines += [f"Trial: {plan.trial_days} days"] if plan.trial_days else []
    lines += [f"Spending ends at: {', '.join(money(amount, code) for code, amount in plan.spend_cap.items())}"] if plan.spend_cap else []
    return [*lines, *_quota_lines(plan), *_charged(plan), *_feature_lines(plan)]


def comparison(found: ComparisonAnswer, *, short: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """(columns, rows, the sentence behind them)."""
    prices = tuple(_compared_price(plan.price, plan.every, found.currency) for plan in found.plans)
    rows = [("Price", *prices), *((row.name, *row.cells) for row in found.rows if row.first or not short)]
    return ("", *(plan.title for plan in found.plans)), rows, _annual(found)


def _compared_price(price: Decimal | None, every: str, currency: str) -> str:
    return price_words(price, currency) + ("" if price is None or every == "month" else f"/{every}")


def _annual(found: ComparisonAnswer) -> str:
    """Annual billing available for Starter+ (save 15%)."""
    if not found.annual:
        return ""
    titles = [each.title for each in found.annual]
    paid = [plan.title for plan in found.plans if plan.price is None or plan.price > 0]
    sold = [title for title in paid if title in titles]
    priced = [plan.title for plan in found.plans if plan.price is not None and plan.price > 0]
    run = priced[priced.index(sold[0]) :] if sold and sold[0] in priced else []
    whose = f"{sold[0]}+" if len(run) > 1 and run == sold else ", ".join(titles)
    percents = sorted({each.percent for each in found.annual})
    saves = f"{percents[0]}%" if len(percents) == 1 else f"up to {percents[-1]}%"
    return f"Annual billing available for {whose} (save {saves})"


def _price(made: PlanMade, *, metered: bool) -> str:
    plan = made.plan
    if not plan.prices:
        return "Price: Custom"
    price = short_money(plan.price, plan.currency) if plan.price is not None else _amounts(plan)
    word = "Base Price" if plan.overage and made.saving is None else "Price"
    others = f" ({_amounts(plan, beside=plan.currency)})" if plan.price is not None and len(plan.prices) > 1 else ""
    saving = ""
    if made.saving is not None:
        saving = f" ({made.saving.percent}% discount vs. {short_money(made.saving.instead, plan.currency)} monthly)"
    return f"{word}: {price}/{plan.every}{others}{saving}"


def _amounts(plan: PlanAnswer, *, beside: str = "") -> str:
    return ", ".join(short_money(amount, code) for code, amount in plan.prices.items() if code != beside)


def _quota_lines(plan: PlanAnswer) -> list[str]:
    if not plan.quotas:
        return ["Quotas: None"]
    prices = {price.service: price for price in plan.overage}
    return ["Quotas:", *(f"  - {quota.title}: {_limit(quota)}{_over(quota, prices.get(quota.service), plan)}" for quota in plan.quotas)]


def _charged(plan: PlanAnswer) -> list[str]:
    """Prices from the first unit on."""
    limited = {quota.service for quota in plan.quotas}
    found = [price for price in plan.overage if price.service not in limited]
    return ["Pricing:", *(f"  - {price.name}: {_each(price, plan.currency)} per {price.unit}" for price in found)] if found else []


def _feature_lines(plan: PlanAnswer) -> list[str]:
    return ["Features:", *(f"  - {feature.label}" for feature in plan.features)] if plan.features else []


def _limit(quota: PlanQuota) -> str:
    if quota.limit is None:
        return "Unlimited"
    unit = "" if quota.base_limit == quota.limit and quota.kind == "count" else f" {quota.unit}"
    return f"{quota.limit:,f}{unit}{quota.each}"


def _over(quota: PlanQuota, price: PlanPrice | None, plan: PlanAnswer) -> str:
    if price is None or quota.mode != "overage":
        return ""
    return f" (overage: {_each(price, plan.currency)}/{_UNITS.get(price.unit, price.unit)})"


def _each(price: PlanPrice, currency: str) -> str:
    return price.model.replace("_", " ") if price.each is None else money(price.each, currency)
