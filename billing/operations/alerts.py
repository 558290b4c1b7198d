"""At which shares of its quotas an organization wants to hear of it, and where."""

import datetime as dt
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import Field

from billing.model.alert import HIGHEST_PERCENT, MOST_DESTINATIONS, MOST_THRESHOLDS, Channel, Destination
from billing.model.token import Scope
from billing.model.usage import NoSuchService, Status, percentage
from billing.operations.operation import Amount, Call, Model, Nothing, operation
from billing.services.alerts import RuleView


class ChannelAsk(Model):
    channel: Channel
    target: str = Field(min_length=1, max_length=2000, description="an address for mail, or a URL")


class ThresholdAsk(Model):
    percent: int = Field(ge=1, le=HIGHEST_PERCENT)
    channels: tuple[ChannelAsk, ...] = Field((), max_length=MOST_DESTINATIONS, description="none: those of the organization")


class SetAlerts(Model):
    service: str
    thresholds: tuple[ThresholdAsk, ...] = Field(min_length=1, max_length=MOST_THRESHOLDS)


class DisableAlerts(Model):
    service: str
    percents: tuple[int, ...] = Field((), max_length=MOST_THRESHOLDS, description="these alone; none: all of the service")


class ConfigureAlerts(Model):
    channels: tuple[ChannelAsk, ...] = Field(min_length=1, max_length=MOST_DESTINATIONS)


class ChannelAnswer(Model):
    """`target` of a URL is its host alone: its path is as good as a password."""

    channel: Channel
    target: str


class AlertRow(Model):
    """`base_units` is the share in the meter's base unit, `amount` in `unit`; null where nothing limits."""

    service: str
    title: str
    unit: str
    percent: int
    amount: Amount | None
    base_units: int | None
    channels: tuple[ChannelAnswer, ...]
    active: bool


class AlertList(Model):
    alerts: tuple[AlertRow, ...]


class ChannelList(Model):
    channels: tuple[ChannelAnswer, ...]


class WatchRow(Model):
    """`on`: when the share will be reached, if use goes on as it has so far; null: not before the quota begins anew."""

    service: str
    title: str
    percent: int
    percentage_used: float
    status: Status
    reached: bool
    on: dt.date | None


class WatchList(Model):
    watches: tuple[WatchRow, ...]


@operation("GET", "/alerts", name="alerts.list", by_token=True)
async def rules(call: Call, ask: Nothing) -> AlertList:
    """What was set, the disabled too."""
    return _rows(await call.billing.alerts.rules(call.org))


@operation("GET", "/alerts/watched", name="alerts.watched")
async def watched(call: Call, ask: Nothing) -> WatchList:
    """Every share of every quota that is looked at, those by default too, with how it stands and when it will be reached."""
    found = await call.billing.alerts.watches(call.org)
    return WatchList(
        watches=tuple(
            WatchRow(
                service=w.meter.name, title=w.meter.title or w.meter.name, percent=w.percent,
                percentage_used=float(percentage(w.limit.used, w.limit.quota.limit) or 0), status=w.status, reached=w.reached,
                on=None if w.on_ms is None else datetime.fromtimestamp(w.on_ms / 1000, UTC).date(),
            )
            for w in found
        )
    )  # fmt: skip


@operation("GET", "/alerts/channels", name="alerts.channels", by_token=True)
async def channels(call: Call, ask: Nothing) -> ChannelList:
    """Where shares go that name no channel."""
    return ChannelList(channels=_channels(await call.billing.alerts.destinations(call.org)))


@operation("PUT", "/alerts/channels", name="alerts.configure", need=Scope.BILLING)
async def configure(call: Call, ask: ConfigureAlerts) -> ChannelList:
    """What is named takes the place of the same kind; the rest stays."""
    return ChannelList(channels=_channels(await call.billing.alerts.configure(call.org, _read(ask.channels))))


@operation("POST", "/alerts/{service}", name="alerts.set", need=Scope.BILLING, errors=(NoSuchService,))
async def set_alerts(call: Call, ask: SetAlerts) -> AlertList:
    """These shares too. Answers those that were named."""
    return _rows(await call.billing.alerts.set(call.org, ask.service, [(t.percent, _read(t.channels)) for t in ask.thresholds]))


@operation("POST", "/alerts/{service}/disable", name="alerts.disable", need=Scope.BILLING, errors=(NoSuchService,))
async def disable(call: Call, ask: DisableAlerts) -> AlertList:
    """Nobody hears of the service's quotas any more, or not of these shares. Answers what is left."""
    return _rows(await call.billing.alerts.disable(call.org, ask.service, ask.percents))


def _read(channels: tuple[ChannelAsk, ...]) -> list[tuple[Channel, str]]:
    return [(each.channel, each.target) for each in channels]


def _channels(destinations: tuple[Destination, ...]) -> tuple[ChannelAnswer, ...]:
    return tuple(ChannelAnswer(channel=each.channel, target=each.shown) for each in destinations)


def _rows(views: list[RuleView]) -> AlertList:
    return AlertList(alerts=tuple(_row(view) for view in views))


def _row(view: RuleView) -> AlertRow:
    meter, limit = view.meter, view.limit.quota.limit if view.limit else None
    units = None if limit is None else -(-limit * view.threshold.percent // 100)  # the first unit at which it is reached
    return AlertRow(
        service=meter.name, title=meter.title or meter.name, unit=meter.show or meter.unit, percent=view.threshold.percent,
        amount=None if units is None else Decimal(units) / meter.show_size, base_units=units, channels=_channels(view.destinations),
        active=view.active,
    )  # fmt: skip


OPERATIONS = (rules, watched, channels, configure, set_alerts, disable)
