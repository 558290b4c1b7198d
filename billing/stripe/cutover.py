"""Move an installation from one side of Stripe to the next: from the sandbox to test mode, from there to live mode.

Ids of the side before are forgotten and what was told to it is set aside, in one transaction; what every customer and subscription must
be there is queued in the same. Usage, invoices, payments and credits stay. A period under way is charged whole by the side to come, base
price and overage, as the side before is left behind with what it charged for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.model import outbox
from billing.model.discount import Coupon, Duration
from billing.model.outbox import OutboxRow
from billing.model.subscription import State, sold
from billing.model.tax import NO_TAXES_AT_STRIPE, Place, StripeTaxes
from billing.services.ports import Books, Unit
from billing.services.ports_stripe import Forgotten, InTheWay, Side
from metering.model.clock import Clock
from metering.model.errors import Conflict
from metering.model.meter import Meter

ORDER = ("sandbox", "test", "live")


class CutoverRefused(Conflict):
    """The installation cannot be moved so."""

    code = "cutover_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was done, or would be. `customers` and `subscriptions` are made anew at the side to come."""

    before: Side
    after: Side
    customers: int
    subscriptions: int
    forgotten: Forgotten


async def cutover(
    books: Books, after: Side, clock: Clock, meters: Mapping[str, Meter], *, dry_run: bool, taxes: StripeTaxes = NO_TAXES_AT_STRIPE
) -> Moved:
    """Raises CutoverRefused, and then nothing has changed."""
    now_ms = clock.now_ms()
    async with books.transaction(keep=not dry_run) as unit:
        before = await unit.cutover.hold()
        if before is None:
            raise CutoverRefused("nothing was told to any side of Stripe yet: there is nothing to move, start with the new key")
        _check_way(before, after)
        _check_settled(await unit.cutover.in_the_way())
        customers, subscribers = await unit.cutover.orgs_with("customer"), await unit.cutover.orgs_with("subscription")
        forgotten = await unit.cutover.move(before, after, now_ms)
        rows = [*await _customer_rows(unit, customers, now_ms), *await _terms_rows(unit, subscribers, taxes, now_ms)]
        rows += await _subscription_rows(unit, subscribers, meters)
        await unit.outbox.add(rows, now_ms)
    made = sum(row.kind == outbox.ENSURE_SUBSCRIPTION for row in rows)
    return Moved(before=before, after=after, customers=len(customers), subscriptions=made, forgotten=forgotten)


def _check_way(before: Side, after: Side) -> None:
    """Forward; or, but for live mode, to another account of the same mode."""
    steps = ORDER.index(after.mode) - ORDER.index(before.mode)
    if steps < 0:
        raise CutoverRefused(
            f"from {before.mode} there is no way back to {after.mode}: what {before.mode} holds would be lost. Use another database."
        )
    if steps == 0 and (after.mode == "live" or after.account is None or before.account in (None, after.account)):
        where = f" of {after.account}" if after.account else ""
        raise CutoverRefused(f"the database belongs to {after.mode}{where} already: set STRIPE_API_KEY to a key of the side to come")


def _check_settled(found: InTheWay) -> None:
    if found.pending:
        raise CutoverRefused(
            f"{found.pending} rows wait to be told to the side before: run `weighbridge flush` with its key first, and stop the aggregator"
        )
    if found.unknown:
        raise CutoverRefused(f"{found.unknown} rows may stand at the side before or not: settle them first (weighbridge outbox list)")
    if found.payments:
        raise CutoverRefused(f"{found.payments} charges are not settled yet: wait for them, or void their invoices")


async def _customer_rows(unit: Unit, org_ids: list[str], now_ms: int) -> list[OutboxRow]:
    orgs, emails = await unit.orgs.by_ids(org_ids), await unit.customers.emails(org_ids)
    rows = [outbox.customer_row(orgs[org_id], emails.get(org_id)) for org_id in org_ids]
    found = [await unit.customers.get(org_id) for org_id in org_ids]
    return rows + [outbox.customer_changed_row(customer, now_ms) for customer in found if customer is not None]


async def _terms_rows(unit: Unit, org_ids: list[str], taxes: StripeTaxes, now_ms: int) -> list[OutboxRow]:
    """Before the subscriptions: their taxes, and the coupons that they have."""
    rows: list[OutboxRow] = []
    for org_id in org_ids:
        customer = await unit.customers.get(org_id)
        if taxes.any:
            rows.append(outbox.tax_row(org_id, taxes.told(customer.place if customer else Place()), now_ms))
        discounts = [redeemed.discount for redeemed in await unit.discounts.of_org(org_id) if not redeemed.removed]
        subscription = await unit.subscriptions.of_org(org_id)
        if subscription is not None:
            lasting = [each.coupon for each in discounts if each.stands(now_ms) and _lasts(each.coupon, subscription.currency)]
            rows += [outbox.add_discount_row(org_id, coupon, subscription.currency, now_ms) for coupon in lasting]
    return rows


def _lasts(coupon: Coupon, currency: str) -> bool:
    """The side to come would begin any other anew: what was used of it already it does not know."""
    return coupon.duration is Duration.FOREVER and (not coupon.amount_off or currency in coupon.amount_off)


async def _subscription_rows(unit: Unit, org_ids: list[str], meters: Mapping[str, Meter]) -> list[OutboxRow]:
    rows: list[OutboxRow] = []
    for org_id in org_ids:
        subscription = await unit.subscriptions.of_org(org_id)
        spec = await unit.plans.version(subscription.plan, subscription.plan_version) if subscription else None
        if subscription is None or spec is None or not spec.is_paid:
            continue
        rows += outbox.subscription_rows(subscription, sold(spec, subscription), meters)
        if subscription.ends_at_ms is not None or subscription.state is State.PAUSED:
            rows.append(outbox.update_row(subscription))  # made anew, it would run on
    return rows


def described(moved: Moved, *, dry_run: bool) -> list[str]:
    """What a person reads."""
    verb, gone = ("would be", "would be forgotten") if dry_run else ("are", "are forgotten")
    before, after = (f"{side.mode}{f' ({side.account})' if side.account else ''}" for side in (moved.before, moved.after))
    return [
        f"From {before} to {after}",
        f"  {moved.customers} customers and {moved.subscriptions} subscriptions {verb} made there, with their plans' prices and meters",
        f"  {moved.forgotten.objects} ids of {moved.before.mode} {gone}",
        f"  {moved.forgotten.methods} payment methods {gone}: customers add theirs again (weighbridge payment add)",
        f"  {moved.forgotten.periods} usage periods under way {verb} told there whole; periods that ended stay as they were billed",
        "  usage, invoices, payments and credits stay",
    ]
