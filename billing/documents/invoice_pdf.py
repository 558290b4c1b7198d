"""An invoice as a PDF: what billing/model/invoice_page.py says, drawn.

Equal invoices give equal bytes: nothing of the moment stands in the file. The typeface is DejaVu Sans Condensed, which comes with us
(fonts/LICENSE): Latin, Greek and Cyrillic letters; only the letters that are used are embedded.
"""

import io
from importlib.resources import files

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos
from fpdf.errors import FPDFException

from billing.model.invoice_page import Page, Row
from metering.model.clock import to_datetime
from metering.model.errors import BadInput

FONT = "DejaVu"
_INK, _GRAY, _RULE, _TINT = (28, 32, 38), (110, 116, 124), (214, 218, 223), (246, 247, 249)
_MARGIN, _FOOT = 18.0, 24.0  # mm
_WIDTHS = (0.52, 0.16, 0.16, 0.16)  # of the columns
_LOGO_WIDTH, _LOGO_HEIGHT = 60.0, 18.0
_BODY, _SMALL, _LINE, _SMALL_LINE = 9.5, 8.0, 5.0, 4.2


class LogoUnreadable(BadInput):
    """The logo is no picture that can be drawn: PNG or JPEG."""

    code = "logo_unreadable"


def render(page: Page, logo: bytes | None = None) -> bytes:
    """Drawn twice: how many pages there are is known once it was. Raises LogoUnreadable."""
    draft = _Paper(page, logo)
    draft.drawn()
    return bytes(_Paper(page, logo, pages=draft.pages_count).drawn())


