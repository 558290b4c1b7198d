"""What a line of the registry is, and what writing an object here may find."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from billing.services.ports import Unit
from billing.services.ports_stripe import InboxRow
from billing.stripe.client import Resource, StripeApi
from billing.stripe.objects import ORG_KEY

Found = Mapping[str, Any]


class NotYet(Exception):
    """What this event stands on has not happened yet. It is looked at again soon, and is no attempt older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """`ignored` says why nothing of ours is concerned; `republish` whose entitlement is another now."""

    ignored: str | None = None
    republish: tuple[str, ...] = ()


Write = Callable[[Unit, InboxRow, Found | None, int], Awaitable[Done]]
Act = Callable[[StripeApi, InboxRow, Found], Awaitable[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """Ask Stripe for the object (`resource`; None: the event says all), `act` on Stripe where something follows from it, then `write`
    it here, in the transaction that closes the event. `write` is given None for what is not there any more."""

    resource: Resource | None
    write: Write
    expand: tuple[str, ...] = ()
    act: Act | None = None


def reference(value: Any) -> str | None:
    """The id in a field that holds an id, or the object where it was expanded."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) and found else None


async def org_of(unit: Unit, customer: Any, now_ms: int) -> str | None:
    """Whose customer it is: by its id, or, where it was expanded, by its metadata, which what we made carries before its id is noted."""
    customer_id = reference(customer)
    known = await unit.stripe_ids.key_of("customer", customer_id) if customer_id else None
    if known is not None or customer_id is None or not isinstance(customer, Mapping):
        return known
    org_id = await named_org(unit, customer)
    return org_id if org_id and await unit.stripe_ids.claim("customer", org_id, customer_id, now_ms) else None


async def named_org(unit: Unit, found: Found) -> str | None:
    """The living organization that the object's metadata names."""
    named = (found.get("metadata") or {}).get(ORG_KEY)
    org = await unit.orgs.find(named) if named else None
    return org.id if org and org.id == named else None
