"""What the use cases need of the world. billing/store keeps the rows, billing/wiring.py tells the gateways."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from billing.model.delivery import State
from billing.model.invoice_item import InvoiceItem
from billing.model.organization import ApiKey, Grants, Organization
from billing.model.outbox import OutboxRow
from billing.model.plan import PlanSpec
from billing.model.subscription import Subscription
from billing.model.token import Token
from billing.model.usage_span import EndpointUse, Span
from billing.services.ports_alerts import AlertRows
from billing.services.ports_dunning import DunningRows
from billing.services.ports_events import EventRows, ImportRows
from billing.services.ports_hooks import HookRows
from billing.services.ports_invoice import (
    BalanceRows,
    CloseRows,
    CreditNoteRows,
    EvidenceRows,
    InvoiceRows,
    InvoiceSettingsRow,
    InvoicingRows,
    ReceiptRows,
)
from billing.services.ports_mail import MailRows
from billing.services.ports_outbox import Kept
from billing.services.ports_repeats import RepeatRows
from billing.services.ports_rows import RowReads
from billing.services.ports_stripe import CutoverRows, InboxRows, PaymentAttemptRows, PaymentMethodRows, StripeIdRows
from billing.services.ports_wallet import CouponRows, CreditRows, CustomerRows, DiscountRows, PeriodRows, SpendCapRows
from metering.model.apikey import KeyRecord
from metering.model.bypass import Bypass
from metering.model.entitlement import Entitlement, Override
from metering.model.errors import DependencyUnavailable
from metering.model.moves import CounterMove
from metering.model.quota import Concurrency, Quota, Rate, Window
from metering.model.seeding import Begun, Seed

FILE, API = "file", "api"  # who made a plan or an override, and so may change it
CAP, ROLLOVER = "cap", "rollover"  # overrides that the engine itself writes: spending reached its cap, unused units carried over


# Hand what these organizations have used beyond their quotas to the outbox, before what they pay for changes. It has its
# own transactions and needs the organizations unlocked: call it outside of any.
Cut = Callable[[Sequence[str]], Awaitable[object]]


async def cut_nothing(_org_ids: Sequence[str]) -> None:
    """Where nothing is billed."""


class GatewaysUnreachable(DependencyUnavailable):
    """The change is stored; the gateways could not be told yet."""

    code = "gateways_unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """A plan and its newest version."""

    spec: PlanSpec
    version: int
    managed_by: str
    archived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRow:
    """One overridden quota of one organization."""

    org_id: str
    quota: Quota
    reason: str
    until_ms: int | None
    managed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """One overridden rate of one organization, or how many of its calls may be in flight."""

    org_id: str
    limit: Rate | Concurrency
    reason: str
    until_ms: int | None
    managed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BypassRow:
    """One bypass, in force or over. `org_id` None is every organization, `meter` None every limit; `ended_at_ms` where
    somebody ended it before its time."""

    id: int
    reason: str
    created_by: str
    created_at_ms: int
    until_ms: int
    org_id: str | None = None
    slug: str | None = None
    meter: str | None = None
    ended_at_ms: int | None = None
    ended_by: str | None = None

    def numbered(self, number: int) -> "BypassRow":
        return replace(self, id=number)

    def in_force(self, now_ms: int) -> bool:
        return self.ended_at_ms is None and now_ms < self.until_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change. `actor` is who says to have made it, `login` and `program` what the database knows. Of a change, `before` and `after`
    hold what differs; None where there was, or is, nothing. `org_id` None concerns everybody."""

    id: int
    at_ms: int
    actor: str
    login: str
    program: str
    action: str
    subject: str
    org_id: str | None
    slug: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that decides what one organization may do. `active` and `revoked` are its keys; `revoked` those that the
    gateways were not told of."""

    org: Organization
    deleted: bool
    subscription: Subscription | None
    spec: PlanSpec | None
    overrides: tuple[Override, ...]
    active: tuple[ApiKey, ...]
    revoked: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSet:
    """Configuration files as they were written: name -> text. `version` is the hash of them all."""

    version: str
    files: Mapping[str, str]


class OrgRows(Protocol):
    async def insert(self, org: Organization) -> bool:
        """False where the slug is taken."""
        ...

    async def find(self, ref: str, *, lock: bool = False) -> Organization | None:
        """By id or slug; not the deleted."""
        ...

    async def living(self, limit: int | None = None, after_slug: str | None = None) -> list[tuple[Organization, Subscription | None]]:
        """By slug; of those behind that one."""
        ...

    async def by_slugs(self, slugs: Sequence[str]) -> dict[str, str]:
        """slug -> id."""
        ...

    async def by_ids(self, org_ids: Sequence[str]) -> dict[str, Organization]: ...

    async def raise_versions(self, org_ids: Sequence[str]) -> None:
        """The next publication tells the gateways something new. Locks them, in the order of ids."""
        ...

    async def mark_deleted(self, org_id: str, now_ms: int) -> None: ...

    async def accounts(self, org_ids: Sequence[str], *, lock: bool = False, all_revoked: bool = False) -> list[Account]:
        """With `lock`, held until the transaction ends: so publications follow one another in the order of versions.
        `all_revoked` names also the keys whose revocation the gateways were told."""
        ...

    async def unpublished(self, limit: int) -> list[str]: ...

    async def ids_after(self, org_id: str | None, limit: int) -> list[str]:
        """Every organization there ever was, a page at a time in the order of ids."""
        ...

    async def mark_published(self, versions: Mapping[str, int], now_ms: int) -> None: ...


class KeyRows(Protocol):
    async def insert(self, key: ApiKey) -> ApiKey | None:
        """With its id; None where the hash is known already."""
        ...

    async def of_org(self, org_id: str) -> list[ApiKey]: ...

    async def find(self, *, key_id: int | None = None, sha256: str | None = None) -> ApiKey | None: ...

    async def expire(self, key_id: int, at_ms: int) -> None: ...

    async def replace(self, key_id: int, by: int) -> None: ...

    async def grant(self, key_id: int, grants: Grants) -> None:
        """In place of what it carried."""
        ...

    async def revoke(self, key_ids: Sequence[int], now_ms: int) -> None: ...

    async def owners(self, hashes: Sequence[str], now_ms: int) -> dict[str, str]:
        """hash -> organization, for keys that are good now."""
        ...


class PlanRows(Protocol):
    async def get(self, name: str, *, lock: bool = False) -> PlanRow | None: ...

    async def all(self, *, lock: bool = False) -> dict[str, PlanRow]: ...

    async def add_version(self, spec: PlanSpec, version: int, managed_by: str, now_ms: int) -> None: ...

    async def archive(self, name: str, archived: bool, now_ms: int) -> None: ...

    async def manage(self, name: str, by: str, now_ms: int) -> None:
        """Who may change it from now on."""
        ...

    async def version(self, name: str, version: int) -> PlanSpec | None: ...

    async def set_fallback(self, name: str | None) -> None:
        """What those who ask in SQL take for the default plan."""
        ...


class SubscriptionRows(Protocol):
    async def insert(self, subscription: Subscription, now_ms: int) -> None: ...

    async def of_org(self, org_id: str) -> Subscription | None:
        """The one that lives."""
        ...

    async def latest(self, org_id: str) -> Subscription | None:
        """The one that lives, or the last that ended."""
        ...

    async def put(self, subscription: Subscription) -> None:
        """As it is now."""
        ...

    async def orgs_due(self, now_ms: int, after: str | None, limit: int) -> list[str]:
        """Organizations for whose subscription the next thing has come, in the order of ids."""
        ...

    async def end_usage_period(self, org_id: str, at_ms: int) -> None:
        """Months are counted from another anchor from then on."""
        ...

    async def auto_downgrade(self) -> bool:
        """Whether a trial that ends with nothing to charge falls to the default plan."""
        ...

    async def set_auto_downgrade(self, enabled: bool) -> None: ...

    async def behind(self, plan: str, version: int) -> list[tuple[Subscription, int | None]]:
        """Live subscriptions to an older version, each with the version that it already waits for."""
        ...

    async def move(self, moved: Sequence[Subscription]) -> None:
        """To the version and amount they carry now."""
        ...

    async def schedule(self, org_ids: Sequence[str], version: int, at_ms: Sequence[int]) -> None: ...

    async def due(self, now_ms: int, limit: int) -> list[tuple[Subscription, int]]:
        """Those whose renewal has come, with the version they move to."""
        ...

    async def end(self, org_id: str, state: str, now_ms: int) -> None: ...


class QuotaRows(Protocol):
    async def managed(self, managed_by: str) -> list[QuotaRow]: ...

    async def of_org(self, org_id: str) -> list[QuotaRow]: ...

    async def replace(self, org_ids: Sequence[str], managed_by: str, rows: Sequence[QuotaRow], now_ms: int) -> None:
        """Those of these organizations that `managed_by` set, by `rows`."""
        ...

    async def put(self, row: QuotaRow, now_ms: int) -> None: ...


class LimitRows(Protocol):
    """As QuotaRows."""

    async def managed(self, managed_by: str) -> list[LimitRow]: ...

    async def of_org(self, org_id: str) -> list[LimitRow]: ...

    async def replace(self, org_ids: Sequence[str], managed_by: str, rows: Sequence[LimitRow], now_ms: int) -> None: ...

    async def put(self, row: LimitRow, now_ms: int) -> None: ...


class BypassRows(Protocol):
    async def insert(self, row: BypassRow) -> int:
        """Its number."""
        ...

    async def all(self, limit: int, before_id: int | None = None) -> list[BypassRow]:
        """Newest first; of those before that one."""
        ...

    async def in_force(self, now_ms: int, *, lock: bool = False) -> list[BypassRow]:
        """With `lock`, nobody else reads them with a lock until the transaction ends: so publications follow one another."""
        ...

    async def end(self, number: int, by: str, now_ms: int) -> bool:
        """False where it is over already, or there is none."""
        ...


class TokenRows(Protocol):
    async def insert(self, token: Token) -> Token | None:
        """With its id; None where the hash is known already."""
        ...

    async def all(self, org_id: str | None, limit: int | None = None, before_id: int | None = None) -> list[Token]:
        """Newest first, of those before that one; `org_id` None is every token."""
        ...

    async def find(self, *, token_id: int | None = None, sha256: str | None = None) -> Token | None: ...

    async def revoke(self, token_id: int, by: str, now_ms: int) -> bool:
        """False where it was revoked before, or there is none."""
        ...


class AuditRows(Protocol):
    async def entries(self, org_id: str | None, since_ms: int, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """The newest, in the order they happened."""
        ...


class OutboxRows(Protocol):
    async def add(self, rows: Sequence[OutboxRow], now_ms: int) -> None:
        """A row whose identifier is known already is left out."""
        ...

    async def has(self, org_id: str, kind: str) -> bool: ...

    async def waiting(self, org_id: str) -> bool:
        """Whether something that decides about its subscription was not told to Stripe yet."""
        ...

    async def kept(self, states: Sequence[State], limit: int, before_id: int | None = None) -> list[Kept]:
        """Newest first; of those before that one."""
        ...

    async def find(self, ref: str) -> Kept | None:
        """By number or identifier."""
        ...


class InvoiceItemRows(Protocol):
    async def add(self, items: Sequence[InvoiceItem], now_ms: int) -> None:
        """An item whose identifier is known already is left out."""
        ...

    async def waiting(self, org_id: str, currency: str) -> list[InvoiceItem]:
        """Those that no invoice has taken up, in the order they were written; locked."""
        ...

    async def take_up(self, item_ids: Sequence[int], invoice_id: str) -> int:
        """How many of them waited, and now stand on the invoice."""
        ...


class UsageRows(Protocol):
    async def of_period(self, org_id: str, start_ms: int) -> dict[str, int]:
        """meter -> base units that Postgres holds for the period."""
        ...

    async def of_range(self, org_id: str, span: Span) -> dict[str, int]:
        """meter -> base units of whole hours; of a level its mean over them."""
        ...

    async def by_endpoint(self, org_id: str, service: str, span: Span) -> list[EndpointUse]:
        """Who used most first, as of the last flush."""
        ...

    async def parts(self, org_id: str, service: str, span: Span, *, held: bool) -> list[tuple[str, int]]:
        """(part, base units), the largest first; `held`: of a level, now."""
        ...

    async def of_windows(self, org_id: str, hour_ms: int, day_ms: int, month_ms: int) -> dict[str, dict[Window, int]]:
        """meter -> base units since the start of the hour, the day, the calendar month."""
        ...

    async def of_tenants(self, org_id: str, start_ms: int) -> dict[str, dict[str, int]]:
        """tenant -> meter -> base units that Postgres holds for the period; an empty name for calls that named none."""
        ...

    async def offsets(self, begun: Sequence[Begun]) -> list[int]:
        """Of each, base units in its period and not in its window, less those in the window and not in the period."""
        ...


class ConfigSetRows(Protocol):
    async def add(self, applied: ConfigSet, now_ms: int) -> None:
        """Nothing where it is the newest already."""
        ...

    async def newest(self) -> ConfigSet | None: ...


class Unit(Protocol):
    """One transaction: all of it happens, or nothing."""

    @property
    def orgs(self) -> OrgRows: ...
    @property
    def keys(self) -> KeyRows: ...
    @property
    def plans(self) -> PlanRows: ...
    @property
    def subscriptions(self) -> SubscriptionRows: ...
    @property
    def quotas(self) -> QuotaRows: ...
    @property
    def limits(self) -> LimitRows: ...
    @property
    def bypasses(self) -> BypassRows: ...
    @property
    def tokens(self) -> TokenRows: ...
    @property
    def audit(self) -> AuditRows: ...
    @property
    def rows(self) -> RowReads: ...
    @property
    def customers(self) -> CustomerRows: ...
    @property
    def coupons(self) -> CouponRows: ...
    @property
    def discounts(self) -> DiscountRows: ...
    @property
    def credits(self) -> CreditRows: ...
    @property
    def spend_caps(self) -> SpendCapRows: ...
    @property
    def periods(self) -> PeriodRows: ...
    @property
    def outbox(self) -> OutboxRows: ...
    @property
    def invoice_items(self) -> InvoiceItemRows: ...
    @property
    def invoices(self) -> InvoiceRows: ...
    @property
    def credit_notes(self) -> CreditNoteRows: ...
    @property
    def receipts(self) -> ReceiptRows: ...
    @property
    def balances(self) -> BalanceRows: ...
    @property
    def invoice_settings(self) -> InvoiceSettingsRow: ...
    @property
    def invoicing(self) -> InvoicingRows: ...
    @property
    def evidence(self) -> EvidenceRows: ...
    @property
    def months(self) -> CloseRows: ...
    @property
    def mails(self) -> MailRows: ...
    @property
    def dunning(self) -> DunningRows: ...
    @property
    def alerts(self) -> AlertRows: ...
    @property
    def hooks(self) -> HookRows: ...
    @property
    def inbox(self) -> InboxRows: ...
    @property
    def cutover(self) -> CutoverRows: ...
    @property
    def stripe_ids(self) -> StripeIdRows: ...
    @property
    def payment_methods(self) -> PaymentMethodRows: ...
    @property
    def payment_attempts(self) -> PaymentAttemptRows: ...
    @property
    def usage(self) -> UsageRows: ...
    @property
    def events(self) -> EventRows: ...
    @property
    def imports(self) -> ImportRows: ...
    @property
    def config_sets(self) -> ConfigSetRows: ...
    @property
    def repeats(self) -> RepeatRows: ...


class Books(Protocol):
    """Where the rows are."""

    def transaction(self, *, keep: bool = True, org: str | None = None) -> AbstractAsyncContextManager[Unit]:
        """`keep=False` undoes everything at the end: a dry run. With `org` nothing that belongs to another organization exists in
        it, whatever is asked: what answers a request of one organization is read so."""
        ...


class Gateways(Protocol):
    """The live copy. Every method raises GatewaysUnreachable."""

    async def standing(self, org_ids: Sequence[str]) -> dict[str, Entitlement]:
        """What they know of these organizations, where they know anything."""
        ...

    async def publish(
        self, orgs: Sequence[tuple[Entitlement, Sequence[tuple[str, KeyRecord]]]], seeds: Mapping[str, Sequence[Seed]]
    ) -> None:
        """`seeds`, by organization: what counters must begin with that begin with what is told now."""
        ...

    async def withdraw_org(self, org_id: str, slug: str, hashes: Sequence[str]) -> None: ...

    async def withdraw_keys(self, hashes: Sequence[str]) -> None: ...

    async def publish_bypasses(self, bypasses: Sequence[Bypass]) -> bool:
        """False where they stand there already."""
        ...

    async def announce(self, messages: Sequence[str]) -> None: ...

    async def counters(self, names: Sequence[str]) -> list[int | None]: ...

    async def move(self, bucket: int, moves: Sequence[tuple[int, Sequence[CounterMove]]]) -> int | None:
        """Have the store take moves, in order, each once; returns the last that it has, None while it is being restored."""
        ...
