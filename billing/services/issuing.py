"""Issue invoices when periods end: usage becomes items, items become invoices, each once, whatever is killed when.

One organization is one transaction: its periods are rated, its items taken up and its invoice numbered in it, under a lock on the
organization. A process that dies leaves all of it undone, and the next run does it; several at once wait for each other and find
nothing left. Where `issuer` is stripe (plans.yaml), Stripe writes the invoices and charges what it can itself; what it cannot
(billing/model/native.py) is rated here all the same, and told to it as one invoice item a line.

Usage comes to Postgres behind its period's end: a period is rated `delay` after it ended, and not before every flush of it is in.
What arrives later still is the difference to what was billed, and a line of its own on the next invoice.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from billing.model.invoice import Invoice
from billing.model.invoice_item import InvoiceItem, ItemKind
from billing.model.lifecycle import next_due
from billing.model.native import plan_at_stripe
from billing.model.outbox import invoice_item_row
from billing.model.period_bill import Terms, first_bill, later_bill, terms_from_json, terms_of, terms_to_json
from billing.services.invoice_mails import ready
from billing.services.invoice_writer import InvoiceWriter, Wanted
from billing.services.ports import Account, Books, Unit
from billing.services.ports_invoice import Cursor, RatedPeriod
from metering.model.clock import Clock
from metering.model.errors import WeighbridgeError
from metering.model.meter import Meter
from metering.model.period import period_at

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
_PAGE = 200
_OF_PERIOD = frozenset([ItemKind.OVERAGE, ItemKind.USAGE, ItemKind.MINIMUM])


@dataclass(slots=True)
class IssueReport:
    """`faults`: organizations that could not be billed, and why; the others were."""

    invoices: list[Invoice] = field(default_factory=list)
    late: int = 0
    faults: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Items that fall due together, and when."""

    due_ms: int
    items: list[InvoiceItem]


