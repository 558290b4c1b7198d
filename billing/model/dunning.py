"""What is done about an invoice that is not paid: when it is charged again, warned about, when its account is downgraded. Pure.

One schedule, counted from the first failure. With three attempts three days apart:

    day 0   the first charge fails            mail payment_failed (1 of 3)
    day 3   the second                        mail payment_failed (2 of 3)
    day 6   the third                         mail payment_failed (3 of 3)
    day 7   the final warning                 mail payment_final_warning (in 48 hours …)
    day 9   to the default plan               mail account_downgraded
    later   paid, by whichever way            back on the plan, mail payment_received

A step that comes late, because nothing ran, moves what follows: two attempts are at least a day apart, and a downgrade is never
sooner than 48 hours after the warning was written. Where Stripe charges (`charges` False), its attempts come as facts, and only
the mails and the downgrade are steps of ours. billing/services/dunning.py carries steps out.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

DAY_MS, HOUR_MS = 86_400_000, 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    attempts: int = 3
    days_between: int = 3
    warn_after_days: int = 7
    grace_hours: int = 48

    def attempt_ms(self, failed_ms: int, attempt: int) -> int:
        """When the `attempt`th charge is due whose first failed then."""
        return failed_ms + (attempt - 1) * self.days_between * DAY_MS

    def warn_ms(self, failed_ms: int) -> int:
        return failed_ms + self.warn_after_days * DAY_MS

    def downgrade_ms(self, failed_ms: int, warned_ms: int | None = None) -> int:
        """Counted from the warning; before there is one, from when it will be."""
        return (self.warn_ms(failed_ms) if warned_ms is None else warned_ms) + self.grace_hours * HOUR_MS


DEFAULT_SCHEDULE = Schedule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """What is known of an invoice. `owed`: it is open and something is due; `given_up`: it is owed, and nobody asks for it any more.
    `charges`: the charges are ours to make. `falls`: there is a plan to lose.

    `due_ms` is when it may first be charged; `failures` counts attempts that failed, `failed_ms` is the first's instant, `tried_ms` the
    last's. `warned_ms`, `downgraded_ms`: when it was warned of, and downgraded for; `returned_ms`: when all was as before.
    """

    owed: bool
    charges: bool
    due_ms: int
    given_up: bool = False
    falls: bool = True
    failures: int = 0
    failed_ms: int | None = None
    tried_ms: int | None = None
    warned_ms: int | None = None
    downgraded_ms: int | None = None
    returned_ms: int | None = None

    def failed(self, attempt: int, at_ms: int) -> "Debt":
        """With its `attempt`th attempt known to have failed. An attempt told twice, or after a later one, changes nothing."""
        if attempt <= self.failures:
            return self
        first_ms = at_ms if self.failed_ms is None else self.failed_ms
        return replace(self, failures=attempt, failed_ms=first_ms, tried_ms=at_ms)


class Do(StrEnum):
    CHARGE = "charge"
    WARN = "warn"
    DOWNGRADE = "downgrade"
    RETURN = "return"  # to good standing, and to the plan it was downgraded from
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do now. Of CHARGE the `attempt`; of WAIT the instant until when, None until something is heard of the invoice."""

    do: Do
    attempt: int = 0
    until_ms: int | None = None


def next_step(debt: Debt, schedule: Schedule, now_ms: int) -> Step:
    """A charge comes before a warning, so that nobody is warned of what is being paid; and once nothing is owed, nothing else follows."""
    if debt.given_up:
        return Step(do=Do.WAIT)
    if not debt.owed:
        return Step(do=Do.RETURN if debt.failed_ms is not None and debt.returned_ms is None else Do.DONE)
    times: list[int] = []
    for step, at_ms in _coming(debt, schedule):
        if at_ms <= now_ms:
            return step
        times.append(at_ms)
    return Step(do=Do.WAIT, until_ms=min(times, default=None))


def retry_ms(debt: Debt, schedule: Schedule) -> int | None:
    """When it is charged next; None where no attempt is left."""
    if not debt.charges or debt.failures >= schedule.attempts:
        return None
    if debt.failed_ms is None or debt.tried_ms is None:
        return debt.due_ms
    return max(schedule.attempt_ms(debt.failed_ms, debt.failures + 1), debt.tried_ms + DAY_MS)


def _coming(debt: Debt, schedule: Schedule) -> list[tuple[Step, int]]:
    """The steps that could be next, the one that goes first first, each with the instant from which it is due."""
    found = []
    charge_ms = retry_ms(debt, schedule)
    if charge_ms is not None:
        found.append((Step(do=Do.CHARGE, attempt=debt.failures + 1), charge_ms))
    if debt.failed_ms is None or not debt.falls:
        return found
    if debt.warned_ms is None:
        found.append((Step(do=Do.WARN), schedule.warn_ms(debt.failed_ms)))
    elif debt.downgraded_ms is None:
        found.append((Step(do=Do.DOWNGRADE), schedule.downgrade_ms(debt.failed_ms, debt.warned_ms)))
    return found
