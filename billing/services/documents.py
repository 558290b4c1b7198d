"""Invoices on paper: those that were written, the one that would be due, a sample; and the logo that stands on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from billing.model.invoice import Invoice
from billing.model.invoice_page import Page, file_name, page
from billing.model.invoice_sample import sample
from billing.services import lookup
from billing.services.invoice_writer import seller_of
from billing.services.invoices import Invoices
from billing.services.ports import Books
from metering.model.clock import Clock
from metering.model.errors import BadInput
from metering.model.outward import Reach


class Press(Protocol):
    """Who draws: billing/documents."""

    async def draw(self, page: Page, logo: bytes | None) -> bytes:
        """A PDF."""
        ...

    def check_logo(self, picture: bytes) -> bytes:
        """Itself. Raises BadInput for what is no PNG or JPEG of a sensible size."""
        ...

    async def fetch_logo(self, url: str, *, reach: Reach) -> bytes:
        """Raises BadInput; Forbidden for an address that `reach` does not cover."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    name: str
    content: bytes


class Documents:
    def __init__(self, books: Books, clock: Clock, invoices: Invoices, press: Press) -> None:
        self._books, self._clock, self._invoices, self._press = books, clock, invoices, press

    async def invoice(self, ref: str, *, language: str | None = None, org_id: str | None = None) -> Paper:
        """One that was written, in its customer's language or in this one. Raises NoSuchInvoice."""
        async with self._books.transaction() as unit:
            found = await lookup.invoice(unit, ref, org_id=org_id)
        return await self._drawn(found, file_name(found), language)

    async def preview(self, org_ref: str, *, language: str | None = None) -> Paper:
        """What would be due if the period under way ended now. Raises NoSuchOrganization."""
        return await self._drawn(await self._invoices.preview(org_ref), "invoice_preview.pdf", language)

    async def sample(self, *, language: str | None = None) -> Paper:
        """To look at the template."""
        seller = seller_of(await self._invoices.settings())
        return await self._drawn(sample(seller, self._clock.now_ms()), "invoice_preview.pdf", language)

    async def logo(self, said: str | bytes, *, reach: Reach = Reach.PUBLIC) -> Mapping[str, Any]:
        """The changes of the invoice settings: a picture, where one is fetched from, or "" for none. Raises BadInput, Forbidden."""
        if not said:
            return {"logo": None, "logo_url": None}
        if isinstance(said, bytes):
            return {"logo": self._press.check_logo(said), "logo_url": None}
        if "://" not in said:
            raise BadInput(f"{said!r} is no address of a picture; write https://example.com/logo.png")
        return {"logo": await self._press.fetch_logo(said, reach=reach), "logo_url": said}

    async def _drawn(self, invoice: Invoice, name: str, language: str | None) -> Paper:
        async with self._books.transaction() as unit:
            logo = await unit.invoice_settings.logo()
        return Paper(name=name, content=await self._press.draw(page(invoice, language), logo))
