"""What organizations pay with, and their own pages at Stripe. Cards are typed there, never here."""

from billing.model.payment import PaymentMethod
from billing.services import lookup
from billing.services.ports import Books
from billing.services.ports_stripe import NoStripe, PaymentDesk


class PaymentMethods:
    """`desk` None: there is no Stripe. `ref` is an organization's id or slug; all raise NoSuchOrganization, and those that need Stripe
    NoStripe and StripeFailed."""

    def __init__(self, books: Books, desk: PaymentDesk | None) -> None:
        self._books, self._desk = books, desk

    async def all(self, ref: str) -> list[PaymentMethod]:
        """The default first: as Stripe has them now; without Stripe, as it told last."""
        if self._desk is not None:
            return await self._desk.methods(ref)
        async with self._books.transaction() as unit:
            return await unit.payment_methods.of_org((await lookup.organization(unit, ref)).id)

    async def attach(self, ref: str, token: str) -> PaymentMethod:
        """One that was made at Stripe (pm_…); the first is charged by default. Raises PaymentMethodRefused."""
        return await self._at_stripe.attach(ref, token)

    async def set_default(self, ref: str, method_id: str) -> PaymentMethod:
        """Charged from now on. Raises NoSuchPaymentMethod."""
        return await self._at_stripe.set_default(ref, method_id)

    async def remove(self, ref: str, method_id: str) -> PaymentMethod:
        """Never charged again. Raises NoSuchPaymentMethod."""
        return await self._at_stripe.remove(ref, method_id)

    async def setup_url(self, ref: str, *, back_to: str) -> str:
        """A page on which a method is added."""
        return await self._at_stripe.setup_url(ref, back_to=back_to)

    async def portal_url(self, ref: str, *, back_to: str) -> str:
        """The customer's own page; good for an hour."""
        return await self._at_stripe.portal_url(ref, back_to=back_to)

    @property
    def _at_stripe(self) -> PaymentDesk:
        if self._desk is None:
            raise NoStripe
        return self._desk