class _Paper(FPDF):
    def __init__(self, page: Page, logo: bytes | None, *, pages: int = 1) -> None:
        super().__init__(format="letter" if page.letter else "a4", unit="mm")
        self._it, self._logo, self._pages = page, logo, pages
        fonts = files("billing.documents") / "fonts"
        self.add_font(FONT, "", str(fonts / "DejaVuSansCondensed.ttf"))
        self.add_font(FONT, "B", str(fonts / "DejaVuSansCondensed-Bold.ttf"))
        self.set_margins(_MARGIN, _MARGIN)
        self.set_auto_page_break(True, _FOOT)
        self.set_creation_date(to_datetime(page.created_ms))
        self.set_title(f"{page.title} {dict(page.facts).get(page.facts[0][0], '')}")
        self.set_author(page.seller[0] if page.seller else "")
        self.set_lang(page.language)

    def drawn(self) -> bytearray:
        self.add_page()
        self._head()
        self._parties()
        self._headline()
        self._columns()
        for row in self._it.rows:
            self._row(row)
        self._sums()
        for note in self._it.notes:
            self._ink(_SMALL, color=_GRAY)
            self.multi_cell(0, _SMALL_LINE, note, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        return self.output()

    # --- every page ------------------------------------------------------------------------------------------------------

    def header(self) -> None:
        if self.page_no() == 1:
            return
        self._ink(_SMALL, color=_GRAY)
        self.cell(0, _LINE, self._it.continued, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(3)

    def footer(self) -> None:
        self.set_y(-_FOOT + 6)
        self._rule()
        self.ln(2)
        self._ink(_SMALL, color=_GRAY)
        page = self._it.page.format(page=self.page_no(), pages=self._pages)
        if self._it.footer:
            self.multi_cell(self.epw * 0.78, _SMALL_LINE, self._it.footer, max_line_height=_SMALL_LINE, new_x=XPos.RIGHT, new_y=YPos.TOP)
        self.set_xy(self.l_margin + self.epw * 0.78, self.get_y())
        self.cell(self.epw * 0.22, _SMALL_LINE, page, align="R")

    # --- the first page --------------------------------------------------------------------------------------------------

    def _head(self) -> None:
        """Who writes it, and what it is."""
        top = self.get_y()
        bottom = top
        if self._logo is not None:
            bottom = top + self._picture(self._logo)
        elif self._it.seller:
            self._ink(15, bold=True)
            self.multi_cell(self.epw * 0.6, 7, self._it.seller[0], new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            bottom = self.get_y()
        self.set_xy(self.l_margin + self.epw * 0.6, top)
        self._ink(20, bold=True)
        self.cell(self.epw * 0.4, 9, self._it.title, align="R")
        self.set_xy(self.l_margin, max(bottom, top + 12) + 6)

    def _picture(self, logo: bytes) -> float:
        """Its height, as large as there is room for it."""
        try:
            drawn = self.image(
                io.BytesIO(logo), x=self.l_margin + self.c_margin, y=self.get_y(), w=_LOGO_WIDTH, h=_LOGO_HEIGHT, keep_aspect_ratio=True
            )
        except (FPDFException, OSError, ValueError, SyntaxError) as exc:  # what Pillow raises for what is no picture
            raise LogoUnreadable(f"the logo cannot be drawn: {exc}") from exc
        return float(drawn.rendered_height)

    def _parties(self) -> None:
        """Seller and buyer, one beside the other; the facts at the right."""
        top, column = self.get_y(), self.epw / 3
        bottoms = []
        for x, heading, lines in (
            (0.0, "", self._it.seller),
            (column, self._it.bill_to, self._it.buyer),
        ):
            self.set_xy(self.l_margin + x, top)
            bottoms.append(self._block(heading, lines, column - 4))
        self.set_xy(self.l_margin + 2 * column, top)
        for name, value in self._it.facts:
            self.set_x(self.l_margin + 2 * column)
            self._ink(_SMALL, color=_GRAY)
            self.multi_cell(column, _SMALL_LINE, name, align="R", new_x=XPos.LEFT, new_y=YPos.NEXT)
            self._ink(_BODY)
            self.multi_cell(column, _LINE, value, align="R", new_x=XPos.LEFT, new_y=YPos.NEXT)
            self.ln(0.8)
        self.set_xy(self.l_margin, max(*bottoms, self.get_y()) + 6)

    def _block(self, heading: str, lines: tuple[str, ...], width: float) -> float:
        """Text lines, the first in bold. Where they end."""
        x = self.get_x()
        if heading:
            self._ink(_SMALL, color=_GRAY)
            self.multi_cell(width, _SMALL_LINE + 0.6, heading, new_x=XPos.LEFT, new_y=YPos.NEXT)
        for number, line in enumerate(lines):
            self.set_x(x)
            self._ink(_BODY, bold=number == 0)
            self.multi_cell(width, _LINE, line, align="L", new_x=XPos.LEFT, new_y=YPos.NEXT)
        return self.get_y()

    def _headline(self) -> None:
        self.set_x(self.l_margin)
        self._ink(15, bold=True)
        self.multi_cell(0, 8, self._it.headline, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(4)

    # --- lines -----------------------------------------------------------------------------------------------------------

    def _columns(self) -> None:
        """The head of the table, on every page that has lines."""
        self._ink(_SMALL, color=_GRAY)
        self.set_fill_color(*_TINT)
        for number, (name, width) in enumerate(zip(self._it.columns, _WIDTHS, strict=True)):
            self.cell(self.epw * width, 7, name, align="R" if number else "L", fill=True)
        self.ln(7)
        self.ln(1.5)

    def _row(self, row: Row) -> None:
        """One that does not fit begins on the next page, whole."""
        width = self.epw * _WIDTHS[0] - 4
        self._ink(_BODY)
        height = self.multi_cell(width, _LINE, row.description, dry_run=True, output=MethodReturnValue.HEIGHT)
        assert isinstance(height, float)
        if self.get_y() + height + len(row.details) * _SMALL_LINE + 3 > self.page_break_trigger:
            self.add_page()
            self._columns()
        top = self.get_y()
        self._ink(_BODY)
        self.multi_cell(width, _LINE, row.description, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        below, x = self.get_y(), self.l_margin + self.epw * _WIDTHS[0]
        for text, share in zip((row.quantity, row.unit_price, row.amount), _WIDTHS[1:], strict=True):
            self.set_xy(x, top)
            self._fitted(self.epw * share, text)
            x += self.epw * share
        self.set_xy(self.l_margin, below)
        for detail in row.details:
            self._ink(_SMALL, color=_GRAY)
            texts = (detail.text, detail.quantity, detail.unit_price, detail.amount)
            for number, (text, share) in enumerate(zip(texts, _WIDTHS, strict=True)):
                self.cell(self.epw * share, _SMALL_LINE, text, align="R" if number else "L")
            self.ln(_SMALL_LINE)
        self.ln(1.5)
        self._rule()
        self.ln(1.5)

    def _fitted(self, width: float, text: str) -> None:
        """In a smaller letter where the column is narrow."""
        size = _BODY
        self._ink(size)
        while size > 6 and self.get_string_width(text) > width - 2:
            size -= 0.5
            self._ink(size)
        self.cell(width, _LINE, text, align="R")

    def _sums(self) -> None:
        """What it comes to, kept together."""
        if self.get_y() + len(self._it.sums) * 6.5 + 6 > self.page_break_trigger:
            self.add_page()
        self.ln(2)
        left, name_width, value_width = self.l_margin + self.epw * 0.42, self.epw * 0.36, self.epw * 0.22
        for name, value, strong in self._it.sums:
            if strong:
                self.set_draw_color(*_INK)
                self.line(left, self.get_y() + 0.4, left + name_width + value_width, self.get_y() + 0.4)
                self.ln(0.8)
            self.set_x(left)
            self._ink(_BODY + (1 if strong else 0), bold=strong)
            self.cell(name_width, 6, name)
            self.cell(value_width, 6, value, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(6)

    # --- ink -------------------------------------------------------------------------------------------------------------

    def _ink(self, size: float, *, bold: bool = False, color: tuple[int, int, int] = _INK) -> None:
        self.set_font(FONT, "B" if bold else "", size)
        self.set_text_color(*color)

    def _rule(self) -> None:
        self.set_draw_color(*_RULE)
        self.set_line_width(0.2)
        self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())
