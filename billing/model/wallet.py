"""Credits: grants of money that pay invoices, in which order they are burned, and what comes back when an invoice is voided.

Pure. A grant is promotional (given: a referral, an excuse) or paid (prepaid by the customer). Burning follows one order: what ends
soonest goes first, then the smaller `priority` (Stripe's: 0 to 100, 0 first), then promotional before paid, then the older. So a
customer loses as little as possible to expiry, and spends what was given before what was paid. billing/store/credits.py keeps the
rows and locks them: `burn` itself never takes more than a grant has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from billing.model.money import to_minor
from metering.model.errors import BadInput

_NEVER_MS = 2**62
HIGHEST, LOWEST, USUAL = 0, 100, 50  # priorities


class GrantKind(StrEnum):
    PROMOTIONAL = "promotional"  # given
    PAID = "paid"  # prepaid: never lost by our doing


class GrantFaulty(BadInput):
    """A grant of credit has an amount above zero, in whole minor units, a reason, and an end that is not past."""

    code = "grant_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`left` is what is not burned yet of `amount`. Equal identifiers are the same grant: the second is not written."""

    org_id: str
    amount: Decimal  # major units
    left: Decimal
    currency: str
    reason: str
    kind: GrantKind = GrantKind.PROMOTIONAL
    priority: int = USUAL
    granted_at_ms: int = 0
    expires_at_ms: int | None = None
    identifier: str = ""
    id: int = 0  # given by the database

    def checked(self, now_ms: int) -> "Grant":
        """Itself. Raises GrantFaulty, AmountNotWhole."""
        if to_minor(self.amount, self.currency) <= 0:
            raise GrantFaulty(f"{self.amount} {self.currency.upper()} is no credit: write an amount above zero")
        if not self.reason.strip():
            raise GrantFaulty("a credit needs a reason: it shows on the invoice that it pays")
        if not HIGHEST <= self.priority <= LOWEST:
            raise GrantFaulty(f"{self.priority} is no priority of a credit: {HIGHEST} (burned first) to {LOWEST}")
        if self.expires_at_ms is not None and self.expires_at_ms <= now_ms:
            raise GrantFaulty("a credit that has ended already pays nothing: choose an end to come, or none")
        return self

    def usable(self, now_ms: int) -> bool:
        return self.left > 0 and (self.expires_at_ms is None or now_ms < self.expires_at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """What each grant pays, in the order of burning, and what no grant could pay."""

    used: tuple[tuple[int, Decimal], ...]
    rest: Decimal

    @property
    def amount(self) -> Decimal:
        return sum((amount for _, amount in self.used), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    """What returns to which grant; `renewed`, a new grant without end in place of a paid one that has ended; `lost`, what a promotional
    grant would have got that has ended."""

    returned: tuple[tuple[int, Decimal], ...]
    renewed: tuple[tuple[int, Grant], ...] = ()
    lost: Decimal = Decimal(0)


def order(grant: Grant) -> tuple[int, int, bool, int, int]:
    """Sorts grants as they are burned."""
    ends = _NEVER_MS if grant.expires_at_ms is None else grant.expires_at_ms
    return (ends, grant.priority, grant.kind is GrantKind.PAID, grant.granted_at_ms, grant.id)


def balance(grants: Iterable[Grant], now_ms: int) -> Decimal:
    """What could be burned now, of grants in one currency."""
    return sum((grant.left for grant in grants if grant.usable(now_ms)), Decimal(0))


def burn(grants: Iterable[Grant], amount: Decimal, now_ms: int) -> Burn:
    """Pay `amount` (rounded, not below zero) from these grants, which are in its currency."""
    used, rest = [], max(Decimal(0), amount)
    for grant in sorted((g for g in grants if g.usable(now_ms)), key=order):
        if rest <= 0:
            break
        taken = min(grant.left, rest)
        used.append((grant.id, taken))
        rest -= taken
    return Burn(used=tuple(used), rest=rest)


def give_back(burned: Sequence[tuple[Grant, Decimal]], amount: Decimal | None, now_ms: int, *, why: str) -> GivenBack:
    """Undo burns, `amount` of them or all, what was burned last first. `burned`: each grant, and what of it is still burned, in the
    order of burning. `why` is the reason of a grant that is renewed."""
    rest = sum((each for _, each in burned), Decimal(0)) if amount is None else amount
    returned, renewed, lost = [], [], Decimal(0)
    for grant, taken in reversed(burned):
        back = min(taken, rest)
        if back <= 0:
            continue
        rest -= back
        if grant.expires_at_ms is None or now_ms < grant.expires_at_ms:
            returned.append((grant.id, back))
        elif grant.kind is GrantKind.PAID:
            new = replace(grant, id=0, amount=back, left=back, expires_at_ms=None, granted_at_ms=now_ms, reason=why, identifier="")
            renewed.append((grant.id, new))
        else:
            lost += back
    return GivenBack(returned=tuple(returned), renewed=tuple(renewed), lost=lost)
