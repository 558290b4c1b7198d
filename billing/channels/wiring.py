"""Put mail, and events on their way out, together from the settings."""

import asyncpg

from billing.channels.hooks import HttpHookChannel
from billing.channels.message import SenderFaulty, sender
from billing.channels.smtp import Server, SmtpChannel, Tls
from billing.model.letters.letter import House
from billing.services.hook_delivery import HookDelivery
from billing.services.mails import Mails
from billing.store.books import PostgresBooks
from billing.wiring import hooks_reach
from config.settings import Settings
from metering.model.clock import Clock
from metering.model.errors import ConfigFaulty


def open_mails(settings: Settings, pool: asyncpg.Pool, clock: Clock) -> Mails:
    """Raises ConfigFaulty for a sender that cannot be one."""
    return Mails(PostgresBooks(pool), open_channel(settings, clock), clock, house=house_of(settings))


def open_hook_delivery(settings: Settings, pool: asyncpg.Pool, clock: Clock) -> HookDelivery:
    return HookDelivery(PostgresBooks(pool), HttpHookChannel(hooks_reach(settings), clock), clock)


def open_channel(settings: Settings, clock: Clock) -> SmtpChannel | None:
    """None where no mail server is configured. Raises ConfigFaulty."""
    if settings.smtp_host is None:
        return None
    try:
        who = sender(settings.smtp_from or settings.support_address or "", product=settings.product_name, reply_to=settings.support_address)
    except SenderFaulty as fault:
        raise ConfigFaulty(f"SMTP_FROM: {fault}") from fault
    server = Server(
        host=settings.smtp_host,
        port=settings.smtp_port,
        tls=Tls(settings.smtp_tls),
        username=settings.smtp_username,
        password=settings.smtp_password,
    )
    return SmtpChannel(server, who, clock)


def house_of(settings: Settings) -> House:
    return House(
        product=settings.product_name,
        public_url=settings.public_url,
        upgrade_url=settings.upgrade_url,
        support=settings.support_address,
        win_back_code=settings.win_back_code,
    )
