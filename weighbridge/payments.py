"""Payments at Stripe for one command: the connection, and the SDK behind it, are there from the first word to Stripe on."""

import asyncpg

from billing.model.payment import PaymentMethod, PaymentOutcome
from billing.services.ports_stripe import PaymentDesk
from config.settings import Settings
from metering.model.clock import Clock


class PaymentsAtNeed:
    """The port `PaymentDesk`. Every method raises OtherSideOfStripe where the database belongs to another side."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, clock: Clock, *, where: str) -> None:
        self._settings, self._pool, self._clock, self._where = settings, pool, clock, where
        self._desk: PaymentDesk | None = None

    async def _open(self) -> PaymentDesk:
        if self._desk is None:
            from billing.store.books import PostgresBooks
            from billing.stripe import installation
            from billing.stripe.client import StripeApi
            from billing.stripe.payments import StripePayments

            settings = self._settings
            assert settings.stripe_api_key is not None
            await installation.stamp(self._pool, settings.stripe_mode, self._clock, where=self._where)
            self._stripe = StripeApi(api_key=settings.stripe_api_key, api_base=settings.stripe_api_base)
            self._desk = StripePayments(PostgresBooks(self._pool), self._stripe, self._clock, currency=settings.billing_currency)
        return self._desk

    async def close(self) -> None:
        if self._desk is not None:
            await self._stripe.close()

    async def charge(self, org_id: str, invoice_id: str, amount_minor: int, currency: str, attempt: int) -> PaymentOutcome:
        return await (await self._open()).charge(org_id, invoice_id, amount_minor, currency, attempt)

    async def pay_there(self, stripe_id: str) -> PaymentOutcome:
        return await (await self._open()).pay_there(stripe_id)

    async def refund(self, invoice_id: str, amount_minor: int, identifier: str) -> PaymentOutcome:
        return await (await self._open()).refund(invoice_id, amount_minor, identifier)

    async def methods(self, ref: str) -> list[PaymentMethod]:
        return await (await self._open()).methods(ref)

    async def attach(self, ref: str, token: str) -> PaymentMethod:
        return await (await self._open()).attach(ref, token)

    async def set_default(self, ref: str, method_id: str) -> PaymentMethod:
        return await (await self._open()).set_default(ref, method_id)

    async def remove(self, ref: str, method_id: str) -> PaymentMethod:
        return await (await self._open()).remove(ref, method_id)

    async def setup_url(self, ref: str, *, back_to: str) -> str:
        return await (await self._open()).setup_url(ref, back_to=back_to)

    async def portal_url(self, ref: str, *, back_to: str) -> str:
        return await (await self._open()).portal_url(ref, back_to=back_to)
