"""Feature gates: may this organization use that, and which plan has it. The gateway tells services the same in X-Org-Features."""

from billing.model.features import FeatureCheck, check
from billing.model.plan import Feature, PlanSpec
from billing.model.subscription import STANDINGS, Standing
from billing.services import lookup
from billing.services.ports import Books, Unit


class Features:
    """`default_plan` is what a subscription that ended falls back to."""

    def __init__(self, books: Books, *, currency: str, default_plan: str | None) -> None:
        self._books, self._currency, self._default_plan = books, currency, default_plan

    async def check(self, org_ref: str, key: str) -> FeatureCheck:
        """A feature that no plan has is not allowed. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
            held = await self._held(unit, org.id)
            on_sale = {name: row.spec for name, row in (await unit.plans.all()).items() if not row.archived}
        return check(key, held, on_sale, self._currency)

    async def remember_fallback(self) -> None:
        """For who asks in SQL: what a subscription that ended falls back to."""
        async with self._books.transaction() as unit:
            await unit.plans.set_fallback(self._default_plan)

    async def of_org(self, org_ref: str) -> tuple[Feature, ...]:
        """All that it may use. Raises NoSuchOrganization."""
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref)
            return await self._held(unit, org.id)

    async def _held(self, unit: Unit, org_id: str) -> tuple[Feature, ...]:
        [account] = await unit.orgs.accounts([org_id])
        spec: PlanSpec | None = account.spec
        if account.subscription is None or STANDINGS[account.subscription.state] is not Standing.PLAN:
            row = await unit.plans.get(self._default_plan) if self._default_plan else None
            spec = row.spec if row else None
        return spec.features if spec else ()
