"""Alert rules of an organization: at which shares of its quotas somebody is told, and through which channels.

What a rule says is heard by the outgoing webhooks (quota.threshold_reached). Mails and chats are kept with it for when they are sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from billing.model.alert import (
    Channel,
    Destination,
    Rule,
    Threshold,
    added,
    forecast,
    percents_of,
    read_destination,
    without,
)  # fmt: skip
from billing.model.usage import LimitUse, NoSuchService, Status
from billing.services import lookup
from billing.services.ports import Books
from billing.services.usage import Usage
from metering.model.errors import BadInput
from metering.model.meter import Meter
from metering.model.outward import Reach

Wish = tuple[int, Sequence[tuple[Channel, str]]]  # a share, and the channels bound to it


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """`destinations` are those of the organization where a share names none."""

    meter: Meter
    threshold: Threshold
    destinations: tuple[Destination, ...]
    active: bool
    limit: LimitUse | None  # the widest quota, where something limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A share of a quota that is looked at. `on_ms`: when it will be reached; None: not in this window, or it is `reached`."""

    meter: Meter
    limit: LimitUse
    percent: int
    status: Status
    reached: bool
    on_ms: int | None


class Alerts:
    """`reach` is how far the URLs of channels may lead."""

    def __init__(self, books: Books, usage: Usage, *, meters: Mapping[str, Meter], reach: Reach) -> None:
        self._books, self._usage, self._meters, self._reach = books, usage, meters, reach

    async def set(self, org_ref: str, service: str, wishes: Iterable[Wish]) -> list[RuleView]:
        """These shares too; what is said of one that was there comes beside. Raises NoSuchOrganization, NoSuchService, BadInput."""
        self._known(service)
        thresholds = [Threshold(percent=percent, destinations=self._read(channels)) for percent, channels in wishes]
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            await unit.alerts.put(org.id, added((await unit.alerts.of_org(org.id)).get(service), service, thresholds))
        named = {t.percent for t in thresholds}
        return [view for view in await self.rules(org.id) if view.meter.name == service and view.threshold.percent in named]

    async def disable(self, org_ref: str, service: str, percents: Sequence[int] = ()) -> list[RuleView]:
        """Nobody hears of the service's quotas any more, or not of these shares. Raises NoSuchOrganization, NoSuchService, BadInput."""
        self._known(service)
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            rule = (await unit.alerts.of_org(org.id)).get(service) or _by_default(service)
            if missing := [p for p in percents if p not in {t.percent for t in rule.thresholds}]:
                raise BadInput(f"{service} has no alert at {missing[0]} %")
            await unit.alerts.put(org.id, without(rule, percents))
        return [view for view in await self.rules(org.id) if view.meter.name == service]

    async def configure(self, org_ref: str, channels: Sequence[tuple[Channel, str]]) -> tuple[Destination, ...]:
        """Where shares go that name no channel: what is named takes the place of the same kind, the rest stays. Raises BadInput."""
        found = self._read(channels)
        if not found:
            raise BadInput("say where alerts go: --email, --webhook or --slack")
        kinds = {each.channel for each in found}
        async with self._books.transaction() as unit:
            org = await lookup.organization(unit, org_ref, lock=True)
            kept = tuple(each for each in await unit.alerts.destinations(org.id) if each.channel not in kinds)
            after = tuple(sorted((*kept, *found), key=lambda each: list(Channel).index(each.channel)))
            await unit.alerts.put_destinations(org.id, after)
        return after

    async def destinations(self, org_ref: str) -> tuple[Destination, ...]:
        async with self._books.transaction() as unit:
            return await unit.alerts.destinations((await lookup.organization(unit, org_ref)).id)

    async def rules(self, org_ref: str) -> list[RuleView]:
        """All that were set, the disabled too, by service. Raises NoSuchOrganization."""
        report = await self._usage.report(org_ref)
        async with self._books.transaction() as unit:
            rules, default = await unit.alerts.of_org(report.org.id), await unit.alerts.destinations(report.org.id)
        limits = {use.meter.name: use.main for use in report.meters}
        return [
            RuleView(
                meter=self._meters.get(name) or Meter(name=name, unit=name), threshold=threshold,
                destinations=threshold.destinations or default, active=rules[name].active, limit=limits.get(name),
            )
            for name in self._ordered(rules) for threshold in rules[name].thresholds
        ]  # fmt: skip

    async def watches(self, org_ref: str) -> list[Watch]:
        """Every share of every quota that is looked at, with what is foretold of it. Raises NoSuchOrganization."""
        report = await self._usage.report(org_ref)
        async with self._books.transaction() as unit:
            rules = await unit.alerts.of_org(report.org.id)
        return [
            Watch(
                meter=use.meter, limit=use.main, percent=percent, status=use.main.status,
                reached=use.main.used * 100 >= use.main.quota.limit * percent,
                on_ms=forecast(use.main, use.meter, percent, report.now_ms),
            )
            for use in report.meters if use.main is not None and use.main.quota.limit
            for percent in sorted(percents_of(rules, use.meter.name))
        ]  # fmt: skip

    def _read(self, channels: Iterable[tuple[Channel, str]]) -> tuple[Destination, ...]:
        return tuple(dict.fromkeys(read_destination(channel, text, self._reach) for channel, text in channels))

    def _known(self, service: str) -> None:
        if service not in self._meters:
            raise NoSuchService(f"there is no service {service!r}; there are: {', '.join(self._meters)}", service=service)

    def _ordered(self, rules: Mapping[str, Rule]) -> list[str]:
        return [*(name for name in self._meters if name in rules), *sorted(set(rules) - set(self._meters))]


def _by_default(service: str) -> Rule:
    return added(None, service, [Threshold(percent=percent) for percent in percents_of({}, service)])
