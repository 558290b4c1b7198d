"""What a command works with: settings, the running `up` if there is one, and connections made when first asked for.

Options that are settings become environment variables before the settings are read, so that a child process given
`environ` sees exactly what this one sees. A server named in the environment or `.env` comes before a running `up`.
"""

import argparse
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
from redis.asyncio import Redis

from billing.operations.operation import About, Model, Operation
from billing.services.ports_stripe import PaymentDesk
from billing.services.use_cases import Billing
from config.environment import dotenv
from config.load import Configuration
from config.secret_files import instead
from config.settings import Settings
from metering.model.clock import Clock, SystemClock
from metering.model.errors import DependencyUnavailable
from metering.store.postgres import SERVICE, open_pool, redacted
from weighbridge import ready
from weighbridge.configuration import Configurations
from weighbridge.database import billing_over, dispatch_over
from weighbridge.desk import Desk, LocalDesk, RemoteDesk
from weighbridge.operator import who
from weighbridge.payments import PaymentsAtNeed

A = TypeVar("A", bound=Model)
R = TypeVar("R")

ENV_FILE = Path(".env")
_OPTION_VARIABLES = {
    "data_dir": "WEIGHBRIDGE_DATA_DIR",
    "config_dir": "WEIGHBRIDGE_CONFIG",
    "port": "WEIGHBRIDGE_PORT",
    "workers": "WEIGHBRIDGE_WORKERS",
    "upstream": "UPSTREAM",
}
_NOT_RUNNING = "no `weighbridge up` runs on {data_dir}, and neither DATABASE_URL nor .env names a database"


def add_folders(parser: argparse.ArgumentParser) -> None:
    """--data-dir and --config, which every command takes."""
    parser.add_argument("--data-dir", metavar="DIR", help="where a running system keeps its data (default: ./.weighbridge)")
    parser.add_argument("--config", dest="config_dir", metavar="DIR", help="where the YAML files are (default: ./config)")


