"""Put the aggregator together: what it needs of the world, and its table of jobs."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator import old_marks, rollup
from aggregator.flush import flush_once
from aggregator.metrics import AggregatorMetrics
from aggregator.overage import cut_overage, cutter
from aggregator.recovery import Recovery
from aggregator.schedule import Job, Schedule
from aggregator.truth import PostgresTruth
from billing.channels.wiring import open_hook_delivery, open_mails
from billing.model.invoice import Issuer
from billing.services.dunning import Dunning
from billing.services.hook_delivery import HookDelivery
from billing.services.mails import Mails
from billing.services.ports import Cut, cut_nothing
from billing.services.thresholds import Thresholds
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.stripe import installation
from billing.stripe.client import StripeApi
from billing.stripe.deliver import deliver_due
from billing.stripe.mirror.recover import recover
from billing.stripe.mirror.work import work_through
from billing.stripe.payments import StripePayments
from billing.wiring import invoicing_of, open_billing, trial_rules
from config.load import ConfigMissing, load_good, load_last_good, read_set
from config.settings import Settings
from metering.model.clock import Clock, to_datetime, to_ms
from metering.model.errors import ConfigFaulty, DependencyUnavailable
from metering.model.meter import Meter
from metering.store import migrate
from metering.store.postgres import SERVICE, DatabaseUnsuitable, Queries, open_pool, redacted

SQL = Queries.load("aggregator", "sql/wiring.sql")
log = logging.getLogger("weighbridge.aggregator")

_LOOK_SECONDS, _WATCH_SECONDS, _DELIVER_SECONDS, _MAIL_SECONDS, _MINUTE, _HOUR, _DAY = 1.0, 5.0, 2.0, 10.0, 60.0, 3600.0, 86_400.0
_RECOVER_SECONDS = 300.0
_RENEW_SECONDS = 15.0  # a period that ended may wait so long for its next
_LAST_CUT_AHEAD_MS, _LAST_CUT_BEHIND_MS = 150_000, 2 * 3_600_000
_STORE_TIMEOUT_SECONDS = 30.0  # a drain or a restore of a large bucket is one long reply
_POOL = 24  # half of it holds the locks of jobs at work, half is to work with (aggregator/schedule.py)


@dataclass(kw_only=True)
class Aggregator:
    """What the jobs work with. `stripe` None: overages are cut and wait in the outbox."""

    settings: Settings
    pool: asyncpg.Pool
    redis: Redis
    clock: Clock
    metrics: AggregatorMetrics
    meters: Mapping[str, Meter]
    mails: Mails
    hooks: HookDelivery
    thresholds: Thresholds
    stripe: StripeApi | None = None
    issuer: str = Issuer.STRIPE  # who writes invoices, as plans.yaml said last
    unmailed: int = 0  # mails that wait for a server, as was said last
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def jobs(self) -> list[Job]:
        """The table. A job that is not `alone` may run in every aggregator at once."""
        settings = self.settings
        recovery = Recovery(PostgresTruth(self.pool), self.redis, self.clock, self.republish)

        async def look() -> None:
            self.metrics.looked(await recovery.check())

        table = [
            Job(name="recovery", interval_seconds=_LOOK_SECONDS, run=look, alone=False),
            Job(name="flush", interval_seconds=settings.flush_interval_seconds, run=self.flush),
            Job(name="recorded", interval_seconds=_LOOK_SECONDS, run=self.catch_up, alone=False),
            Job(name="watch", interval_seconds=_WATCH_SECONDS, run=self.watch, alone=False),
            Job(name="routes", interval_seconds=settings.flush_interval_seconds, run=lambda: rollup.name_routes(self.pool, self.redis)),
            Job(name="rollovers", interval_seconds=settings.flush_interval_seconds, run=lambda: self.billing().rollovers.carry()),
            Job(name="daily", interval_seconds=_HOUR, run=lambda: rollup.roll_up_days(self.pool)),
            Job(name="partitions", interval_seconds=_DAY, run=lambda: rollup.ensure_partitions(self.pool, self.clock)),
            Job(name="old_marks", interval_seconds=_DAY, run=lambda: old_marks.forget(self.pool, self.redis, self.clock)),
        ]
        if settings.billing_enabled:
            table.append(Job(name="overage", interval_seconds=settings.report_interval_seconds, run=self.cut))
            table.append(Job(name="spend_caps", interval_seconds=settings.flush_interval_seconds, run=self.check_spending))
            table.append(Job(name="last_cut", interval_seconds=settings.flush_interval_seconds, run=self.last_cut))
            table.append(Job(name="invoices", interval_seconds=_MINUTE, run=self.issue))
            table.append(Job(name="rated_items", interval_seconds=_HOUR, run=self.rate))
            table.append(Job(name="late_usage", interval_seconds=_HOUR, run=self.bill_late))
            table.append(Job(name="dunning", interval_seconds=_MINUTE, run=self.look_after_debts))
        table.append(Job(name="renewals", interval_seconds=_RENEW_SECONDS, run=self.renew))
        table.append(Job(name="mails", interval_seconds=_MAIL_SECONDS, run=self.mail, alone=False))
        table.append(Job(name="hooks", interval_seconds=_DELIVER_SECONDS, run=self.send_hooks, alone=False))
        table.append(Job(name="thresholds", interval_seconds=settings.flush_interval_seconds, run=self.look_at_quotas))
        table.append(Job(name="old_events", interval_seconds=_DAY, run=self.hooks.forget))
        if self.stripe is not None:
            table += [
                Job(name="deliver", interval_seconds=_DELIVER_SECONDS, run=self.deliver),
                Job(name="webhooks", interval_seconds=_DELIVER_SECONDS, run=self.work_through_inbox),
                Job(name="missed_webhooks", interval_seconds=_RECOVER_SECONDS, run=self.recover),
                Job(name="unknown_payments", interval_seconds=_RECOVER_SECONDS, run=self.resolve_payments),
            ]
        return table

    async def flush(self) -> None:
        began_ms = self.clock.now_ms()
        report = await flush_once(self.pool, self.redis, observe=self.metrics.timer(), keep_going=lambda: not self.stop.is_set())
        self.metrics.flushed(report)
        if report.quarantined:
            log.error("%d fields of usage cannot be read; they are kept in billing.usage_quarantine", report.quarantined)
        if report.complete:
            await self.current_meters()
            await self.billing().recording.look_after_levels()  # nobody bills a period before this has seen its end
            await self.pool.execute(SQL["flush_done"], to_datetime(began_ms))
            self.metrics.all_flushed_at(began_ms)

    async def catch_up(self) -> None:
        """Counters that have yet to hear of what was recorded: the store was away, or who recorded it died."""
        await self.billing().recording.catch_up()

    async def republish(self) -> None:
        """Every entitlement, key and bypass again, for a store that forgot them."""
        await self.billing().republish()

    async def renew(self) -> None:
        """Periods that begin, trials that end, cancellations and changes that come true."""
        meters = await self.current_meters()
        billing = self.billing(cut=cutter(self.pool, self.clock, meters, bills=self.settings.billing_enabled))
        if happened := await billing.renewals.run_due():
            log.info("renewals: %d things happened to subscriptions", happened)

    def billing(self, cut: Cut = cut_nothing) -> Billing:
        settings = self.settings
        return open_billing(
            self.pool, self.redis, self.clock, meters=self.meters, currency=settings.billing_currency,
            default_plan=settings.billing_default_plan, bills=settings.billing_enabled, stripe_mode=settings.stripe_mode,
            invoicing=invoicing_of(settings, self.issuer), cut=cut, trials=trial_rules(settings),
        )  # fmt: skip

    async def cut(self) -> None:
        meters = await self.current_meters()
        if self.issuer == Issuer.STRIPE:
            self.metrics.cut((await cut_overage(self.pool, self.clock, meters)).rows)

    async def check_spending(self) -> None:
        await self.current_meters()
        report = await self.billing().spend_caps.check()
        if report.ended or report.lifted:
            log.info("spend caps: overage ended for %d organizations, goes on for %d", report.ended, report.lifted)

    async def last_cut(self) -> None:
        """Periods about to end, or just ended: Stripe closes its invoice soon after."""
        now_ms = self.clock.now_ms()
        ending = now_ms - _LAST_CUT_BEHIND_MS, now_ms + _LAST_CUT_AHEAD_MS
        meters = await self.current_meters()
        if self.issuer == Issuer.STRIPE:
            self.metrics.cut((await cut_overage(self.pool, self.clock, meters, ending=ending)).rows)

    async def issue(self) -> None:
        """Invoices of periods that ended, where they are written here."""
        await self.current_meters()
        if self.issuer == Issuer.WEIGHBRIDGE:
            billing = self.billing()
            await billing.renewals.run_due()  # so that the price of the next period stands on the same invoice
            await billing.issuing.run()

    async def rate(self) -> None:
        """Where Stripe writes the invoices, what it does not charge itself of periods that ended."""
        await self.current_meters()
        if self.issuer == Issuer.STRIPE:
            await self.billing().issuing.run()

    async def bill_late(self) -> None:
        """Usage of periods that were billed before it came."""
        await self.current_meters()
        await self.billing().issuing.late()

    async def deliver(self) -> None:
        assert self.stripe is not None
        await self.check_side()
        report = await deliver_due(self.pool, self.stripe, self.clock)
        self.metrics.delivered(report.calls)
        for kind, sentence in report.errors.items():
            log.warning("Stripe was not told everything (%s): %s", kind, sentence)

    async def mail(self) -> None:
        report = await self.mails.send_due()
        self.metrics.mailed(report.states)
        if report.unconfigured and not self.unmailed:
            log.warning("%d mails wait: no SMTP server is configured (SMTP_HOST); each is kept for 7 days", report.unconfigured)
        self.unmailed = report.unconfigured
        for state, sentence in report.errors.items():
            log.warning("mails %s: %s", state, sentence)

    async def send_hooks(self) -> None:
        report = await self.hooks.send_due()
        self.metrics.hooked(report.states, len(report.disabled))
        for endpoint, reason in report.disabled.items():
            log.warning("events are not sent to %s any more: %s", endpoint, reason)

    async def look_at_quotas(self) -> None:
        await self.current_meters()
        await self.thresholds.look(self.billing().usage)

    async def check_side(self) -> None:
        """Raises OtherSideOfStripe once the database was moved to another side, whose ids this process must not mix with its own."""
        await installation.check(self.pool, self.settings.stripe_mode, where=redacted(self.settings.database_url or ""))

    async def work_through_inbox(self) -> None:
        assert self.stripe is not None
        await self.check_side()
        report = await work_through(PostgresBooks(self.pool), self.stripe, self.billing().entitlements, self.clock)
        self.metrics.webhooks(report.outcomes)
        for kind, sentence in report.errors.items():
            log.warning("an event of Stripe's was not worked through (%s): %s", kind, sentence)

    async def recover(self) -> None:
        assert self.stripe is not None
        if missed := await recover(PostgresBooks(self.pool), self.stripe, self.billing().inbox, self.clock):
            log.info("%d events of Stripe's had not arrived, and were fetched", len(missed))

    async def resolve_payments(self) -> None:
        assert self.stripe is not None
        await StripePayments(PostgresBooks(self.pool), self.stripe, self.clock).resolve_unknown()

    async def look_after_debts(self) -> None:
        books, billing = PostgresBooks(self.pool), self.billing()
        payments = StripePayments(books, self.stripe, self.clock) if self.stripe is not None else None
        dunning = Dunning(
            books, self.clock, billing.invoices, billing.subscriptions, payments=payments, meters=await self.current_meters(),
            default_plan=self.settings.billing_default_plan,
        )  # fmt: skip
        self.metrics.dunned((await dunning.run_due()).steps)

    async def watch(self) -> None:
        """Tell what another aggregator, or nobody, has done."""
        done_at = await self.pool.fetchval(SQL["flush_done_at"])
        if done_at is not None:
            self.metrics.all_flushed_at(to_ms(done_at))
        rows = {r["state"]: r for r in await self.pool.fetch(SQL["outbox"])}
        oldest = rows["pending"]["oldest"] if "pending" in rows else None
        age = (self.clock.now_ms() - to_ms(oldest)) / 1000 if oldest else 0.0
        self.metrics.outbox({state: r["rows"] for state, r in rows.items()}, max(0.0, age))
        now_ms = self.clock.now_ms()
        hooks = await self.pool.fetchrow(SQL["hooks"])
        self.metrics.hooks(hooks["rows"], max(0, now_ms - to_ms(hooks["oldest"])) / 1000 if hooks["oldest"] else 0.0)
        mails = await self.pool.fetchrow(SQL["mails"], to_datetime(now_ms))
        self.metrics.mails(mails["rows"], max(0, now_ms - to_ms(mails["oldest"])) / 1000 if mails["oldest"] else 0.0)

    async def current_meters(self) -> Mapping[str, Meter]:
        """meters.yaml as it is now; while it is faulty, as it last was."""
        try:
            config = await asyncio.to_thread(lambda: load_good(read_set(self.settings.config_dir)))
            self.meters, self.issuer = config.meters, config.plans.issuer
        except (ConfigFaulty, ConfigMissing) as exc:
            log.warning("meters stay as they were: %s", exc)
        return self.meters


async def run(settings: Settings, clock: Clock, stop: asyncio.Event, *, port: int | None = None) -> None:
    """Until `stop` is set. Raises DependencyUnavailable (and its kinds) or ConfigFaulty where it cannot start."""
    if not settings.database_url or not settings.redis_url:
        name = "REDIS_URL" if settings.database_url else "DATABASE_URL"
        raise DependencyUnavailable(f"The aggregator moves usage from Redis to Postgres: set {name} in the environment or in .env.")
    async with AsyncExitStack() as stack:
        pool = await open_pool(
            settings.database_url, application="weighbridge-aggregator", max_size=_POOL, role=SERVICE, actor="aggregator"
        )
        stack.push_async_callback(pool.close)
        await check_schema(pool)
        redis = Redis.from_url(settings.redis_url, socket_timeout=_STORE_TIMEOUT_SECONDS)
        stack.push_async_callback(redis.aclose)
        await check_store(redis)
        stripe = None
        if settings.billing_enabled and settings.stripe_api_key:
            await installation.stamp(pool, settings.stripe_mode, clock, where=redacted(settings.database_url))
            stripe = StripeApi(api_key=settings.stripe_api_key, api_base=settings.stripe_api_base)
            stack.push_async_callback(stripe.close)
            await installation.stamp_account(pool, stripe, settings.stripe_mode, clock, where=redacted(settings.database_url))
        metrics, meters = AggregatorMetrics(clock), first_meters(settings)
        aggregator = Aggregator(
            settings=settings, pool=pool, redis=redis, clock=clock, metrics=metrics, meters=meters, stripe=stripe, stop=stop,
            mails=open_mails(settings, pool, clock), hooks=open_hook_delivery(settings, pool, clock),
            thresholds=Thresholds(PostgresBooks(pool), clock),
        )  # fmt: skip
        if port is not None:
            await serve_page(stack, metrics, port)
        schedule = Schedule(aggregator.jobs(), pool, clock, ran=metrics.ran, tick=metrics.tell_lag)
        log.info("aggregator ready: flush each %g s, overages each %g s", settings.flush_interval_seconds, settings.report_interval_seconds)
        await schedule.run(stop)


def first_meters(settings: Settings) -> Mapping[str, Meter]:
    """meters.yaml, or while the files are faulty the last good set of this data folder. Raises ConfigFaulty, ConfigMissing."""
    try:
        return load_good(read_set(settings.config_dir)).meters
    except ConfigFaulty as exc:
        last = load_last_good(settings.data_dir / "gateway")
        if last is None:
            raise
        log.warning("meters are those of the last good configuration: %s", exc)
        return load_good(last).meters


async def check_schema(pool: asyncpg.Pool) -> None:
    """Raises DatabaseUnsuitable unless every migration that this version knows was applied."""
    known = max(m.number for m in migrate.load())
    newest = await pool.fetchval(SQL["newest_migration"]) if await pool.fetchval(SQL["has_schema"]) else 0
    if newest < known:
        what = "has no Weighbridge schema" if newest == 0 else f"is at migration {newest:04d} of {known:04d}"
        raise DatabaseUnsuitable(f"The database {what}. Run `weighbridge init`.")


async def check_store(redis: Redis) -> None:
    """Raises DependencyUnavailable where Redis does not answer, or may drop keys when its memory is full."""
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy", "noeviction")
    except (RedisError, OSError) as exc:
        raise DependencyUnavailable(f"Redis cannot be reached: {exc}. Is it running, and is REDIS_URL right?") from exc
    if policy != "noeviction":
        raise DependencyUnavailable(f"Redis drops keys when its memory is full (maxmemory-policy {policy}). Set it to noeviction.")


async def serve_page(stack: AsyncExitStack, metrics: AggregatorMetrics, port: int) -> int:
    """/metrics and /healthz on 127.0.0.1; returns the port (a free one for 0)."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "flush_lag_seconds": round(metrics.lag_seconds, 3)})

    app = web.Application()
    app.add_routes([web.get("/metrics", page), web.get("/healthz", health)])
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", port)
    try:
        await site.start()
    except OSError as exc:
        raise DependencyUnavailable(f"Port {port} on 127.0.0.1 is taken (WEIGHBRIDGE_AGGREGATOR_PORT): {exc.strerror}.") from exc
    return int(runner.addresses[0][1])