class Issuing:
    """`meters` is what is counted; `delay_ms` how long after its end a period is rated. `charges`: somebody takes the payment, so
    mails do not ask for it. `at_stripe`: Stripe writes the invoices."""

    def __init__(
        self,
        books: Books,
        clock: Clock,
        writer: InvoiceWriter,
        *,
        meters: Mapping[str, Meter],
        currency: str,
        delay_ms: int = HOUR_MS,
        charges: bool = False,
        at_stripe: bool = False,
    ) -> None:
        self._books, self._clock, self._writer = books, clock, writer
        self._meters, self._currency, self._delay_ms, self._charges = meters, currency, delay_ms, charges
        self._at_stripe = at_stripe

    async def run(self) -> IssueReport:
        """Everything that is due, a page of organizations at a time. One that cannot be billed keeps no other from it."""
        report, after = IssueReport(), None
        while True:
            async with self._books.transaction() as unit:
                page = await unit.invoicing.due(self._clock.now_ms(), after, _PAGE)
            for org_id in page:
                try:
                    report.invoices += await self.issue(org_id)
                except WeighbridgeError as exc:
                    report.faults[org_id] = str(exc)
                    log.error("organization %s cannot be billed: %s", org_id, exc)
            if len(page) < _PAGE:
                return report
            after = page[-1]

    async def issue(self, org_id: str) -> list[Invoice]:
        """What is due for one organization."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            (account,) = await unit.orgs.accounts([org_id], lock=True)
            cursor = await self._rate_ended(unit, account, await self._cursor(unit, account, now_ms), now_ms)
            made = []
            for batch in [] if self._at_stripe else await self._batches(unit, account, cursor, now_ms):
                invoice = await self._invoice(unit, account, cursor, batch, now_ms)
                if invoice is not None:
                    made.append(invoice)
            await unit.invoicing.put(cursor)
        return made

    async def late(self) -> int:
        """Usage that arrived for periods that were billed becomes items of the next invoice; returns how many."""
        async with self._books.transaction() as unit:
            changed = await unit.invoicing.changed(_PAGE)
        return sum([await self._bill_late(org_id, start_ms) for org_id, start_ms in changed])

    async def keep_terms(self, org_ids: Sequence[str]) -> None:
        """Called before what organizations pay for changes: by these terms their usage was billed until now, or, where it changes by
        itself and is late, until it was to change."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            for account in await unit.orgs.accounts(org_ids):
                terms = self._terms_now(account)
                if self._at_stripe and not (terms.spec and set(terms.spec.prices) & set(self._rated_here(terms))):
                    continue  # Stripe charges all of it itself
                due = next_due(account.subscription) if account.subscription else None
                until_ms = due[0] if due is not None and due[0] <= now_ms else now_ms
                start_ms, _ = period_at(anchor_of(account), until_ms - 1)
                used = await unit.usage.of_period(account.org.id, start_ms)
                terms = replace(terms, used=used)
                await unit.invoicing.put(await self._cursor(unit, account, now_ms))  # one that leaves has its last invoice to come
                await unit.invoicing.keep_terms(account.org.id, until_ms, terms_to_json(terms))

    # --- usage -----------------------------------------------------------------------------------------------------------

    async def _cursor(self, unit: Unit, account: Account, now_ms: int) -> Cursor:
        """Where billing stands; at first with the period in which the subscription began, or, where Stripe was told of it, with this."""
        org_id = account.org.id
        known = await unit.invoicing.cursor(org_id)
        if known is not None:
            return known
        at_stripe = await unit.outbox.has(org_id, "ensure_subscription")
        subscribed = await unit.invoicing.subscribed_ms(org_id)
        began_ms = now_ms if at_stripe or subscribed is None else min(now_ms, subscribed)
        start_ms, _ = period_at(anchor_of(account), began_ms)
        return Cursor(org_id=org_id, since_ms=start_ms, billed_until_ms=start_ms, next_ms=now_ms)

    async def _rate_ended(self, unit: Unit, account: Account, cursor: Cursor, now_ms: int) -> Cursor:
        """Every period that ended long enough ago, used or not: a minimum is due for one without use too."""
        until_ms = now_ms - self._delay_ms
        flushed = await unit.invoicing.flushed_ms()
        if flushed is not None:
            until_ms = min(until_ms, flushed - self._delay_ms)
        anchor_ms, billed_ms = anchor_of(account), cursor.billed_until_ms
        used = await unit.invoicing.periods(account.org.id, cursor.since_ms, until_ms)
        start_ms, end_ms = period_at(anchor_ms, billed_ms)
        if start_ms != billed_ms < (anchored_ms := anchored_of(account)):
            start_ms, end_ms = billed_ms, anchored_ms  # the last period of the anchor before ended where this one took its place
        while end_ms <= until_ms:
            if start_ms >= billed_ms:  # else the anchor has moved, and the period that it cut short has its own rows
                used.setdefault((start_ms, end_ms), {})
            start_ms, end_ms = period_at(anchor_ms, end_ms)
        for period in sorted(used):
            if await unit.invoicing.rated(account.org.id, period[0]) is None:
                await self._rate(unit, account, period, used[period], now_ms)
        return replace(cursor, billed_until_ms=max(billed_ms, start_ms), next_ms=end_ms + self._delay_ms)

    async def _rate(self, unit: Unit, account: Account, period: tuple[int, int], used: Mapping[str, int], now_ms: int) -> None:
        terms = await self._terms_at_end(unit, account, period)
        counted = used if terms.used is None else {meter: min(units, terms.used.get(meter, 0)) for meter, units in used.items()}
        bill = first_bill(account.org.id, terms, period, counted, self._rated_here(terms))
        await self._add(unit, bill.items, now_ms)
        await unit.invoicing.keep_rated(
            RatedPeriod(
                org_id=account.org.id,
                start_ms=period[0],
                end_ms=period[1],
                currency=terms.currency,
                terms=terms_to_json(terms),
                used=used,
                amounts=bill.amounts,
                revision=1,
                rated_ms=now_ms,
            )
        )

    async def _terms_at_end(self, unit: Unit, account: Account, period: tuple[int, int]) -> Terms:
        """Those that stood when it ended; of one that left within it, those that it left, for what it had used by then."""
        kept = await unit.invoicing.terms_at(account.org.id, period[1])
        terms = replace(terms_from_json(kept), used=None) if kept else self._terms_now(account)
        if not terms.charges:
            before = await unit.invoicing.terms_within(account.org.id, *period)
            left = [terms_from_json(each) for each in before]
            return next((each for each in left if each.charges), terms)
        return terms

    def _terms_now(self, account: Account) -> Terms:
        return terms_of(account.subscription, account.spec, account.overrides, self._currency)

    async def _bill_late(self, org_id: str, start_ms: int) -> int:
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            rated = await unit.invoicing.rated(org_id, start_ms, lock=True)
            assert rated is not None
            used = await unit.usage.of_period(org_id, start_ms)
            if used == dict(rated.used):  # another aggregator was first
                return 0
            terms = terms_from_json(rated.terms)
            bill = later_bill(
                org_id, terms, (rated.start_ms, rated.end_ms), used, self._rated_here(terms), billed=rated.amounts, before=rated.used,
                revision=rated.revision, now_ms=now_ms,
            )  # fmt: skip
            await self._add(unit, bill.items, now_ms)
            await unit.invoicing.keep_rated(replace(rated, used=used, amounts=bill.amounts, revision=rated.revision + 1, rated_ms=now_ms))
        return len(bill.items)

    def _rated_here(self, terms: Terms) -> Mapping[str, Meter]:
        """The meters that are rated here: all, or those that Stripe does not charge itself."""
        if not self._at_stripe or terms.spec is None:
            return self._meters
        at_stripe = plan_at_stripe(terms.spec, self._meters, terms.currency)
        return {name: meter for name, meter in self._meters.items() if name not in at_stripe or not at_stripe[name].native}

    async def _add(self, unit: Unit, items: Sequence[InvoiceItem], now_ms: int) -> None:
        if self._at_stripe:
            await unit.outbox.add([invoice_item_row(item) for item in items], now_ms)
        else:
            await unit.invoice_items.add(items, now_ms)

    # --- invoices --------------------------------------------------------------------------------------------------------

    async def _batches(self, unit: Unit, account: Account, cursor: Cursor, now_ms: int) -> list[_Batch]:
        """What waits, by when it fell due: prices and usage at their boundary, once the usage of the period before it is rated. The
        rest joins the last of them, or stands alone where it was written before the period under way."""
        anchor_ms = anchor_of(account)
        current_ms = period_at(anchor_ms, now_ms)[0]
        batches: dict[int, list[InvoiceItem]] = {}
        others = []
        for item in await unit.invoice_items.waiting(account.org.id, currency_of(account, self._currency)):
            due_ms = item.period_end_ms if item.kind in _OF_PERIOD else item.period_start_ms if item.kind is ItemKind.BASE else None
            if due_ms is None:
                others.append(item)
            elif due_ms <= now_ms and cursor.billed_until_ms >= period_at(anchor_ms, due_ms)[0]:
                batches.setdefault(due_ms, []).append(item)
        if not batches and any(written_ms(item) < current_ms for item in others) and cursor.billed_until_ms >= current_ms:
            batches[current_ms] = []
        if batches:
            batches[max(batches)] += others
        return [_Batch(due_ms, batches[due_ms]) for due_ms in sorted(batches)]

    async def _invoice(self, unit: Unit, account: Account, cursor: Cursor, batch: _Batch, now_ms: int) -> Invoice | None:
        org_id, due_ms = account.org.id, batch.due_ms
        prefix = f"inv1:{org_id}:{due_ms // 1000}"
        before = await unit.invoices.count(org_id, prefix)
        start_ms = period_at(anchor_of(account), due_ms - 1)[0]
        wanted = Wanted(
            org=account.org,
            currency=currency_of(account, self._currency),
            identifier=f"{prefix}:{before + 1}" if before else prefix,
            items=batch.items,
            period=(start_ms if start_ms >= cursor.since_ms else due_ms, due_ms),
        )
        invoice = await self._writer.write(unit, wanted, now_ms)
        if invoice is not None and invoice.remaining:
            await unit.mails.add([ready(invoice, now_ms, charged=self._charges)], now_ms)
        return invoice


def anchor_of(account: Account) -> int:
    """From which usage periods are counted."""
    return account.subscription.anchor_ms if account.subscription else account.org.created_at_ms


def anchored_of(account: Account) -> int:
    """Since when they are counted from there."""
    return (account.subscription.anchored_ms or 0) if account.subscription else 0


def currency_of(account: Account, default: str) -> str:
    return account.subscription.currency if account.subscription else default


def written_ms(item: InvoiceItem) -> int:
    """When it was caused."""
    return int(item.evidence.get("written_ms", item.period_start_ms))
