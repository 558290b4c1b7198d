"""Break-glass: let calls pass beyond their limits for a while, for a reason, on record.

Postgres keeps who, when, what, why, until; the gateways are told those in force, and end each at its time by themselves.
"""

import logging
from collections.abc import Mapping

from billing.services import lookup
from billing.services.ports import Books, BypassRow, Gateways, GatewaysUnreachable
from metering.model.bypass import Bypass
from metering.model.clock import Clock
from metering.model.errors import BadInput, NotFound
from metering.model.meter import Meter

log = logging.getLogger(__name__)

LONGEST_MS = 7 * 86_400_000


class NoSuchBypass(NotFound):
    """There is no such bypass in force."""

    code = "no_such_bypass"


class Bypasses:
    """What the command line asks for. `meters` are those that there are."""

    def __init__(self, books: Books, gateways: Gateways, clock: Clock, *, meters: Mapping[str, Meter]) -> None:
        self._books, self._gateways, self._clock, self._meters = books, gateways, clock, meters

    async def begin(self, *, org_ref: str | None, meter: str | None, for_ms: int, reason: str, by: str) -> tuple[BypassRow, bool]:
        """From now on. `org_ref` None is every organization, `meter` None every limit. The flag: were the gateways told.

        Raises NoSuchOrganization, BadInput.
        """
        check(for_ms, reason, meter, self._meters)
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref) if org_ref is not None else None
            row = BypassRow(
                id=0, org_id=org.id if org else None, slug=org.slug if org else None, meter=meter, reason=reason.strip(),
                created_by=by, created_at_ms=now_ms, until_ms=now_ms + for_ms,
            )  # fmt: skip
            row = row.numbered(await unit.bypasses.insert(row))
        return row, await self.tell()

    async def end(self, number: int, *, by: str) -> bool:
        """Before its time. True once the gateways know. Raises NoSuchBypass."""
        async with self._books.transaction() as unit:
            if not await unit.bypasses.end(number, by, self._clock.now_ms()):
                raise NoSuchBypass(f"no bypass {number} is in force", id=number)
        return await self.tell()

    async def all(self, limit: int = 100, before_id: int | None = None) -> list[BypassRow]:
        """Newest first, of those before that one; those that are over too."""
        async with self._books.transaction() as unit:
            return await unit.bypasses.all(limit, before_id)

    async def publish(self) -> bool:
        """Make those in force what the gateways read; True where that changed. Raises GatewaysUnreachable."""
        async with self._books.transaction() as unit:
            rows = await unit.bypasses.in_force(self._clock.now_ms(), lock=True)
            return await self._gateways.publish_bypasses([told(row) for row in rows])

    async def tell(self) -> bool:
        """`publish` after a change that is stored already: False where the gateways are out of reach; control makes up for it."""
        try:
            await self.publish()
        except GatewaysUnreachable as exc:
            log.warning("the bypass is stored, but the gateways could not be told yet: %s", exc)
            return False
        return True


def check(for_ms: int, reason: str, meter: str | None, meters: Mapping[str, Meter]) -> None:
    """Raises BadInput for what no bypass may be."""
    if not reason.strip():
        raise BadInput("a bypass needs a reason")
    if not 0 < for_ms <= LONGEST_MS:
        raise BadInput("a bypass lasts longer than nothing and at most 7 days; what is to last longer is an override in plans.yaml")
    if meter is not None and meter not in meters:
        raise BadInput(f"there is no meter {meter!r}; there are: {', '.join(meters)}")


def told(row: BypassRow) -> Bypass:
    """A row as the gateways read it."""
    return Bypass(id=row.id, org_id=row.org_id, meter=row.meter, until_ms=row.until_ms, reason=row.reason)
