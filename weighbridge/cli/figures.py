"""Figures of meters as tables show them: 12.3 GB, 45,231, 1.2M queries; whole percents; bars."""

from decimal import ROUND_HALF_UP, Decimal

from billing.operations.usage import MeterUse
from metering.model.meter import Kind
from metering.model.quota import Window

UNLIMITED = "Unlimited"
BAR = 28
_PLAIN = ("request", "query", "invocation")  # what the title says already
_EACH = {Window.HOUR: "/hour", Window.DAY: "/day", Window.PERIOD: "/month", Window.MONTH: "/month"}


def number(value: float | int | Decimal) -> str:
    """45,231; 12.3"""
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{Decimal(str(value)):,.6f}"
    return text.rstrip("0").rstrip(".")


def figure(value: float | int | Decimal | None, unit: str) -> str:
    """With its unit, where the title does not say it."""
    if value is None:
        return UNLIMITED
    return number(value) if unit in _PLAIN else f"{number(value)} {unit}"


def counted(value: float | int | Decimal | None, unit: str) -> str:
    """45,231 requests, 12.3 GB"""
    if value is None:
        return UNLIMITED
    plural = "queries" if unit == "query" else f"{unit}s" if unit in _PLAIN else unit
    return f"{number(value)} {unit if value == 1 else plural}"


def percent(part: float | int | Decimal, whole: float | int | Decimal | None) -> str:
    """45%, half up; - where nothing limits."""
    if whole is None:
        return "-"
    if not whole:
        return "100%"
    exact = Decimal(str(part)) * 100 / Decimal(str(whole))
    return f"{exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)}%"


def used_percent(use: MeterUse) -> str:
    return percent(use.base.current_usage, use.base.quota)


def left_percent(use: MeterUse) -> str:
    """What is left in whole percent, so that it and what is used add up to 100."""
    if not use.base.quota:
        return "0%"
    return f"{max(0, 100 - int(used_percent(use).rstrip('%')))}%"


def each(use: MeterUse) -> str:
    """/month; nothing for what is held, or where nothing limits."""
    return "" if use.quota is None or use.kind is Kind.LEVEL else _EACH[use.window]


def bar(use: MeterUse) -> str:
    """[===>....], as far as it is used."""
    used, quota = use.base.current_usage, use.base.quota
    full = 0 if quota is None else BAR if used >= quota else used * BAR // quota
    if full in (0, BAR):
        return f"[{'=' * full}{'.' * (BAR - full)}]"
    return f"[{'=' * (full - 1)}>{'.' * (BAR - full)}]"


def short_title(use: MeterUse) -> str:
    """API, Storage: the service in few letters."""
    return short(use.service)


def short(service: str) -> str:
    words = service.replace("_", " ")
    return words.upper() if words in ("api", "gpu", "llm") else words[:1].upper() + words[1:]


def one_title(title: str) -> str:
    """API Request, where the title is API Requests."""
    return title.removesuffix("s")
