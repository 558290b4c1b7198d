"""What coupons, credits and customers need of the rows. billing/store keeps them. Part of ports.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from billing.model.customer import Customer
from billing.model.discount import Coupon, Discount
from billing.model.organization import Organization
from billing.model.rollover import Period
from billing.model.wallet import Grant
from metering.model.errors import Conflict

if TYPE_CHECKING:
    from billing.services.ports import QuotaRow


class CustomerTaken(Conflict):
    """What identifies one customer identifies another already."""

    code = "customer_taken"


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A discount of one organization; `removed` where it is not taken any more."""

    discount: Discount
    removed: bool


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant of credit; `revoked_at_ms` where what was left then pays nothing any more."""

    grant: Grant
    revoked_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRow:
    """What a grant paid of an invoice; below zero, what came back."""

    grant_id: int
    invoice_id: str
    amount: Decimal
    at_ms: int


OPERATOR, CUSTOMER = "operator", "customer"  # who sets a cap on spending


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRow:
    """`amount` None: the operator lifts the plan's."""

    set_by: str
    amount: Decimal | None
    currency: str


class CustomerRows(Protocol):
    async def insert(self, org: Organization, email: str | None, currency: str, now_ms: int) -> None: ...

    async def emails(self, org_ids: Sequence[str]) -> dict[str, str]: ...

    async def with_email(self, email: str) -> list[str]:
        """Living organizations whose customer has this address."""
        ...

    async def mirror(self, org_id: str, *, name: str | None, email: str | None) -> None:
        """As Stripe has them; what it has not stays."""
        ...

    async def get(self, org_id: str, *, lock: bool = False) -> Customer | None: ...

    async def put(self, customer: Customer) -> None:
        """All that it says, in place of what was known. Raises CustomerTaken."""
        ...

    async def lifetime(self, org_id: str, currency: str) -> tuple[int, Decimal, int]:
        """Payment methods on file; what it paid in all; the months in which it paid an invoice."""
        ...

    async def at_stripe(self, stripe_id: str) -> str | None:
        """The organization whose customer has this id there."""
        ...


class CouponRows(Protocol):
    async def insert(self, coupon: Coupon, now_ms: int) -> bool:
        """False where the code is taken."""
        ...

    async def get(self, code: str) -> Coupon | None: ...

    async def page(self, after: str | None, limit: int) -> list[Coupon]:
        """In the order they were made, behind the one with this code."""
        ...

    async def count(self, code: str) -> bool:
        """One more redemption; False where none is left. Others wait until the transaction ends."""
        ...

    async def withdraw(self, code: str, now_ms: int) -> bool: ...


class DiscountRows(Protocol):
    async def of_org(self, org_id: str) -> list[Redeemed]:
        """In the order they were redeemed."""
        ...

    async def lock(self, org_id: str) -> None:
        """Nobody else takes them off an invoice until the transaction ends."""
        ...

    async def redeem(self, org_id: str, coupon: str, start_ms: int, end_ms: int | None) -> int:
        """Its number."""
        ...

    async def set_removed(self, discount_id: int, at_ms: int | None) -> None: ...

    async def use(self, org_id: str, invoice_id: str, taken: Sequence[tuple[int, Decimal]], now_ms: int) -> None:
        """What each of them, by its number, took off."""
        ...

    async def undo(self, invoice_id: str, now_ms: int) -> int: ...


class CreditRows(Protocol):
    async def insert(self, grant: Grant) -> int | None:
        """Its number; None where the identifier is known already."""
        ...

    async def of_org(self, org_id: str) -> list[GrantRow]: ...

    async def lock_usable(self, org_id: str, currency: str) -> list[Grant]:
        """Those with something left; nobody else spends of them until the transaction ends."""
        ...

    async def move(self, org_id: str, invoice_id: str, moved: Sequence[tuple[int, Decimal]], now_ms: int) -> None:
        """Take from each grant, and write down for which invoice; below zero gives back."""
        ...

    async def burned(self, invoice_id: str) -> list[tuple[Grant, Decimal]]:
        """What of each grant still pays for the invoice, in the order of burning; locked."""
        ...

    async def burns(self, org_id: str) -> list[BurnRow]: ...

    async def revoke(self, org_id: str, grant_id: int, now_ms: int) -> Grant | None: ...


class SpendCapRows(Protocol):
    async def put(self, org_id: str, set_by: str, amount: Decimal | None, currency: str, now_ms: int) -> None: ...

    async def remove(self, org_id: str, set_by: str) -> None: ...

    async def of_orgs(self, org_ids: Sequence[str]) -> dict[str, list[CapRow]]: ...

    async def capped(self, after: str | None, limit: int) -> list[str]:
        """Organizations with a cap, or held back by one, a page at a time in the order of ids."""
        ...


class PeriodRows(Protocol):
    """Running and past periods of many organizations at once. `starts`: organization -> when the period started."""

    async def rolling(self, after: str | None, limit: int) -> list[str]:
        """Organizations whose plan carries units over, or that have some, a page at a time in the order of ids."""
        ...

    async def used(self, starts: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """organization -> meter -> base units that Postgres holds for that period."""
        ...

    async def overrides(self, org_ids: Sequence[str]) -> dict[str, list["QuotaRow"]]:
        """All of them, the weaker first."""
        ...

    async def carried(self, starts: Mapping[str, int]) -> dict[str, dict[str, Period]]: ...

    async def carry(self, starts: Mapping[str, int], periods: Mapping[str, Mapping[str, Period]]) -> None: ...

    async def flushed_at_ms(self) -> int | None:
        """Usage that was settled before then is in Postgres; None: nothing was ever flushed."""
        ...
