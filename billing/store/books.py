"""One transaction over all the billing tables."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from billing.store.alerts import AlertTable
from billing.store.audit import AuditTable
from billing.store.bypasses import BypassTable
from billing.store.config_sets import ConfigSetTable
from billing.store.coupons import CouponTable, DiscountTable
from billing.store.credit_notes import BalanceTable, CreditNoteTable, ReceiptTable
from billing.store.credits import CreditTable
from billing.store.customers import CustomerTable
from billing.store.cutover import CutoverTable
from billing.store.dunning import DunningTable
from billing.store.events import EventTable
from billing.store.hooks import HookTable
from billing.store.imports import ImportTable
from billing.store.inbox import InboxTable
from billing.store.invoice_items import InvoiceItemTable
from billing.store.invoices import InvoiceTable
from billing.store.invoicing import EvidenceTable, InvoiceSettingsTable, InvoicingTable
from billing.store.keys import KeyTable
from billing.store.mails import MailTable
from billing.store.months import MonthTable
from billing.store.orgs import OrgTable
from billing.store.outbox import OutboxTable
from billing.store.payments import PaymentAttemptTable, PaymentMethodTable
from billing.store.plans import PlanTable
from billing.store.quotas import LimitTable, QuotaTable
from billing.store.repeats import RepeatTable
from billing.store.row_reads import RowTable
from billing.store.spend_caps import PeriodTable, SpendCapTable
from billing.store.stripe_ids import StripeIdTable
from billing.store.subscriptions import SubscriptionTable
from billing.store.tokens import TokenTable
from billing.store.usage import UsageTable
from metering.store.postgres import out_of_reach

_BIND = "SELECT billing.bind($1)"
_ACT = "SELECT set_config('weighbridge.actor', $1, true)"


class PostgresUnit:
    """The tables, as one transaction sees them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.orgs = OrgTable(connection)
        self.keys = KeyTable(connection)
        self.plans = PlanTable(connection)
        self.subscriptions = SubscriptionTable(connection)
        self.quotas = QuotaTable(connection)
        self.limits = LimitTable(connection)
        self.bypasses = BypassTable(connection)
        self.tokens = TokenTable(connection)
        self.audit = AuditTable(connection)
        self.customers = CustomerTable(connection)
        self.coupons = CouponTable(connection)
        self.discounts = DiscountTable(connection)
        self.credits = CreditTable(connection)
        self.spend_caps = SpendCapTable(connection)
        self.periods = PeriodTable(connection)
        self.outbox = OutboxTable(connection)
        self.invoice_items = InvoiceItemTable(connection)
        self.invoices = InvoiceTable(connection)
        self.credit_notes = CreditNoteTable(connection)
        self.receipts = ReceiptTable(connection)
        self.balances = BalanceTable(connection)
        self.invoice_settings = InvoiceSettingsTable(connection)
        self.invoicing = InvoicingTable(connection)
        self.evidence = EvidenceTable(connection)
        self.months = MonthTable(connection)
        self.mails = MailTable(connection)
        self.dunning = DunningTable(connection)
        self.alerts = AlertTable(connection)
        self.hooks = HookTable(connection)
        self.inbox = InboxTable(connection)
        self.cutover = CutoverTable(connection)
        self.stripe_ids = StripeIdTable(connection)
        self.payment_methods = PaymentMethodTable(connection)
        self.payment_attempts = PaymentAttemptTable(connection)
        self.usage = UsageTable(connection)
        self.rows = RowTable(connection)
        self.events = EventTable(connection)
        self.imports = ImportTable(connection)
        self.config_sets = ConfigSetTable(connection)
        self.repeats = RepeatTable(connection)


class PostgresBooks:
    """Opens transactions on a pool. With `org` (an id) each of them is held to that organization by row-level security, and only reads
    (metering/store/migrations/0009_row_security.sql); `actor` is whom the audit log names, None: as the pool says."""

    def __init__(self, pool: asyncpg.Pool, *, org: str | None = None, actor: str | None = None) -> None:
        self._pool, self._org, self._actor = pool, org, actor

    @asynccontextmanager
    async def transaction(self, *, keep: bool = True, org: str | None = None) -> AsyncIterator[PostgresUnit]:
        """Raises DatabaseUnreachable where the connection cannot be had or is lost. `org` binds this one alone."""
        with out_of_reach():
            async with self._pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                try:
                    if self._actor is not None:
                        await connection.execute(_ACT, self._actor)
                    if (bound := self._org or org) is not None:
                        await connection.execute(_BIND, UUID(bound))
                    yield PostgresUnit(connection)
                except BaseException:
                    if not connection.is_closed():
                        await transaction.rollback()
                    raise
                if keep:
                    await transaction.commit()
                else:
                    await transaction.rollback()