class Context:
    """`environ` is `.env`, the process's environment over it, this command's options over both; `own_settings` are
    what it says, whether an `up` runs or not. Raises SettingsFaulty."""

    clock: Clock = SystemClock()
    _at: Desk | None = None

    def __init__(self, *, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        given = {v: str(value) for o, v in _OPTION_VARIABLES.items() if (value := getattr(options, o, None)) is not None}
        own = Settings.load({**environ, **given}, ENV_FILE)  # says what is wrong with `.env`, by line
        written = dotenv(ENV_FILE.read_text("utf-8"), ENV_FILE.name, []) if ENV_FILE.is_file() else {}
        self._options = options
        self.environ: dict[str, str] = {**written, **environ, **given}
        self.own_settings = replace(own, config_dir=own.config_dir.absolute(), data_dir=own.data_dir.absolute())

    @cached_property
    def running(self) -> dict[str, Any] | None:
        """What the ready file of a living `up` over this data folder says."""
        return ready.read(self.own_settings.data_dir / ready.NAME)

    @cached_property
    def settings(self) -> Settings:
        """Settings with the running `up`'s servers where none is named."""
        own = self.own_settings
        if self.running is None:
            return own
        found = {
            "DATABASE_URL": own.database_url or self.running["database"],
            "REDIS_URL": own.redis_url or self.running["redis"],
            **self.running.get("stripe_environ", {}),
        }
        if "WEIGHBRIDGE_CONFIG" not in self.environ:
            found["WEIGHBRIDGE_CONFIG"] = self.running["config"]
        return Settings.load(instead(self.environ, {name: value for name, value in found.items() if value is not None}))

    @property
    def database_url(self) -> str:
        """Raises DependencyUnavailable where there is none."""
        if self.settings.database_url is None:
            raise DependencyUnavailable(_NOT_RUNNING.format(data_dir=self.settings.data_dir))
        return self.settings.database_url

    @property
    def redis_url(self) -> str:
        """Raises DependencyUnavailable where there is none."""
        if self.settings.redis_url is None:
            raise DependencyUnavailable(_NOT_RUNNING.format(data_dir=self.settings.data_dir).replace("DATABASE_URL", "REDIS_URL"))
        return self.settings.redis_url

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Pool]:
        pool = await open_pool(self.database_url, application="weighbridge-cli", max_size=2, role=SERVICE, actor=who())
        try:
            yield pool
        finally:
            await pool.close()

    @cached_property
    def configuration(self) -> Configuration:
        """The files as they stand; where they are faulty, the last good set, as the running processes have it."""
        return Configurations(self.settings.config_dir, self.settings.data_dir).standing()

    @contextlib.asynccontextmanager
    async def billing(self) -> AsyncIterator[Billing]:
        """The use cases over this database and store."""
        logging.getLogger("billing").setLevel(logging.ERROR)  # what a service warns of is said by the command, in its own words
        async with self.database() as pool, billing_over(self.settings, self.configuration, pool, self.redis_url, self.clock) as billing:
            yield billing

    @contextlib.asynccontextmanager
    async def desk(self) -> AsyncIterator[Desk]:
        """Where operations are asked for: at control with WEIGHBRIDGE_TOKEN, else here; within one that is open, that one. Raises
        DependencyUnavailable."""
        if self._at is not None:
            yield self._at
            return
        async with self._new_desk() as desk:
            self._at = desk
            try:
                yield desk
            finally:
                self._at = None

    @contextlib.asynccontextmanager
    async def _new_desk(self) -> AsyncIterator[Desk]:
        if (token := self.own_settings.token) is not None:
            url = self.own_settings.control_url or (self.running or {}).get("control")
            if url is None:
                raise DependencyUnavailable("WEIGHBRIDGE_TOKEN is set: say where control is, as WEIGHBRIDGE_CONTROL_URL=https://…")
            async with aiohttp.ClientSession() as session:
                yield RemoteDesk(session, url, token)
            return
        logging.getLogger("billing").setLevel(logging.ERROR)  # what a service warns of is said by the command, in its own words
        async with self.database() as pool, contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(Redis.from_url(self.settings.redis_url)) if self.settings.redis_url else None
            dispatch = dispatch_over(
                self.settings, self.configuration, pool, store, self.clock, back_to=self.back_to, payments=self._payments(pool, stack)
            )
            yield LocalDesk(dispatch, who())

    def _payments(self, pool: asyncpg.Pool, stack: contextlib.AsyncExitStack) -> PaymentDesk | None:
        """Opened when first used, closed with the stack."""
        settings = self.settings
        if settings.stripe_api_key is None or not settings.billing_enabled:
            return None
        payments = PaymentsAtNeed(settings, pool, self.clock, where=redacted(self.database_url))
        stack.push_async_callback(payments.close)
        return payments

    @property
    def back_to(self) -> str:
        """Where a page at Stripe sends the customer afterwards."""
        settings = self.settings
        return settings.public_url or (self.running or {}).get("gateway") or f"http://{settings.host}:{settings.port}"

    def org(self) -> str | None:
        """As --org or WEIGHBRIDGE_ORG name it; None: the only one there is."""
        return getattr(self._options, "org", None) or self.own_settings.org

    async def ask(self, operation: Operation[A, R], ask: A, *, everybody: bool = False) -> R:
        """One operation, about the organization that --org or WEIGHBRIDGE_ORG names; what may be about all of them is so where neither
        does, or `everybody` is meant. What is about the installation heeds --org alone."""
        narrow = operation.about in (About.ORG, About.EITHER) and not everybody
        async with self.desk() as desk:
            return await desk.call(operation, ask, org=self.org() if narrow else self.named_org)

    @property
    def named_org(self) -> str | None:
        """As --org names it."""
        named: str | None = getattr(self._options, "org", None)
        return named

    @contextlib.asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(self.redis_url)
        try:
            yield client
        finally:
            await client.aclose()
