"""Take over an account at Stripe that was there before: which of its customers and subscriptions are whose. Pure.

A customer belongs to the organization that its metadata names, by id or slug; else to the one with its address, where that is one alone
on both sides. A subscription belongs to its customer's organization, where its price is one of the plan that the organization is on.
Nothing is guessed: what does not fit is named, with what to do about it. billing/stripe/adopt.py asks Stripe and writes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.model.money import from_minor
from billing.model.plan import PlanSpec

ORG_KEYS = ("weighbridge_org", "weighbridge_slug", "org_id", "org")
PLAN_KEYS = ("weighbridge_plan", "plan")
_ENDED = ("canceled", "incomplete_expired")

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An organization as far as it matters here. `customer`, `subscription` are what stands for it at Stripe already."""

    org_id: str
    slug: str
    email: str | None
    plan: str | None
    version: int
    spec: PlanSpec | None
    currency: str
    customer: str | None = None
    subscription: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An id to keep: (kind, key) -> stripe_id. `slug` and `why` are what a person reads."""

    kind: str
    key: str
    stripe_id: str
    slug: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """`left` says what is not taken over, and why: (stripe_id, reason)."""

    links: tuple[Link, ...]
    left: tuple[tuple[str, str], ...]


def adoption(customers: Sequence[Found], subscriptions: Sequence[Found], candidates: Sequence[Candidate]) -> Adoption:
    """The same account again gives the same links; what stands already gives none."""
    links: list[Link] = []
    left: list[tuple[str, str]] = []
    owners = _owners(customers, candidates, links, left)
    taken = {c.org_id for c in candidates if c.subscription is not None}
    for subscription in subscriptions:
        if subscription["status"] not in _ENDED:
            _adopt(subscription, owners, taken, links, left)
    return Adoption(links=tuple(links), left=tuple(left))


def _owners(
    customers: Sequence[Found], candidates: Sequence[Candidate], links: list[Link], left: list[tuple[str, str]]
) -> dict[str, Candidate]:
    """Customer -> organization; new ones are linked."""
    owners = {c.customer: c for c in candidates if c.customer is not None}
    free = [c for c in candidates if c.customer is None]
    emails = Counter(_email(customer) for customer in customers)
    claimed: dict[str, str] = {}
    for customer in customers:
        customer_id = customer["id"]
        if customer_id in owners:
            continue
        found, why = _owner(customer, free, emails)
        if found is None:
            left.append((customer_id, why))
        elif found.org_id in claimed:
            left.append((customer_id, f"{found.slug} is {claimed[found.org_id]} already"))
        else:
            claimed[found.org_id] = customer_id
            owners[customer_id] = found
            links.append(Link(kind="customer", key=found.org_id, stripe_id=customer_id, slug=found.slug, why=why))
    return owners


def _owner(customer: Found, free: Sequence[Candidate], emails: Counter[str]) -> tuple[Candidate | None, str]:
    metadata = customer.get("metadata") or {}
    for key in ORG_KEYS:
        if named := metadata.get(key):
            for candidate in free:
                if named in (candidate.org_id, candidate.slug):
                    return candidate, f"metadata {key}"
            return None, f"its metadata names {named}, which is no organization here without a customer"
    email = _email(customer)
    fitting = [c for c in free if email and c.email and c.email.lower() == email]
    if len(fitting) == 1 and emails[email] == 1:
        return fitting[0], f"address {email}"
    if len(fitting) > 1 or (fitting and emails[email] > 1):
        return None, f"several customers or organizations have the address {email}: set metadata weighbridge_org at Stripe"
    return None, f"no organization has the address {email}" if email else "it has neither metadata nor an address"


def _adopt(subscription: Found, owners: Mapping[str, Candidate], taken: set[str], links: list[Link], left: list[tuple[str, str]]) -> None:
    customer = subscription["customer"]
    owner = owners.get(customer["id"] if isinstance(customer, Mapping) else customer)
    if owner is None:
        left.append((subscription["id"], "its customer is not taken over"))
    elif owner.subscription == subscription["id"]:
        return
    elif owner.org_id in taken:
        left.append((subscription["id"], f"{owner.slug} has another subscription: cancel one of the two at Stripe"))
    elif (price := base_price(subscription, owner)) is None:
        left.append(
            (subscription["id"], f"none of its prices is that of plan {owner.plan}, which {owner.slug} is on: move {owner.slug} first")
        )
    else:
        taken.add(owner.org_id)
        why = f"plan {owner.plan}, {subscription['status']}"
        links.append(Link(kind="subscription", key=owner.org_id, stripe_id=subscription["id"], slug=owner.slug, why=why))
        links.append(Link(kind="price", key=_price_key(owner), stripe_id=price, slug=owner.slug, why=f"base price of {owner.plan}"))


def base_price(subscription: Found, owner: Candidate) -> str | None:
    """The price of it that is the plan's own: named so, or of the same amount, currency and interval."""
    if owner.spec is None:
        return None
    for item in subscription["items"]["data"]:
        price = item["price"]
        if any((price.get("metadata") or {}).get(key) == owner.plan for key in PLAN_KEYS) or _same_terms(price, owner.spec, owner.currency):
            return str(price["id"])
    return None


def _same_terms(price: Found, spec: PlanSpec, currency: str) -> bool:
    recurring = price.get("recurring") or {}
    if price["currency"] != currency or currency not in spec.price or price.get("unit_amount") is None:
        return False
    sold: Decimal = spec.price[currency]
    same_interval = recurring.get("interval") == spec.interval.value and recurring.get("interval_count", 1) == 1
    return same_interval and recurring.get("usage_type") == "licensed" and from_minor(price["unit_amount"], currency) == sold


def _price_key(owner: Candidate) -> str:
    assert owner.spec is not None
    return f"{owner.plan}/{owner.version}/{owner.currency}/{owner.spec.interval.value}/base"


def _email(customer: Found) -> str:
    return (customer.get("email") or "").strip().lower()
