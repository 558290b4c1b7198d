"""The port `Press`: PDFs are drawn in a thread of their own. What draws is loaded when it first does: most processes never draw."""

import asyncio

from billing.model.invoice_page import Page
from metering.model.outward import Reach


class PdfPress:
    async def draw(self, page: Page, logo: bytes | None) -> bytes:
        def drawn() -> bytes:
            from billing.documents.invoice_pdf import render

            return render(page, logo)

        return await asyncio.to_thread(drawn)

    def check_logo(self, picture: bytes) -> bytes:
        from billing.documents import logo

        return logo.check(picture)

    async def fetch_logo(self, url: str, *, reach: Reach) -> bytes:
        from billing.documents import logo

        return await logo.fetch(url, reach=reach)
