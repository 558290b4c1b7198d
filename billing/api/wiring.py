"""Put the control server together: pool, store, use cases, files, routes, duties; run it until told to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aggregator.overage import cutter
from billing.api import duties
from billing.api.attempts import Attempts
from billing.api.configuration import Configuration, Offer, Reading
from billing.api.metrics import ControlMetrics
from billing.api.server import Parts, application
from billing.channels.wiring import house_of
from billing.model.invoice import Issuer
from billing.operations.dispatch import Dispatch
from billing.operations.operation import Facts
from billing.services.logs import OutboxLog
from billing.services.plans import Applied
from billing.services.ports import ConfigSet
from billing.services.ports_outbox import OutboxCarer
from billing.services.ports_stripe import PaymentDesk
from billing.services.use_cases import Billing
from billing.store.books import PostgresBooks
from billing.stripe import installation
from billing.stripe.client import StripeApi
from billing.stripe.outbox_care import OutboxCare
from billing.stripe.payments import StripePayments
from billing.wiring import hooks_reach, invoicing_of, open_billing, trial_rules
from config.load import FileSet, contradictions, load_last_good, parse, read_set, save_last_good
from config.settings import Settings
from metering.model import keys
from metering.model.clock import Clock
from metering.model.errors import BadInput, ConfigFaulty, DependencyUnavailable
from metering.model.meter import Meter
from metering.store.migrate import migrate
from metering.store.postgres import SERVICE, open_pool, redacted

log = logging.getLogger(__name__)

_WATCH_SECONDS, _TELL_SECONDS, _RENEW_SECONDS = 1.0, 2.0, 15.0
_PROBE_SECONDS, _LISTEN_SECONDS = 2.0, 5
_ASKED_AT_ONCE = 256
_AWAY = (RedisError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DependencyUnavailable)


class PortTaken(DependencyUnavailable):
    """The port is taken."""

    code = "port_taken"


class Files:
    """The operator's folder, and the last good set of control in the data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._home = settings, settings.data_dir / "control"
        self._files: FileSet | None = None
        self._reading: Reading | None = None
        self._glimpsed = ""

    def read(self) -> Reading:
        """What is there, once it reads the same twice: a set that is being written is not looked at. Checked only where it
        differs from what was read last."""
        try:
            files = read_set(self._settings.config_dir)
        except BadInput as exc:
            return Reading(version="missing", offer=None, faults=[str(exc)])
        if self._reading is not None and files.version not in (self._reading.version, self._glimpsed):
            self._glimpsed = files.version
            return self._reading
        if self._reading is None or self._reading.version != files.version:
            self._files, self._reading = files, self._checked(files)
        return self._reading

    def last_good(self) -> Offer | None:
        files = load_last_good(self._home)
        return self._checked(files).offer if files is not None else None

    def remember(self) -> None:
        if self._files is not None:
            save_last_good(self._home, self._files)

    def _checked(self, files: FileSet) -> Reading:
        parsed = parse(files)
        config, faults = parsed.config, parsed.faults
        if config is not None:
            settings = self._settings
            faults = contradictions(config, default_plan=settings.billing_default_plan, currency=settings.billing_currency)
        if config is None or faults:
            return Reading(version=files.version, offer=None, faults=[str(fault) for fault in faults])
        plans = config.plans
        offer = Offer(
            version=files.version, texts=files.texts, meters=config.meters, plans=plans.plans, overrides=plans.overrides,
            issuer=plans.issuer,
        )  # fmt: skip
        return Reading(version=files.version, offer=offer)


