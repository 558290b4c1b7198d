"""`stripe import`: ask an account what it holds, link what belongs to organizations here. Nothing is made or changed at Stripe.

What belongs to whom is decided in billing/model/adoption.py.
"""

from billing.model.adoption import Adoption, Candidate, adoption
from billing.services.ports import Books, Unit
from billing.stripe.client import Resource, StripeApi
from metering.model.clock import Clock


async def adopt(books: Books, stripe: StripeApi, clock: Clock, *, currency: str, dry_run: bool) -> Adoption:
    """What is linked, or would be, and what is left. Raises StripeCallFailed. Again, it finds nothing new."""
    customers = [item async for item in stripe.find(Resource.CUSTOMER, {})]
    subscriptions = [item async for item in stripe.find(Resource.SUBSCRIPTION, {"status": "all"})]
    async with books.transaction(keep=not dry_run) as unit:
        found = adoption(customers, subscriptions, await _candidates(unit, currency))
        for link in found.links:
            await unit.stripe_ids.claim(link.kind, link.key, link.stripe_id, clock.now_ms())
    return found


async def _candidates(unit: Unit, currency: str) -> list[Candidate]:
    living = await unit.orgs.living()
    emails = await unit.customers.emails([org.id for org, _ in living])
    found = []
    for org, subscription in living:
        spec = await unit.plans.version(subscription.plan, subscription.plan_version) if subscription else None
        found.append(
            Candidate(
                org_id=org.id, slug=org.slug, email=emails.get(org.id), plan=subscription.plan if subscription else None,
                version=subscription.plan_version if subscription else 0, spec=spec,
                currency=subscription.currency if subscription else currency,
                customer=await unit.stripe_ids.of("customer", org.id), subscription=await unit.stripe_ids.of("subscription", org.id),
            )
        )  # fmt: skip
    return found
