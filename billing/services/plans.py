"""Plans and overrides from a file or an API call into Postgres, and subscriptions to the versions they follow.

A plan whose terms changed gets a new version. Whoever made a plan (`managed_by`) changes it; what the other side asks
is reported, not done. `rollout` decides who follows the newest version: nobody (`new`), everybody when their next
period starts (`renewal`), everybody at once (`now`).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from billing.model import outbox
from billing.model.lifecycle import Step, move
from billing.model.plan import PlanSpec, Rollout, same_terms
from billing.model.plan_offer import Offer, Saving, check_discount, planned
from billing.model.plan_words import Annual, Row, annual, cheapest_first, side_by_side
from billing.model.subscription import PlanVersion, Subscription
from billing.services.entitlements import Entitlements
from billing.services.lifecycle import NoSuchPlan
from billing.services.overrides import OverrideChange, OverrideTerms, apply_overrides
from billing.services.ports import API, FILE, Books, ConfigSet, Cut, PlanRow, Unit, cut_nothing
from metering.model.clock import Clock
from metering.model.errors import BadInput, Conflict
from metering.model.meter import Meter

_BATCH = 500

Work = Callable[[Unit, set[str]], Awaitable["Applied"]]  # adds to the set whose terms it changes


class ManagedElsewhere(Conflict):
    """The other side made this plan."""

    code = "managed_elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """What an apply does to one plan. `what` is created, changed, unchanged, archived, returned (from the archive) or
    kept (managed by the other side, and different). `base_delta` adds up what the base prices of the orgs moved change by."""

    plan: str
    what: str
    version: int
    orgs_now: int = 0
    orgs_at_renewal: int = 0
    base_delta: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """`unknown_orgs` are slugs with an override and without an organization: nothing was done for them.
    `published` False: stored, and the gateways will hear of it once Redis answers."""

    plans: tuple[PlanChange, ...]
    overrides: tuple[OverrideChange, ...]
    unknown_orgs: tuple[str, ...]
    orgs_affected: int
    published: bool = True

    @property
    def changes_nothing(self) -> bool:
        return all(c.what in ("unchanged", "kept") and not (c.orgs_now or c.orgs_at_renewal) for c in self.plans) and not self.overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A plan that was asked for, as it is sold now. `taken_over`: it was plans.yaml's before. `copied` is the plan it copies."""

    row: PlanRow
    change: PlanChange
    taken_over: bool
    copied: PlanSpec | None
    saving: Saving | None
    published: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Plans in the order of their price, their properties as rows, and those that are sold by the year too."""

    plans: tuple[PlanRow, ...]
    rows: tuple[Row, ...]
    annual: tuple[Annual, ...]


class DefaultPlanNeeded(Conflict):
    """Whoever has no other plan is on this one."""

    code = "default_plan_needed"


class Plans:
    """`default_plan` is never archived. `bills` False tells Stripe nothing (BILLING_ENABLED=false). `items`: what is due is written
    down, for invoices of ours."""

    def __init__(
        self,
        books: Books,
        entitlements: Entitlements,
        clock: Clock,
        *,
        meters: Mapping[str, Meter],
        currency: str,
        bills: bool,
        items: bool = False,
        cut: Cut = cut_nothing,
        default_plan: str | None = None,
    ) -> None:
        self._books, self._entitlements, self._clock, self._default_plan = books, entitlements, clock, default_plan
        self._meters, self._currency, self._bills, self._items, self._cut = meters, currency, bills, items, cut

    @property
    def meters(self) -> Mapping[str, Meter]:
        return self._meters

    async def by_price(self, *, archived: bool = True) -> list[PlanRow]:
        """The newest versions, the cheapest first and those by agreement last."""
        rows = {row.spec.name: row for row in await self.all() if archived or not row.archived}
        return [rows[spec.name] for spec in cheapest_first([row.spec for row in rows.values()])]

    async def all(self) -> list[PlanRow]:
        """Every plan's newest version, the archived too, by name."""
        async with self._books.transaction() as unit:
            rows = await unit.plans.all()
        return [rows[name] for name in sorted(rows)]

    async def apply(
        self,
        plans: Mapping[str, PlanSpec],
        overrides: Mapping[str, OverrideTerms],
        *,
        files: ConfigSet | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """The files' plans and overrides, as a whole: what they no longer hold is archived or removed. All or nothing.
        `files`, in which they stand, is kept as the set in force.

        With `dry_run`, the same work, undone. Raises BadInput for a price on a meter that nobody counts,
        or in other currencies only.
        """
        self._check(plans.values())

        async def work(unit: Unit, touched: set[str]) -> Applied:
            stored = await unit.plans.all(lock=True)
            changes = [await self._put(unit, spec, stored.get(name), FILE, touched) for name, spec in sorted(plans.items())]
            changes += await self._archive(unit, [r for n, r in sorted(stored.items()) if n not in plans])
            changed, unknown = await apply_overrides(unit, overrides, self._clock.now_ms(), touched)
            if files is not None:
                await unit.config_sets.add(files, self._clock.now_ms())
            return Applied(plans=tuple(changes), overrides=changed, unknown_orgs=unknown, orgs_affected=len(touched))

        return await self._done(work, dry_run=dry_run)

    async def put(self, spec: PlanSpec) -> Applied:
        """One plan by API or command line: new, or a new version. Raises ManagedElsewhere for a plan of the files."""
        self._check([spec])

        async def work(unit: Unit, touched: set[str]) -> Applied:
            row = await unit.plans.get(spec.name, lock=True)
            if row and row.managed_by == FILE and not same_terms(row.spec, spec):
                raise ManagedElsewhere(f"plan {spec.name} comes from plans.yaml; change it there", plan=spec.name)
            change = await self._put(unit, spec, row, API, touched)
            return Applied(plans=(change,), overrides=(), unknown_orgs=(), orgs_affected=len(touched))

        return await self._done(work)

    async def create(self, offer: Offer) -> Made:
        """A plan by API or command line, or its next version, for which what is not said stays. One that comes from plans.yaml is taken
        over: it is changed here from then on, and config diff says that the files' is kept out. Raises PlanFaulty, NoSuchPlan."""
        made: list[Made] = []

        async def work(unit: Unit, touched: set[str]) -> Applied:
            rows = await unit.plans.all(lock=True)
            row, copied = rows.get(offer.name), _named(rows, offer.copy_from) if offer.copy_from else None
            spec = planned(offer, copied.spec if copied else row.spec if row else None, self._meters)
            monthly = copied or _monthly(rows, spec.copy_from or offer.name.partition("-")[0], offer.name)
            saves = check_discount(offer, spec, monthly.spec if monthly else None, self._currency)
            self._check([spec])
            taken_over = row is not None and row.managed_by == FILE and (row.archived or not same_terms(row.spec, spec))
            if row is not None and taken_over:
                await unit.plans.manage(spec.name, API, self._clock.now_ms())
                row = replace(row, managed_by=API)
            change = await self._put(unit, spec, row, API, touched)
            now = PlanRow(spec=spec, version=change.version, managed_by=row.managed_by if row else API)
            source = copied.spec if copied else None
            made[:] = [Made(row=now, change=change, taken_over=taken_over, copied=source, saving=saves)]
            return Applied(plans=(change,), overrides=(), unknown_orgs=(), orgs_affected=len(touched))

        applied = await self._done(work)
        return replace(made[0], published=applied.published)

    async def show(self, name: str, version: int | None = None) -> PlanRow:
        """The newest version, or that one. Raises NoSuchPlan."""
        async with self._books.transaction() as unit:
            row = _named(await unit.plans.all(), name)
            if version is None or version == row.version:
                return row
            spec = await unit.plans.version(name, version)
        if spec is None:
            raise NoSuchPlan(f"plan {name} has versions 1 to {row.version}, and no {version}", plan=name)
        return replace(row, spec=spec, version=version)

    async def compare(self, names: Sequence[str] = ()) -> Comparison:
        """Those that are named, or all on sale; what is another's by the year stands beside that. Raises NoSuchPlan."""
        async with self._books.transaction() as unit:
            rows = await unit.plans.all()
        on_sale = [row.spec for row in rows.values() if not row.archived]
        by_the_year = annual(on_sale, self._currency)
        yearly = {each.plan for each in by_the_year}
        specs = [_named(rows, name).spec for name in names] or [spec for spec in cheapest_first(on_sale) if spec.name not in yearly]
        return Comparison(plans=tuple(rows[spec.name] for spec in specs), rows=side_by_side(specs, self._meters), annual=by_the_year)

    async def archive(self, name: str) -> PlanRow:
        """Nobody new gets it; who has it keeps it. Raises NoSuchPlan, ManagedElsewhere for one of plans.yaml, DefaultPlanNeeded."""
        async with self._books.transaction() as unit:
            row = _named(await unit.plans.all(lock=True), name)
            if row.managed_by == FILE:
                raise ManagedElsewhere(f"plan {name} comes from plans.yaml; take it out there, or release it from there first", plan=name)
            if name == self._default_plan:
                raise DefaultPlanNeeded(f"plan {name} is BILLING_DEFAULT_PLAN: name another one first", plan=name)
            await unit.plans.archive(name, True, self._clock.now_ms())
        return replace(row, archived=True)

    async def release(self, name: str) -> PlanRow:
        """plans.yaml manages it again: the next time the files are applied they decide what it is, or archive it. Raises NoSuchPlan."""
        async with self._books.transaction() as unit:
            row = _named(await unit.plans.all(lock=True), name)
            await unit.plans.manage(name, FILE, self._clock.now_ms())
        return replace(row, managed_by=FILE)

    async def _done(self, work: Work, *, dry_run: bool = False) -> Applied:
        """A rehearsal, undone, tells whose terms change: what they owe by the old ones is cut before the new ones stand."""
        applied, touched = await self._once(work, keep=False)
        if dry_run:
            return applied
        if touched:
            await self._cut(sorted(touched))
        applied, touched = await self._once(work, keep=True)
        return replace(applied, published=await self._entitlements.tell(sorted(touched)))

    async def _once(self, work: Work, *, keep: bool) -> tuple[Applied, set[str]]:
        touched: set[str] = set()
        async with self._books.transaction(keep=keep) as unit:
            return await work(unit, touched), touched

    async def _archive(self, unit: Unit, rows: Sequence[PlanRow]) -> list[PlanChange]:
        """Nobody new gets them; who has one keeps it."""
        gone = [row for row in rows if row.managed_by == FILE and not row.archived]
        for row in gone:
            await unit.plans.archive(row.spec.name, True, self._clock.now_ms())
        return [PlanChange(plan=row.spec.name, what="archived", version=row.version) for row in gone]

    async def renew_due(self) -> int:
        """Move the subscriptions whose awaited renewal has come; returns how many."""
        moved = 0
        while True:
            now_ms = self._clock.now_ms()
            async with self._books.transaction() as unit:
                owing = {s.org_id for s, _ in await unit.subscriptions.due(now_ms, _BATCH)}
            if not owing:
                return moved
            await self._cut(sorted(owing))
            async with self._books.transaction() as unit:
                due = [(s, v) for s, v in await unit.subscriptions.due(now_ms, _BATCH) if s.org_id in owing]
                for plan, version in sorted({(s.plan, v) for s, v in due}):
                    spec = await unit.plans.version(plan, version)
                    if spec is not None:
                        await self._move(unit, [s for s, v in due if (s.plan, v) == (plan, version)], spec, version)
            await self._entitlements.tell(sorted(s.org_id for s, _ in due))
            moved += len(due)
            if len(owing) < _BATCH:
                return moved

    def _check(self, specs: Iterable[PlanSpec]) -> None:
        for spec in specs:
            unknown = sorted({*spec.prices, *(q.meter for q in spec.quotas)} - set(self._meters))
            if unknown:
                raise BadInput(f"plan {spec.name} names {', '.join(unknown)}, which meters.yaml does not", plan=spec.name)
            for price in spec.prices.values():
                price.in_currency(self._currency)

    async def _put(self, unit: Unit, spec: PlanSpec, row: PlanRow | None, managed_by: str, touched: set[str]) -> PlanChange:
        now_ms = self._clock.now_ms()
        if row is None:
            await unit.plans.add_version(spec, 1, managed_by, now_ms)
            return PlanChange(plan=spec.name, what="created", version=1)
        same = same_terms(row.spec, spec)
        if row.managed_by != managed_by:
            return PlanChange(plan=spec.name, what="unchanged" if same else "kept", version=row.version)
        version, what = (row.version, "unchanged") if same else (row.version + 1, "changed")
        if not same:
            await unit.plans.add_version(spec, version, managed_by, now_ms)
        if row.archived:
            await unit.plans.archive(spec.name, False, now_ms)
            what = "returned" if same else what
        return await self._roll_out(unit, spec, PlanChange(plan=spec.name, what=what, version=version), touched)

    async def _roll_out(self, unit: Unit, spec: PlanSpec, change: PlanChange, touched: set[str]) -> PlanChange:
        if spec.rollout is Rollout.NEW:
            return change
        behind = await unit.subscriptions.behind(spec.name, change.version)
        if spec.rollout is Rollout.NOW:
            subscriptions = [s for s, _ in behind]
            delta = await self._move(unit, subscriptions, spec, change.version)
            touched.update(s.org_id for s in subscriptions)
            return replace(change, orgs_now=len(subscriptions), base_delta=delta)
        waiting = [s for s, awaited in behind if awaited != change.version]
        now_ms = self._clock.now_ms()
        renewals = [s.billing_period(now_ms)[1] for s in waiting]
        await unit.subscriptions.schedule([s.org_id for s in waiting], change.version, renewals)
        await self._announce(unit, waiting, spec, change.version)
        delta = sum(((spec.price.get(s.currency) or Decimal(0)) - (s.amount or Decimal(0)) for s in waiting), Decimal(0))
        return replace(change, orgs_at_renewal=len(waiting), base_delta=delta)

    async def _announce(self, unit: Unit, waiting: Sequence[Subscription], spec: PlanSpec, version: int) -> None:
        """The price of their next period, before Stripe charges it."""
        if not self._bills or not spec.is_paid:
            return
        rows: list[outbox.OutboxRow] = []
        for s in waiting:
            stands = await unit.plans.version(s.plan, s.plan_version)
            same = stands is not None and s.awaited is None and stands.price.get(s.currency) == spec.price.get(s.currency)
            if stands is not None and stands.is_paid and not same:
                awaits = replace(s, awaited=PlanVersion(plan=spec.name, version=version), revision=s.revision + 1)
                rows += outbox.next_price_rows(awaits, spec, version, self._meters, stands=stands)
        await unit.outbox.add(rows, self._clock.now_ms())

    async def _move(self, unit: Unit, subscriptions: Sequence[Subscription], spec: PlanSpec, version: int) -> Decimal:
        """To this version, prorated, with what Stripe must hear of it. Returns by how much the base prices change in all."""
        if not subscriptions:
            return Decimal(0)
        org_ids = sorted(s.org_id for s in subscriptions)
        await unit.orgs.raise_versions(org_ids)
        now_ms = self._clock.now_ms()
        steps = [move(replace(s, revision=s.revision + 1), spec, spec, version, s.terms, now_ms) for s in subscriptions]
        moved = [replace(step.to, revision=s.revision) for step, s in zip(steps, subscriptions, strict=True)]
        await self._store(unit, steps, now_ms)
        if self._bills and spec.is_paid:
            orgs, emails = await unit.orgs.by_ids(org_ids), await unit.customers.emails(org_ids)
            rows = [
                row
                for s in moved
                for row in (outbox.customer_row(orgs[s.org_id], emails.get(s.org_id)), *outbox.subscription_rows(s, spec, self._meters))
            ]
            await unit.outbox.add(rows, now_ms)
        before = sum((s.amount or Decimal(0) for s in subscriptions), Decimal(0))
        return sum((s.amount or Decimal(0) for s in moved), Decimal(0)) - before

    async def _store(self, unit: Unit, steps: Sequence[Step], now_ms: int) -> None:
        """At once, but for the few whose periods begin anew, because the interval is another."""
        anew = [step for step in steps if step.ends_usage_ms is not None]
        await unit.subscriptions.move([step.to for step in steps if step.ends_usage_ms is None])
        for step in anew:
            await unit.subscriptions.put(step.to)
            await unit.subscriptions.end_usage_period(step.to.org_id, now_ms)
        if self._items:
            await unit.invoice_items.add([item for step in steps for item in step.items], now_ms)


def _named(rows: Mapping[str, PlanRow], name: str) -> PlanRow:
    if name not in rows:
        raise NoSuchPlan(f"plan {name} does not exist; there are: {', '.join(sorted(rows)) or 'none'}", plan=name)
    return rows[name]


def _monthly(rows: Mapping[str, PlanRow], name: str, own: str) -> PlanRow | None:
    """What a plan by the year is measured against: the plan that it copied, or that its name begins with."""
    return rows.get(name) if name != own else None
