"""Notice when an organization has used so many percent of a quota, where somebody wants to hear of it.

Run behind each flush, over the organizations whose usage was written since the last run. What is found is noted once (the identifier
names quota, share and window), so a run that is repeated, or runs beside another, tells nothing twice.
"""

from collections.abc import Sequence

from billing.model.alert import percents_of
from billing.model.hook import THRESHOLD
from billing.model.threshold import reached
from billing.services.lookup import NoSuchOrganization
from billing.services.ports import Books
from billing.services.ports_hooks import Found
from billing.services.usage import Usage
from metering.model.clock import Clock

_OVERLAP_MS = 120_000  # a flush that committed while the last run looked


class Thresholds:
    """Made once for a process: it remembers how far it looked."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books, self._clock = books, clock
        self._looked_ms = 0

    async def look(self, usage: Usage) -> int:
        """How many shares were reached that nobody was told of."""
        now_ms = self._clock.now_ms()
        async with self._books.transaction() as unit:
            listeners = await unit.hooks.listeners(THRESHOLD)
            if not listeners.everybody and not listeners.orgs:
                self._looked_ms = 0  # who listens next is told how it stands then
                return 0
            org_ids = listeners.among(await unit.hooks.using(self._looked_ms, now_ms))
        noted = sum([await self._note(usage, org_id) for org_id in org_ids])
        self._looked_ms = max(0, now_ms - _OVERLAP_MS)
        return noted

    async def _note(self, usage: Usage, org_id: str) -> int:
        try:
            report = await usage.report(org_id)
        except NoSuchOrganization:  # deleted; what it used is still there
            return 0
        async with self._books.transaction() as unit:
            rules = await unit.alerts.of_org(org_id)
        found: Sequence[Found] = [
            Found(org_id=org_id, type=THRESHOLD, identifier=identifier, data=facts)
            for identifier, facts in reached(report, lambda meter: percents_of(rules, meter))
        ]
        if not found:
            return 0
        async with self._books.transaction() as unit:
            return await unit.hooks.note(found)
