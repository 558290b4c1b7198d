"""The configuration's door: a changed set of files is checked whole and applied, or changes nothing and says why.

Where the files come from is the wiring's business; this decides what is done about them.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from billing.api.metrics import ControlMetrics
from billing.model.plan import PlanSpec
from billing.services.overrides import OverrideTerms
from billing.services.plans import Applied
from metering.model.errors import BadInput
from metering.model.meter import Meter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A faultless set, as far as control is concerned. `version` is the hash of the files, `texts` they themselves."""

    version: str
    texts: Mapping[str, str]
    meters: Mapping[str, Meter]
    plans: Mapping[str, PlanSpec]
    overrides: Mapping[str, OverrideTerms]
    issuer: str = "stripe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What lies in the folder now: an offer, or the faults that stand against it."""

    version: str
    offer: Offer | None
    faults: Sequence[str] = ()


class Source(Protocol):
    """The folder of files, and the memory of the last good set."""

    def read(self) -> Reading: ...

    def last_good(self) -> Offer | None: ...

    def remember(self) -> None:
        """The set that `read` gave last was applied."""
        ...


class Configuration:
    """`apply` puts an offer in force and may raise BadInput, which then counts as a fault of the files."""

    def __init__(self, source: Source, apply: Callable[[Offer], Awaitable[Applied]], metrics: ControlMetrics) -> None:
        self._source, self._apply, self._metrics = source, apply, metrics
        self._seen: str | None = None
        self.version: str | None = None
        self.faults: tuple[str, ...] = ()

    async def first(self) -> bool:
        """What to start on: the files, or the last good set where they are faulty. False if there is neither."""
        await self.look()
        if self.version is not None:
            return True
        last = self._source.last_good()
        if last is None:
            return False
        await self._apply(last)
        self.version = last.version
        log.error("running on the last good configuration %s until the files are corrected", last.version)
        return True

    async def look(self) -> Applied | None:
        """Apply the files if they are others than last time; what was done, or None. Raises what the database raises, and
        then looks again next time."""
        reading = self._source.read()
        if reading.version == self._seen:
            return None
        applied = None
        if reading.offer is None:
            self._refuse(reading.version, reading.faults)
        elif reading.version == self.version:
            self._accept(reading.version)
        else:
            try:
                applied = await self._apply(reading.offer)
            except BadInput as exc:
                self._refuse(reading.version, [str(exc)])
            else:
                self._source.remember()
                self._accept(reading.version)
                _tell(reading.version, applied)
        self._seen = reading.version
        return applied

    def _accept(self, version: str) -> None:
        self.version, self.faults = version, ()
        self._metrics.config_last_apply_success.set(1)

    def _refuse(self, version: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        self._metrics.config_last_apply_success.set(0)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        log.error("configuration %s has %s, and changes nothing: %s", version, count, "; ".join(faults))


def _tell(version: str, applied: Applied) -> None:
    changed = [f"{c.plan} {c.what} (version {c.version})" for c in applied.plans if c.what != "unchanged"]
    changed += [f"override of {c.slug} {c.what}" for c in applied.overrides]
    log.info("configuration %s applied, %d organizations affected: %s", version, applied.orgs_affected, "; ".join(changed) or "no change")
    for change in applied.plans:
        if change.what == "kept":
            log.warning("plan %s was made by API and differs from plans.yaml; the files do not undo it", change.plan)
    for slug in applied.unknown_orgs:
        log.warning("plans.yaml overrides %s, and there is no such organization", slug)
