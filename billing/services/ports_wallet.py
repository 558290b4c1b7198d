"""What coupons, credits and customers need of the rows. billing/store keeps them. Part of ports.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from billing.model.customer import Customer
from billing.model.discount import Coupon, Discount, DiscountLine
from billing.model.organization import Organization
from billing.model.wallet import Grant
from metering.model.errors import Conflict


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


class CustomerRows(Protocol):
    async def insert(self, org: Organization, email: str | None, currency: str, now_ms: int) -> None: ...

    async def emails(self, org_ids: Sequence[str]) -> dict[str, str]: ...

    async def mirror(self, org_id: str, *, name: str | None, email: str | None) -> None:
        """As Stripe has them; what it has not stays."""
        ...

    async def get(self, org_id: str, *, lock: bool = False) -> Customer | None: ...

    async def put(self, customer: Customer) -> None:
        """All that it says, in place of what was known. Raises CustomerTaken."""
        ...

    async def at_stripe(self, stripe_id: str) -> str | None:
        """The organization whose customer has this id there."""
        ...


class CouponRows(Protocol):
    async def insert(self, coupon: Coupon, now_ms: int) -> bool:
        """False where the code is taken."""
        ...

    async def get(self, code: str) -> Coupon | None: ...

    async def all(self) -> list[Coupon]: ...

    async def count(self, code: str) -> bool:
        """One more redemption; False where none is left. Others wait until the transaction ends."""
        ...

    async def withdraw(self, code: str, now_ms: int) -> bool: ...


class DiscountRows(Protocol):
    async def of_org(self, org_id: str) -> list[Redeemed]:
        """In the order they were redeemed."""
        ...

    async def redeem(self, org_id: str, coupon: str, start_ms: int, end_ms: int | None) -> int:
        """Its number."""
        ...

    async def set_removed(self, discount_id: int, at_ms: int | None) -> None: ...

    async def use(self, org_id: str, invoice_id: str, lines: Sequence[DiscountLine], now_ms: int) -> None: ...

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
