"""Break-glass: for its time limits refuse nobody; everything is still counted and billed."""

from datetime import datetime

from pydantic import Field

from billing.model.token import Scope
from billing.operations.instants import instant, instant_or_none, number_before
from billing.operations.operation import About, Call, Model, operation
from billing.operations.pages import AskPage, Page, page
from billing.services.bypasses import NoSuchBypass
from billing.services.ports import BypassRow
from metering.model.errors import BadInput


class BypassAnswer(Model):
    """`org` null covers every organization, `meter` null every limit."""

    id: int
    state: str = Field(description="in force, over, ended")
    covers: str
    org: str | None
    meter: str | None
    until: datetime
    reason: str
    by: str
    since: datetime
    ended: datetime | None
    ended_by: str | None


class NewBypass(BypassAnswer):
    told_gateways: bool


class BypassList(Page):
    bypasses: tuple[BypassAnswer, ...]


class EndedBypass(Model):
    id: int
    ended: bool
    told_gateways: bool


class BeginBypass(Model):
    meter: str | None = Field(None, description="limits on this meter alone")
    all: bool = Field(False, description="every limit of everybody")
    seconds: int = Field(description="how long, at most 7 days; it ends by itself")
    reason: str = Field(min_length=1, max_length=1000, description="why; it stays on record")


class WhichBypass(Model):
    id: int = Field(ge=1, le=2**63 - 1)


@operation("POST", "/bypasses", name="bypass.begin", need=Scope.ADMIN, about=About.ALL, status=201)
async def begin(call: Call, ask: BeginBypass) -> NewBypass:
    """From now on, of the organization that is named, or of a meter, or of all."""
    if ask.all == bool(call.org_id or ask.meter):
        raise BadInput("say what to bypass: an organization (?org=), a meter (or both: the organization's limits on it), or all of them")
    row, told = await call.billing.bypasses.begin(
        org_ref=call.org_id, meter=ask.meter, for_ms=ask.seconds * 1000, reason=ask.reason, by=call.caller.name
    )
    return begun(row, call.now_ms, told)


@operation("GET", "/bypasses", name="bypass.list", need=Scope.ADMIN, about=About.ALL)
async def list_all(call: Call, ask: AskPage) -> BypassList:
    """Newest first, those that are over too."""
    found = await call.billing.bypasses.all(ask.limit + 1, number_before(ask))
    rows, further = page(found, ask, lambda row: (row.id,))
    return BypassList(bypasses=tuple(bypass_answer(row, call.now_ms) for row in rows), next=further)


@operation("DELETE", "/bypasses/{id}", name="bypass.end", need=Scope.ADMIN, about=About.ALL, errors=(NoSuchBypass,))
async def end(call: Call, ask: WhichBypass) -> EndedBypass:
    """Before its time: limits hold again."""
    return EndedBypass(id=ask.id, ended=True, told_gateways=await call.billing.bypasses.end(ask.id, by=call.caller.name))


def begun(row: BypassRow, now_ms: int, told: bool) -> NewBypass:
    return NewBypass(**dict(bypass_answer(row, now_ms)), told_gateways=told)


def bypass_answer(row: BypassRow, now_ms: int) -> BypassAnswer:
    state = "ended" if row.ended_at_ms is not None else "in force" if row.in_force(now_ms) else "over"
    return BypassAnswer(
        id=row.id, state=state, covers=_covers(row), org=row.slug or row.org_id, meter=row.meter, until=instant(row.until_ms),
        reason=row.reason, by=row.created_by, since=instant(row.created_at_ms), ended=instant_or_none(row.ended_at_ms),
        ended_by=row.ended_by,
    )  # fmt: skip


def _covers(row: BypassRow) -> str:
    whose = row.slug or row.org_id
    if whose is None:
        return f"limits on {row.meter}" if row.meter else "every limit"
    return f"{whose}, limits on {row.meter}" if row.meter else f"{whose}, every limit"


OPERATIONS = (begin, list_all, end)
