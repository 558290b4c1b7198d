"""Bind the use cases to Postgres and Redis: what control, the command line and the aggregator call."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing.documents.press import PdfPress
from billing.model.invoice import Issuer
from billing.model.tax import NO_TAXES_AT_STRIPE, StripeTaxes, TaxRule
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
from billing.services.invoice_writer import InvoiceWriter
from billing.services.invoices import Invoices
from billing.services.issuing import Issuing
from billing.services.keys import Keys
from billing.services.lifecycle import HasPaymentMethod, Lifecycle, TrialRules, anybody_can_pay
from billing.services.logs import MailLog, OutboxLog
from billing.services.months import Months
from billing.services.orgs import Orgs
from billing.services.overrides import Overrides
from billing.services.payment_methods import PaymentMethods
from billing.services.plans import Plans
from billing.services.ports import Cut, GatewaysUnreachable, cut_nothing
from billing.services.ports_outbox import OutboxCarer
from billing.services.ports_stripe import PaymentDesk
from billing.services.purse import OwnPurse
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
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from config.key_limits import read_limits
from config.settings import Settings
from metering.model import keys as grammar
from metering.model.apikey import KeyRecord
from metering.model.bypass import Bypass
from metering.model.clock import Clock
from metering.model.entitlement import Entitlement
from metering.model.meter import Meter
from metering.model.moves import CounterMove
from metering.model.outward import Reach
from metering.model.seeding import Seed
from metering.store.redis import moving, publish


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoicing:
    """Who writes invoices, and how. `charges`: a payment is taken by itself."""

    issuer: Issuer = Issuer.STRIPE
    tax: TaxRule = TaxRule()  # noqa: RUF009  immutable
    delay_seconds: int = 3_600
    charges: bool = False
    taxes: StripeTaxes = NO_TAXES_AT_STRIPE


def invoicing_of(settings: Settings, issuer: str) -> Invoicing:
    """As the settings and plans.yaml say. Where Stripe computes taxes, none is added here."""
    rate = Decimal(0) if settings.stripe_tax_enabled else settings.billing_tax_rate
    return Invoicing(
        issuer=Issuer(issuer),
        tax=TaxRule(rate=rate, regions=settings.billing_tax_regions, inclusive=settings.stripe_tax_inclusive),
        delay_seconds=settings.invoice_delay_seconds,
        charges=settings.stripe_api_key is not None,
        taxes=StripeTaxes(
            automatic=settings.stripe_tax_enabled,
            rule=TaxRule(rate=settings.billing_tax_rate, regions=settings.billing_tax_regions, inclusive=settings.stripe_tax_inclusive),
        ),
    )


def open_billing(
    pool: asyncpg.Pool,
    redis: Redis | None,
    clock: Clock,
    *,
    meters: Mapping[str, Meter],
    currency: str = "usd",
    default_plan: str | None = "free",
    bills: bool = True,
    cut: Cut = cut_nothing,
    webhook_secrets: Sequence[str] = (),
    stripe_mode: str = "sandbox",
    marketplaces: bool = False,
    invoicing: Invoicing = Invoicing(),
    trials: TrialRules | None = None,
    hooks_reach: Reach = Reach.PUBLIC,
    carer: OutboxCarer | None = None,
    org: str | None = None,
    actor: str | None = None,
    payments: PaymentDesk | None = None,
) -> Billing:
    """Cheap: made anew whenever the meters change. `bills` False (BILLING_ENABLED=false) tells Stripe nothing. `cut` is
    called before what organizations pay for changes (aggregator/overage.py); who only reads or publishes needs none.
    Without `redis` what must be published waits for control. With `org` it reads what is that organization's, and writes nothing;
    `actor` is whom the audit log names. `payments` is Stripe, where there is one."""
    books, gateways = PostgresBooks(pool, org=org, actor=actor), RedisGateways(redis)
    entitlements = Entitlements(books, gateways, clock, default_plan=default_plan)
    purse = OwnPurse()
    writer = InvoiceWriter(rule=invoicing.tax, purse=purse)
    issuing = Issuing(
        books, clock, writer, meters=meters, currency=currency, delay_ms=invoicing.delay_seconds * 1000, charges=invoicing.charges,
        at_stripe=invoicing.issuer is Issuer.STRIPE,
    )  # fmt: skip
    recording = Recording(books, gateways, entitlements, clock, meters=meters, bills=bills, at_stripe=invoicing.issuer is Issuer.STRIPE)
    items = bills and invoicing.issuer is Issuer.WEIGHBRIDGE  # what is due is written down here, or worked out by Stripe: never both
    if invoicing.issuer is Issuer.WEIGHBRIDGE:
        bills, cut = False, issuing.keep_terms  # Stripe hears of no subscription and no usage
    elif bills:
        cut = _both(cut, issuing.keep_terms)
    keys = Keys(
        books, entitlements, clock, entropy=lambda: secrets.token_bytes(24), read_limits=lambda texts: read_limits(texts, meters)
    )  # fmt: skip
    lifecycle = Lifecycle(
        books, entitlements, clock, meters=meters, items=items, bills=bills, cut=cut, default_plan=default_plan, trials=trials,
        has_payment_method=_payment_method(books) if invoicing.charges else anybody_can_pay, taxes=invoicing.taxes,
    )  # fmt: skip
    renewals = Renewals(lifecycle)
    subscriptions, overrides = Subscriptions(lifecycle, renewals), Overrides(books, entitlements, clock, cut=cut)
    usage = Usage(books, gateways, entitlements, clock, meters=meters)
    invoices = Invoices(books, clock, writer, meters=meters, currency=currency, purse=purse)
    return Billing(
        subscriptions=subscriptions,
        trials=Trials(lifecycle),
        renewals=renewals,
        orgs=Orgs(
            books, keys, entitlements, clock, meters=meters, currency=currency, items=items, bills=bills, cut=cut, taxes=invoicing.taxes
        ),
        keys=keys,
        plans=Plans(
            books, entitlements, clock, meters=meters, currency=currency, items=items, bills=bills, cut=cut, default_plan=default_plan
        ),
        overrides=overrides,
        entitlements=entitlements,
        usage=usage,
        history=UsageHistory(books, clock, usage),
        quota_settings=QuotaSettings(books, overrides, subscriptions, meters=meters),
        alerts=Alerts(books, usage, meters=meters, reach=hooks_reach),
        recording=recording,
        importing=Importing(books, recording, clock),
        exporting=Exporting(books, meters=meters),
        bypasses=Bypasses(books, gateways, clock, meters=meters),
        tokens=Tokens(books, clock, entropy=lambda: secrets.token_bytes(24)),
        access=Access(books, clock),
        rows=Rows(books),
        audit=Audit(books),
        inbox=Inbox(books, clock, secrets=webhook_secrets, mode=stripe_mode),
        coupons=Coupons(books, clock, bills=bills),
        hooks=Hooks(books, clock, entropy=lambda: secrets.token_bytes(32), reach=hooks_reach),
        mails=MailLog(books),
        outbox=OutboxLog(books, carer),
        credits=Credits(books, clock, currency=currency, bills=bills),
        customers=Customers(books, clock, marketplaces=marketplaces, bills=bills, taxes=invoicing.taxes),
        spend_caps=SpendCaps(books, entitlements, clock, meters=meters),
        features=Features(books, currency=currency, default_plan=default_plan),
        rollovers=Rollovers(books, entitlements, clock, cut=cut),
        invoices=invoices,
        collecting=Collecting(books, clock, invoices, payments),
        documents=Documents(books, clock, invoices, PdfPress()),
        payment_methods=PaymentMethods(books, payments),
        repeats=Repeats(books, clock),
        credit_notes=CreditNotes(books, clock),
        months=Months(books, clock),
        issuing=issuing,
    )


def trial_rules(settings: Settings) -> TrialRules:
    """As the environment sets them."""
    return TrialRules(
        days=settings.billing_trial_days,
        plans=settings.billing_trial_plans,
        requires_payment=settings.billing_trial_requires_payment,
        notify_days_before=settings.billing_trial_notify_days_before,
    )


def hooks_reach(settings: Settings) -> Reach:
    """How far the URLs of outgoing webhooks may lead."""
    return Reach.OPERATOR if settings.hooks_inside else Reach.PUBLIC


def _payment_method(books: PostgresBooks) -> HasPaymentMethod:
    async def has(org_id: str) -> bool:
        async with books.transaction() as unit:
            return bool(await unit.payment_methods.of_org(org_id))

    return has


def _both(first: Cut, then: Cut) -> Cut:
    async def cut(org_ids: Sequence[str]) -> None:
        await first(org_ids)
        await then(org_ids)

    return cut


class RedisGateways:
    """The live copy. One call, one trip; every way Redis fails is GatewaysUnreachable."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis

    @property
    def _store(self) -> Redis:
        if self._redis is None:
            raise GatewaysUnreachable("REDIS_URL is not set")
        return self._redis

    async def standing(self, org_ids: Sequence[str]) -> dict[str, Entitlement]:
        with _unreachable():
            return await publish.standing(self._store, org_ids)

    async def publish(
        self, orgs: Sequence[tuple[Entitlement, Sequence[tuple[str, KeyRecord]]]], seeds: Mapping[str, Sequence[Seed]]
    ) -> None:  # fmt: skip
        if orgs:
            with _unreachable():
                await publish.publish_orgs(self._store, orgs, seeds)

    async def withdraw_org(self, org_id: str, slug: str, hashes: Sequence[str]) -> None:
        with _unreachable():
            await publish.withdraw_org(self._store, org_id, slug, hashes)

    async def withdraw_keys(self, hashes: Sequence[str]) -> None:
        if hashes:
            with _unreachable():
                await publish.withdraw_keys(self._store, hashes)

    async def publish_bypasses(self, bypasses: Sequence[Bypass]) -> bool:
        with _unreachable():
            return await publish.publish_bypasses(self._store, bypasses)

    async def announce(self, messages: Sequence[str]) -> None:
        if messages:
            with _unreachable():
                pipe = self._store.pipeline(transaction=False)
                for message in messages:
                    pipe.publish(grammar.CHANGED, message)
                await pipe.execute()

    async def counters(self, names: Sequence[str]) -> list[int | None]:
        """Key by key, as they may lie in several slots."""
        if not names:
            return []
        with _unreachable():
            pipe = self._store.pipeline(transaction=False)
            for name in names:
                pipe.get(name)
            return [None if value is None else int(value) for value in await pipe.execute()]

    async def move(self, bucket: int, moves: Sequence[tuple[int, Sequence[CounterMove]]]) -> int | None:
        with _unreachable():
            return await moving.move(self._store, bucket, moves)


@contextmanager
def _unreachable() -> Iterator[None]:
    """The driver's errors become ours."""
    try:
        yield
    except (RedisError, OSError) as exc:
        raise GatewaysUnreachable(f"Redis does not answer: {exc}") from exc
