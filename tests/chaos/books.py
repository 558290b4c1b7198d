"""What must hold when all is at rest again, customer by customer. Pure.

    answered ≤ charged + (what the fault says may be lost) ≤ seen by the service ≤ charged + returned ≤ asked and not refused
    counter = charged; nobody holds a slot; no call was seen twice

Each call costs one unit of `api`, and is one POST: nobody may send it again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Account:
    """One customer's. `answered`: with 200, to the end. `refused`: by the gateway, before the service could see it."""

    asked: int
    answered: int
    refused: int
    seen: int
    charged: int
    returned: int
    counter: int

    @property
    def lost(self) -> int:
        """Answered and not charged, or seen by the service and not in the books at all."""
        return max(self.unbilled, self.seen - self.charged - self.returned, 0)

    @property
    def unbilled(self) -> int:
        return self.answered - self.charged

    @property
    def doubled(self) -> int:
        """Charged and never seen by the service, or in the books beyond what was asked."""
        return max(self.charged - self.seen, 0) + max(self.charged + self.returned - (self.asked - self.refused), 0)


@dataclass
class Verdict:
    """Of one injection."""

    lost: int = 0
    doubled: int = 0
    given_back: int = 0
    broken: list[str] = field(default_factory=list)


def close(accounts: dict[str, Account], named: Counter[str], may_lose: Callable[[str, Account], int]) -> Verdict:
    """`named`: how often the service saw each call of this load. `may_lose`: how many calls of this customer may be lost."""
    twice = {name: count for name, count in named.items() if count > 1}
    verdict = Verdict(doubled=sum(twice.values()) - len(twice))
    verdict.broken += [f"the service saw call {name} {count} times" for name, count in twice.items()]
    for who, a in accounts.items():
        verdict.lost += a.lost
        verdict.doubled += a.doubled
        verdict.given_back += a.returned
        if a.counter != a.charged:
            verdict.broken.append(f"{who}: the counter says {a.counter}, the ledger {a.charged}: {a}")
        if a.doubled or a.lost > may_lose(who, a):
            verdict.broken.append(f"{who}: {a.lost} lost, {a.doubled} doubled: {a}")
    return verdict
