"""`weighbridge quota alert`: at which shares of a quota somebody is told, and where. A channel belongs to the thresholds before it."""

import argparse
from collections.abc import Sequence
from typing import Any

from billing.model.alert import Channel
from billing.operations import alerts as operations
from billing.operations.operation import Nothing
from metering.model.errors import BadInput

from .context import Context
from .figures import counted
from .output import row_of, show_answer, show_list
from .verbs import typed, verb

_COLUMNS = ("service", "threshold", "channels", "status")
_NAMES = {Channel.EMAIL: "Email", Channel.WEBHOOK: "Webhook", Channel.SLACK: "Slack"}


class _InOrder(argparse.Action):
    """Keeps thresholds and channels in the order in which they were typed."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        namespace.typed = [*getattr(namespace, "typed", ()), ((option or "").lstrip("-"), values)]


def add(verbs: Any) -> None:
    parser = verb(
        verbs, "alert", "alerts: of a service, config, list", run,
        example="weighbridge quota alert storage --threshold 75 --email billing@example.com --threshold 95 --webhook https://example.com/alerts",
    )  # fmt: skip
    typed(
        parser, "weighbridge quota alert api --disable", "weighbridge quota alert list",
        "weighbridge quota alert config --email billing@example.com",
    )  # fmt: skip
    parser.add_argument("what", metavar="SERVICE", help="a service; or config: where alerts go by default; or list")
    parser.add_argument("--threshold", metavar="PERCENT", action=_InOrder, help="may be given several times")
    for channel, help_text in ((Channel.EMAIL, "an address"), (Channel.WEBHOOK, "a URL"), (Channel.SLACK, "a URL of Slack's")):
        parser.add_argument(f"--{channel}", metavar="TO", action=_InOrder, help=f"{help_text}, for the thresholds before it")
    parser.add_argument("--disable", action="store_true", help="nobody hears of the service, or of these thresholds, any more")


async def run(options: argparse.Namespace, context: Context) -> int:
    said: Sequence[tuple[str, str]] = getattr(options, "typed", ())
    if options.what == "list":
        return await _list(options, context)
    if options.what == "config":
        return await _config(said, options, context)
    if options.disable:
        return await _disable(said, options, context)
    found = await context.ask(operations.set_alerts, operations.SetAlerts(service=options.what, thresholds=bound(said)))
    lines = ["✓ Alert configured"]
    for row in found.alerts:
        amount = f" ({counted(row.amount if row.amount is None or row.amount % 1 else int(row.amount), row.unit)})" if row.amount else ""
        lines += [f"  Service: {row.title}", f"  Threshold: {row.percent}%{amount}", f"  Notification: {_words(row.channels)}"]
    show_answer(found, options, lines=lines)
    return 0


def bound(said: Sequence[tuple[str, str]]) -> tuple[operations.ThresholdAsk, ...]:
    """Each run of thresholds with the channels that follow it. Raises BadInput."""
    found: list[tuple[list[int], list[operations.ChannelAsk]]] = []
    for option, value in said:
        if option == "threshold":
            if not found or found[-1][1]:
                found.append(([], []))
            found[-1][0].append(_percent(value))
        elif not found:
            raise BadInput(f"--{option} belongs to the thresholds before it: write --threshold 80 --{option} {value}")
        else:
            found[-1][1].append(operations.ChannelAsk(channel=Channel(option), target=value))
    if not found:
        raise BadInput("say at how many percent: --threshold 80")
    return tuple(operations.ThresholdAsk(percent=percent, channels=tuple(channels)) for percents, channels in found for percent in percents)


async def _config(said: Sequence[tuple[str, str]], options: argparse.Namespace, context: Context) -> int:
    if any(option == "threshold" for option, _ in said):
        raise BadInput("quota alert config says where alerts go; thresholds belong to a service: quota alert api --threshold 80")
    if not said:
        found = await context.ask(operations.channels, Nothing())
    else:
        channels = tuple(operations.ChannelAsk(channel=Channel(option), target=value) for option, value in said)
        found = await context.ask(operations.configure, operations.ConfigureAlerts(channels=channels))
    lines = ["✓ Alert channels configured"] if said else ["Alert channels"]
    show_answer(found, options, lines=lines + [f"  {_NAMES[each.channel]}: {each.target}" for each in found.channels])
    return 0


async def _disable(said: Sequence[tuple[str, str]], options: argparse.Namespace, context: Context) -> int:
    if any(option != "threshold" for option, _ in said):
        raise BadInput("--disable takes thresholds alone, or nothing")
    percents = tuple(_percent(value) for _, value in said)
    found = await context.ask(operations.disable, operations.DisableAlerts(service=options.what, percents=percents))
    which = f" at {', '.join(f'{percent}%' for percent in percents)}" if percents else ""
    show_answer(found, options, lines=[f"✓ Alerts disabled: {options.what}{which}"])
    return 0


async def _list(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.rules, Nothing())
    rows = [
        {
            **row_of(row), "threshold": f"{row.percent}%",
            "channels": ", ".join(dict.fromkeys(c.channel.value for c in row.channels)) or None,
            "status": "active" if row.active else "disabled",
        }
        for row in found.alerts
    ]  # fmt: skip
    show_list(found, rows, _COLUMNS, options, empty="No alerts were set: 80, 90 and 100 % of every quota are watched.")
    return 0


def _percent(text: str) -> int:
    number = text.removesuffix("%")
    if not number.isascii() or not number.isdecimal():
        raise BadInput(f"{text!r} is no share: write it as 80")
    return int(number)


def _words(channels: Sequence[operations.ChannelAnswer]) -> str:
    return ", ".join(f"{_NAMES[each.channel]} to {each.target}" for each in channels) or "outgoing webhooks (weighbridge hook)"