class Control:
    """One control server. `serve` runs it; `url` is where it listens."""

    def __init__(
        self, settings: Settings, pool: asyncpg.Pool, redis: Redis, clock: Clock, payments: PaymentDesk | None = None,
        carer: OutboxCarer | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._pool, self._redis, self._clock = settings, pool, redis, clock
        self._payments, self._carer = payments, carer
        self.metrics = ControlMetrics()
        self._offer: tuple[Mapping[str, Meter], str] = ({}, Issuer.STRIPE)
        self.billing = self._bound(*self._offer)
        self.dispatch = Dispatch(lambda org, actor: self._bound(*self._offer, org=org, actor=actor), self._facts, clock)
        self.configuration = Configuration(Files(settings), self._apply, self.metrics)
        self.url = ""

    def _facts(self) -> Facts:
        settings = self._settings
        back_to = settings.public_url or f"http://{settings.host}:{settings.port}"
        return Facts(
            currency=settings.billing_currency, default_plan=settings.billing_default_plan, issuer=self._offer[1], back_to=back_to,
            house=house_of(settings),
        )  # fmt: skip

    def _bound(self, meters: Mapping[str, Meter], issuer: str, *, org: str | None = None, actor: str | None = None) -> Billing:
        settings = self._settings
        return open_billing(
            self._pool,
            self._redis,
            self._clock,
            meters=meters,
            currency=settings.billing_currency,
            default_plan=settings.billing_default_plan,
            bills=settings.billing_enabled,
            marketplaces=settings.billing_marketplace_enabled,
            cut=cutter(self._pool, self._clock, meters, bills=settings.billing_enabled),
            webhook_secrets=settings.stripe_webhook_secrets,
            stripe_mode=settings.stripe_mode,
            invoicing=invoicing_of(settings, issuer),
            trials=trial_rules(settings),
            hooks_reach=hooks_reach(settings),
            org=org,
            actor=actor,
            payments=self._payments,
            carer=self._carer,
        )

    async def _apply(self, offer: Offer) -> Applied:
        billing = self._bound(offer.meters, offer.issuer)
        files = ConfigSet(version=offer.version, files=offer.texts)
        applied = await billing.plans.apply(offer.plans, offer.overrides, files=files)
        await billing.features.remember_fallback()
        self.billing, self._offer = billing, (offer.meters, offer.issuer)
        return applied

    async def readiness(self) -> dict[str, Any]:
        """Ready while both stores answer. A faulty file is shown and does not make it unready: the last good set runs."""
        database, store = await asyncio.gather(self._answers(self._pool.fetchval("SELECT 1")), self._answers(self._redis.ping()))
        config = {"version": self.configuration.version, "faults": list(self.configuration.faults)}
        return {"ready": database and store, "database": database, "redis": store, "config": config}

    async def _answers(self, probe: Awaitable[object]) -> bool:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await probe
        except _AWAY:
            return False
        return True

    async def answer_asked(self) -> None:
        """What gateways miss, as soon as there is something."""
        first = await self._redis.blpop([keys.ASKED], timeout=_LISTEN_SECONDS)
        if first is None:
            return
        more = await self._redis.lpop(keys.ASKED, _ASKED_AT_ONCE - 1) or []
        entries = [entry.decode(errors="replace") for entry in (first[1], *more)]
        try:
            await self.billing.entitlements.answer(entries)
        except _AWAY:
            await self._redis.lpush(keys.ASKED, *entries)  # asked again once the database answers
            raise
        self.metrics.misses_answered.inc(len(entries))

    async def publish_due(self) -> None:
        await self.billing.entitlements.publish_due()
        await self.billing.bypasses.publish()

    async def renew_due(self) -> None:
        await self.billing.plans.renew_due()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listening and on duty, inside the `async with`. Raises PortTaken, ConfigFaulty where nothing good was ever applied."""
        if not await self.configuration.first():
            raise ConfigFaulty("\n".join(["the configuration has faults, and there is no last good one:", *self.configuration.faults]))
        parts = Parts(
            dispatch=self.dispatch, readiness=self.readiness, metrics=self.metrics.page, inbox=lambda: self.billing.inbox,
            webhook_came=self.metrics.webhook_came, attempts=Attempts(self._clock, self._settings.trusted_proxies),
        )  # fmt: skip
        runner = web.AppRunner(application(parts), access_log=None, handle_signals=False, shutdown_timeout=5)
        await runner.setup()
        try:
            await self._listen(runner)
            async with asyncio.TaskGroup() as group:
                standing = [group.create_task(work) for work in self._duties()]
                try:
                    yield
                finally:
                    await duties.end(standing)
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._settings.control_host, self._settings.control_port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise PortTaken(
                f"control cannot listen on {host}:{port}: {exc.strerror}. Set WEIGHBRIDGE_CONTROL_PORT to a free port."
            ) from exc
        bound_host, bound_port = runner.addresses[0][:2]
        self.url = f"http://{bound_host}:{bound_port}"

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        standing: list[tuple[str, Callable[[], Awaitable[object]], float]] = [
            ("answering gateways", self.answer_asked, 0),
            ("telling gateways", self.publish_due, _TELL_SECONDS),
            ("renewing", self.renew_due, _RENEW_SECONDS),
            ("watching the configuration", self.configuration.look, _WATCH_SECONDS),
        ]
        return [duties.for_ever(name, duty, every, self.metrics, away=_AWAY) for name, duty, every in standing]


@asynccontextmanager
async def open_control(settings: Settings, clock: Clock) -> AsyncIterator[Control]:
    """With its database migrated and its store connected. Raises DependencyUnavailable with a sentence for the operator."""
    if not settings.database_url:
        raise DependencyUnavailable("control needs Postgres: set DATABASE_URL, or run `weighbridge up`, which brings its own")
    if not settings.redis_url:
        raise DependencyUnavailable("control needs Redis: set REDIS_URL, or run `weighbridge up`, which brings its own")
    async with AsyncExitStack() as stack:
        applied = await migrate(settings.database_url)
        if applied:
            log.info("migrated: %s", ", ".join(applied))
        pool = await open_pool(settings.database_url, application="weighbridge control", role=SERVICE, actor="control")
        stack.push_async_callback(pool.close)
        redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2, socket_timeout=_LISTEN_SECONDS + 5)
        stack.push_async_callback(redis.aclose)
        stripe, books = await stack.enter_async_context(_stripe(settings, pool, clock)), PostgresBooks(pool)
        payments = None if stripe is None else StripePayments(books, stripe, clock, currency=settings.billing_currency)
        yield Control(settings, pool, redis, clock, payments, OutboxCare(pool, OutboxLog(books), stripe, clock))


@asynccontextmanager
async def _stripe(settings: Settings, pool: asyncpg.Pool, clock: Clock) -> AsyncIterator[StripeApi | None]:
    """Stripe, or the sandbox; None where there is neither. Raises OtherSideOfStripe."""
    if settings.stripe_api_key is None or not settings.billing_enabled:
        yield None
        return
    await installation.stamp(pool, settings.stripe_mode, clock, where=redacted(settings.database_url or ""))
    stripe = StripeApi(api_key=settings.stripe_api_key, api_base=settings.stripe_api_base)
    try:
        yield stripe
    finally:
        await stripe.close()
