"""Look after invoices that are not paid: charge them again, warn, downgrade, and undo that once they are paid.

What is next is decided in billing/model/dunning.py. A step is decided, and what it writes is written, in one transaction with the
invoice locked; only a charge is made outside of any, named by its invoice and attempt, so that one whose process was killed is
asked for again and is the same charge. An account is downgraded in the transaction that looked whether the invoice is still owed.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from billing.model import mailing
from billing.model.dunning import DEFAULT_SCHEDULE, Debt, Do, Schedule, Step, next_step, retry_ms
from billing.model.invoice import ZERO, Invoice, Issuer
from billing.model.invoice import State as InvoiceState
from billing.model.losses import losses
from billing.model.mail import MailKind
from billing.model.money import from_minor, to_minor
from billing.model.payment import Payment, PaymentOutcome, PaymentState
from billing.model.subscription import State
from billing.services.invoice_mails import bill_of
from billing.services.ports import Books, Unit
from billing.services.ports_dunning import DunningRow, InvoiceDesk, Standings
from billing.services.ports_stripe import Payments
from metering.model.clock import Clock
from metering.model.errors import DependencyUnavailable, WeighbridgeError
from metering.model.meter import Meter

log = logging.getLogger(__name__)

_MOST_STEPS = 8  # of one invoice in one run
_ASK_AGAIN_MS = 600_000  # about a charge of which nothing is known yet
_FAULTY_WAITS_MS = 3_600_000
_REMINDERS = frozenset([MailKind.PAYMENT_FAILED, MailKind.PAYMENT_FINAL_WARNING, MailKind.ACCOUNT_DOWNGRADED])
_MAY_FALL = frozenset([State.ACTIVE, State.PAST_DUE])  # a subscription that another invoice made fall has nothing to lose any more


@dataclass(slots=True)
class DunningReport:
    """What one run did: how many charges by outcome, how many accounts were warned, downgraded, returned."""

    steps: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An invoice as a transaction sees it, locked."""

    invoice: Invoice
    row: DunningRow
    debt: Debt


