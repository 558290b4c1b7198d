"""All the use cases together, as the doors (REST, GraphQL, the command line) and the aggregator hold them."""

from dataclasses import dataclass

from billing.services.access import Access
from billing.services.alerts import Alerts
from billing.services.audit import Audit
from billing.services.bypasses import Bypasses
from billing.services.collecting import Collecting
from billing.services.coupons import Coupons
from billing.services.credit_notes import CreditNotes
from billing.services.credits import Credits
from billing.services.customers import Customers
from billing.services.documents import Documents
from billing.services.entitlements import Entitlements
from billing.services.exporting import Exporting
from billing.services.features import Features
from billing.services.hooks import Hooks
from billing.services.importing import Importing
from billing.services.inbox import Inbox
from billing.services.invoices import Invoices
from billing.services.issuing import Issuing
from billing.services.keys import Keys
from billing.services.logs import MailLog, OutboxLog
from billing.services.months import Months
from billing.services.orgs import Orgs
from billing.services.overrides import Overrides
from billing.services.payment_methods import PaymentMethods
from billing.services.plans import Plans
from billing.services.quota_settings import QuotaSettings
from billing.services.recording import Recording
from billing.services.renewals import Renewals
from billing.services.repeats import Repeats
from billing.services.rollovers import Rollovers
from billing.services.rows import Rows
from billing.services.spend_caps import SpendCaps
from billing.services.subscriptions import Subscriptions
from billing.services.tokens import Tokens
from billing.services.trials import Trials
from billing.services.usage import Usage
from billing.services.usage_history import UsageHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """The use cases over one database, one store and one set of meters."""

    orgs: Orgs
    subscriptions: Subscriptions
    trials: Trials
    renewals: Renewals
    keys: Keys
    plans: Plans
    overrides: Overrides
    entitlements: Entitlements
    usage: Usage
    history: UsageHistory
    quota_settings: QuotaSettings
    alerts: Alerts
    recording: Recording
    importing: Importing
    exporting: Exporting
    bypasses: Bypasses
    tokens: Tokens
    access: Access
    rows: Rows
    audit: Audit
    inbox: Inbox
    hooks: Hooks
    mails: MailLog
    outbox: OutboxLog
    coupons: Coupons
    credits: Credits
    customers: Customers
    spend_caps: SpendCaps
    rollovers: Rollovers
    features: Features
    invoices: Invoices
    credit_notes: CreditNotes
    months: Months
    issuing: Issuing
    collecting: Collecting
    documents: Documents
    payment_methods: PaymentMethods
    repeats: Repeats

    async def republish(self) -> None:
        """All that the gateways are told, again, for a store that forgot it. Raises GatewaysUnreachable."""
        await self.entitlements.publish_all()
        await self.bypasses.publish()