class Dunning:
    """`payments` None: nobody charges, and only failures that Stripe tells are followed. `default_plan` is what an account falls to."""

    def __init__(
        self,
        books: Books,
        clock: Clock,
        desk: InvoiceDesk,
        standings: Standings,
        *,
        payments: Payments | None,
        meters: Mapping[str, Meter],
        default_plan: str | None = "free",
        schedule: Schedule = DEFAULT_SCHEDULE,
    ) -> None:
        self._books, self._clock, self._desk, self._standings = books, clock, desk, standings
        self._payments, self._meters, self._default_plan, self._schedule = payments, meters, default_plan, schedule

    async def run_due(self, limit: int = 500) -> DunningReport:
        """Everything whose time has come. Raises DependencyUnavailable; another fault of one invoice holds up no other."""
        report, now_ms = DunningReport(), self._clock.now_ms()
        async with self._books.transaction() as unit:
            await unit.dunning.enroll(charges=self._payments is not None, now_ms=now_ms)
        async with self._books.transaction() as unit:
            due = await unit.dunning.due(now_ms, limit)
        for invoice_id in due:
            try:
                await self._look_after(invoice_id, report)
            except DependencyUnavailable:
                raise
            except WeighbridgeError as fault:
                log.error("invoice %s cannot be looked after, and is tried again in an hour: %s", invoice_id, fault)
                await self._postpone(invoice_id, _FAULTY_WAITS_MS)
        return report

    async def _look_after(self, invoice_id: str, report: DunningReport) -> None:
        for _ in range(_MOST_STEPS):
            step, case = await self._decide(invoice_id)
            match step.do:
                case Do.CHARGE:
                    if not await self._charge(case, step.attempt, report):
                        return
                case Do.WARN:
                    report.steps["warned"] += 1
                case Do.DOWNGRADE:
                    report.steps["downgraded"] += await self._downgrade(case)
                case Do.RETURN:
                    await self._return(case)
                    report.steps["returned"] += 1
                case _:
                    return

    # --- one step ---------------------------------------------------------------------------------------------------------

    async def _decide(self, invoice_id: str) -> tuple[Step, Case]:
        """The next step; a warning is written with it, a wait kept, and failures that were told by others are told to the customer."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            case = await self._noticed(unit, await self._case(unit, invoice_id), now_ms)
            step = next_step(case.debt, self._schedule, now_ms)
            row = case.row
            if step.do is Do.WARN:
                row = await self._warn(unit, case, now_ms)
            elif step.do is Do.DONE:
                row = replace(row, next_ms=None, closed_ms=now_ms)
            elif step.do is Do.WAIT:
                row = replace(row, next_ms=step.until_ms)
            await unit.dunning.save(row)
        if case.debt.owed and row.failures and not row.marked:
            await self._standings.payment_failed(row.org_id)
            await self._keep(invoice_id, marked=True)
        return step, replace(case, row=row)

    async def _case(self, unit: Unit, invoice_id: str) -> Case:
        invoice = await unit.invoices.get(invoice_id, lock=True)
        row = await unit.dunning.get(invoice_id)
        assert invoice is not None  # a foreign key keeps both
        assert row is not None
        return await self._weighed(unit, invoice, row)

    async def _weighed(self, unit: Unit, invoice: Invoice, row: DunningRow) -> Case:
        subscription = await unit.subscriptions.of_org(invoice.org_id)
        debt = Debt(
            owed=invoice.state is InvoiceState.OPEN and invoice.remaining > 0,
            given_up=invoice.state is InvoiceState.UNCOLLECTIBLE,
            charges=self._payments is not None and invoice.issuer is Issuer.WEIGHBRIDGE,
            falls=subscription is not None and subscription.state in _MAY_FALL and subscription.plan != self._default_plan,
            due_ms=invoice.due_ms if invoice.due_ms is not None else invoice.dated_ms,
            failures=row.failures,
            failed_ms=row.failed_ms,
            tried_ms=row.tried_ms,
            warned_ms=row.warned_ms,
            downgraded_ms=row.downgraded_ms,
            returned_ms=row.returned_ms,
        )
        return Case(invoice=invoice, row=row, debt=debt)

    async def _noticed(self, unit: Unit, case: Case, now_ms: int) -> Case:
        """What happened without us: a charge that went through after all, attempts that Stripe or a person made."""
        paid = next((each for each in await unit.payment_attempts.of_invoice(case.invoice.id) if each.state is PaymentState.PAID), None)
        if case.debt.owed and paid is not None:
            return await self._weighed(unit, await self._settled(unit, case.invoice, paid, now_ms), case.row)
        if case.invoice.attempts > case.row.failures:
            return await self._failed(unit, case, case.invoice.attempts, case.row.reason, now_ms)
        return case

    async def _failed(self, unit: Unit, case: Case, attempt: int, reason: str | None, now_ms: int) -> Case:
        """With the failure of an attempt told to the customer, where it still matters."""
        debt = case.debt.failed(attempt, now_ms)
        row = replace(case.row, failures=debt.failures, failed_ms=debt.failed_ms, tried_ms=debt.tried_ms, reason=reason)
        retry = retry_ms(debt, self._schedule) if debt.charges else case.invoice.next_attempt_ms
        if debt.owed and debt.failed_ms is not None:
            failure = mailing.Failure(
                attempt=attempt, attempts=max(attempt, self._schedule.attempts), failed_ms=now_ms, reason=reason, retry_ms=retry,
                downgrade_ms=self._schedule.downgrade_ms(debt.failed_ms, debt.warned_ms) if debt.falls else None,
            )  # fmt: skip
            await unit.mails.add([mailing.payment_failed(_bill(case.invoice), failure, await self._falls_to(unit))], now_ms)
        await unit.dunning.save(row)
        return replace(case, row=row, debt=debt)

    async def _warn(self, unit: Unit, case: Case, now_ms: int) -> DunningRow:
        assert case.debt.failed_ms is not None
        mail = mailing.final_warning(
            _bill(case.invoice), failed_ms=case.debt.failed_ms, downgrade_ms=self._schedule.downgrade_ms(case.debt.failed_ms, now_ms),
            falls_to=await self._falls_to(unit), losses=await self._losses(unit, case.invoice.org_id), now_ms=now_ms,
        )  # fmt: skip
        await unit.mails.add([mail], now_ms)
        return replace(case.row, warned_ms=now_ms)

    # --- money ------------------------------------------------------------------------------------------------------------

    async def _charge(self, case: Case, attempt: int, report: DunningReport) -> bool:
        """False where nothing is known of it yet."""
        assert self._payments is not None
        invoice = case.invoice
        amount = to_minor(invoice.remaining, invoice.currency)
        outcome = await self._payments.charge(invoice.org_id, invoice.id, amount, invoice.currency, attempt)
        report.steps[outcome.state.value] += 1
        if outcome.state is PaymentState.UNKNOWN:
            await self._postpone(invoice.id, _ASK_AGAIN_MS)
            return False
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            case = await self._case(unit, invoice.id)
            if outcome.state is PaymentState.PAID:
                await self._paid(unit, case, outcome, now_ms)
            elif case.debt.owed and case.invoice.attempts < attempt:
                debt = case.debt.failed(attempt, now_ms)
                await self._desk.attempted(unit, case.invoice, retry_ms(debt, self._schedule))
                await self._failed(unit, case, attempt, outcome.reason, now_ms)
        return True

    async def _paid(self, unit: Unit, case: Case, outcome: PaymentOutcome, now_ms: int) -> None:
        tries = await unit.payment_attempts.of_invoice(case.invoice.id)
        found = next((each for each in tries if each.state is PaymentState.PAID and each.payment_id == outcome.payment_id), None)
        if case.debt.owed:
            await self._settled(unit, case.invoice, found, now_ms, reference=outcome.payment_id)
        elif all(receipt.reference != outcome.payment_id for receipt in await unit.receipts.of_invoice(case.invoice.id)):
            log.error(
                "invoice %s is %s, and payment %s was taken for it too: give it back",
                case.invoice.id,
                case.invoice.state,
                outcome.payment_id,
            )

    async def _settled(
        self, unit: Unit, invoice: Invoice, payment: Payment | None, now_ms: int, *, reference: str | None = None
    ) -> Invoice:
        taken = invoice.remaining if payment is None else from_minor(payment.amount_minor, invoice.currency)
        methods = {} if payment is None else {method.id: method.title for method in await unit.payment_methods.of_org(invoice.org_id)}
        title = methods.get(payment.method or "", "charged") if payment else "charged"
        reference = payment.payment_id if payment else reference
        return await self._desk.paid(unit, invoice, title, reference, min(taken, max(invoice.remaining, ZERO)), now_ms)

    # --- the plan ---------------------------------------------------------------------------------------------------------

    async def _downgrade(self, case: Case) -> bool:
        """False where it was paid in this very moment."""
        done = False

        async def still(unit: Unit) -> bool:
            nonlocal done
            now_ms, again = self._clock.now_ms(), await self._case(unit, case.invoice.id)
            if next_step(again.debt, self._schedule, now_ms).do is not Do.DOWNGRADE:
                return False
            lost = await self._losses(unit, again.invoice.org_id)
            mail = mailing.account_downgraded(_bill(again.invoice), falls_to=await self._falls_to(unit), losses=lost, now_ms=now_ms)
            await unit.mails.add([mail], now_ms)
            await unit.dunning.save(replace(again.row, downgraded_ms=now_ms))
            done = True
            return True

        await self._standings.gave_up(case.row.org_id, only_if=still)
        return done

    async def _return(self, case: Case) -> None:
        """To good standing, once nothing else is owed whose payment failed."""
        async with self._books.transaction() as unit:
            others = await unit.dunning.others(case.row.org_id, case.row.invoice_id)
            if not others:
                await unit.mails.drop(case.row.org_id, _REMINDERS, self._clock.now_ms())
        if not others:
            await self._standings.payment_succeeded(case.row.org_id)
        await self._keep(case.row.invoice_id, returned_ms=self._clock.now_ms())

    async def _falls_to(self, unit: Unit) -> str:
        found = await unit.plans.get(self._default_plan) if self._default_plan else None
        return (found.spec.title or found.spec.name) if found else "Free"

    async def _losses(self, unit: Unit, org_id: str) -> Mapping[str, object]:
        subscription = await unit.subscriptions.of_org(org_id)
        fallen = await unit.plans.get(self._default_plan) if self._default_plan else None
        bought = await unit.plans.version(subscription.plan, subscription.plan_version) if subscription else None
        return losses(bought, fallen.spec, self._meters) if bought and fallen else {}

    async def _postpone(self, invoice_id: str, for_ms: int) -> None:
        await self._keep(invoice_id, next_ms=self._clock.now_ms() + for_ms)

    async def _keep(self, invoice_id: str, **changes: int | bool) -> None:
        async with self._books.transaction() as unit:
            row = await unit.dunning.get(invoice_id)
            if row is not None:
                await unit.dunning.save(replace(row, **changes))  # type: ignore[arg-type]


def _bill(invoice: Invoice) -> mailing.Bill:
    """What is still to be paid of it."""
    return replace(bill_of(invoice), amount=invoice.remaining)
