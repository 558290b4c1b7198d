"""`weighbridge hook`: where events are sent, yours or your customers'. What Stripe sends here is `weighbridge webhook`."""

import argparse
import datetime as dt
from typing import Any, TypeVar

from billing.model.hook_delivery import DeliveryState
from billing.operations import hooks as operations
from billing.operations.dispatch import asked
from billing.operations.operation import Model, Nothing, Operation

from .context import Context
from .output import show_answer, show_list
from .verbs import nouns_verbs, verb
from .words import read_day

A = TypeVar("A", bound=Model)
R = TypeVar("R")

_HOOKS = ("id", "url", "events", "status", "description")
_EVENTS = ("id", "type", "org", "happened")
_DELIVERIES = ("event", "type", "org", "happened", "status", "attempts", "next attempt", "answer", "error")
_HOUR_SECONDS = 3600


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "hook", "events sent to others: endpoints, secrets, deliveries, replay")
    making = _verb(verbs, "create", "send events to a URL", create, "weighbridge hook create https://example.com/in --event invoice.paid")
    making.add_argument("url", metavar="URL")
    _verb(verbs, "list", "every endpoint", list_hooks, "weighbridge hook list --all")
    _one(verbs, "show", "one endpoint, and how it does", show_hook, "weighbridge hook show hook_4e2a")
    changing = _one(verbs, "update", "another URL, other events, enabled or disabled", update, "weighbridge hook update hook_4e2a --enable")
    changing.add_argument("--url", metavar="URL")
    for parser in (making, changing):
        parser.add_argument("--event", metavar="TYPE", action="append", help="invoice.paid, invoice.*, or *; as often as needed")
        parser.add_argument("--description", metavar="TEXT")
    switch = changing.add_mutually_exclusive_group()
    switch.add_argument("--enable", dest="enabled", action="store_true", default=None)
    switch.add_argument("--disable", dest="enabled", action="store_false")
    _one(verbs, "delete", "send nothing to it any more", delete, "weighbridge hook delete hook_4e2a")
    rotating = _one(verbs, "rotate", "a new secret; the old one signs beside it for a while", rotate, "weighbridge hook rotate hook_4e2a")
    rotating.add_argument("--overlap-hours", type=int, default=24, metavar="N", help="how long (default: 24; 0: not at all)")
    _one(verbs, "test", "send it an event of its own", test, "weighbridge hook test hook_4e2a")
    verb(verbs, "types", "which events there are", list_types, org=False, example="weighbridge hook types")
    happened = _verb(verbs, "events", "what happened, newest first", list_events, "weighbridge hook events --type invoice.paid")
    happened.add_argument("--type", metavar="TYPE", help="of one type")
    example = "weighbridge hook deliveries hook_4e2a --status failed"
    told = _one(verbs, "deliveries", "what it was told, newest first", list_deliveries, example)
    told.add_argument("--status", choices=[state.value for state in DeliveryState])
    for parser in (happened, told):
        parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
        parser.add_argument("--after", metavar="CURSOR", help="the next page: `next` of the last one (--format json)")
    again = _one(verbs, "replay", "send events again", replay, "weighbridge hook replay hook_4e2a --since 2026-02-01")
    again.add_argument("event", nargs="?", metavar="EVENT", help="this one, whatever became of it")
    again.add_argument("--since", metavar="YYYY-MM-DD", help="all since then that it wants and was not told of")


def _verb(verbs: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, run, example=example)
    parser.add_argument("--all", action="store_true", help="the installation's own, which get the events of every organization")
    return parser


def _one(verbs: Any, name: str, text: str, run: Any, example: str) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, text, run, example)
    parser.add_argument("hook", metavar="HOOK", help="its id: hook list")
    return parser


async def _ask(options: argparse.Namespace, context: Context, pair: tuple[Operation[A, R], Operation[A, R]], **words: Any) -> R:
    """What was not said keeps its default. Raises BadInput where the words make no question."""
    own, everybody = pair
    said = {name: value for name, value in words.items() if value is not None}
    return await context.ask(everybody if options.all else own, asked(own, said))


async def create(options: argparse.Namespace, context: Context) -> int:
    made = await _ask(options, context, operations.create, url=options.url, events=options.event, description=options.description)
    lines = [f"✓ Events go to {made.url}: {' '.join(made.events)}", f"  Endpoint: {made.id}", *_secret(made)]
    show_answer(made, options, lines=lines)
    return 0


async def list_hooks(options: argparse.Namespace, context: Context) -> int:
    found = await _ask(options, context, operations.list_hooks)
    rows = [{**hook.model_dump(mode="json"), "events": list(hook.events)} for hook in found.hooks]
    show_list(found, rows, _HOOKS, options, empty="events are sent nowhere: weighbridge hook create")
    return 0


async def show_hook(options: argparse.Namespace, context: Context) -> int:
    hook = await _ask(options, context, operations.show, hook=options.hook)
    show_answer(hook, options, lines=_lines(hook))
    return 0


async def update(options: argparse.Namespace, context: Context) -> int:
    hook = await _ask(
        options, context, operations.update,
        hook=options.hook, url=options.url, events=options.event, description=options.description, enabled=options.enabled,
    )  # fmt: skip
    show_answer(hook, options, lines=[f"✓ {hook.id} changed", *_lines(hook)[1:]])
    return 0


async def delete(options: argparse.Namespace, context: Context) -> int:
    hook = await _ask(options, context, operations.delete, hook=options.hook)
    show_answer(hook, options, lines=[f"✓ Nothing is sent to {hook.url} any more"])
    return 0


async def rotate(options: argparse.Namespace, context: Context) -> int:
    hours = options.overlap_hours
    made = await _ask(options, context, operations.rotate, hook=options.hook, overlap_seconds=hours * _HOUR_SECONDS)
    until = f"for {hours} hours" if hours else "no more"
    show_answer(made, options, lines=[f"✓ {made.id} has a new secret; the old one signs {until}", *_secret(made)])
    return 0


async def test(options: argparse.Namespace, context: Context) -> int:
    event = await _ask(options, context, operations.test, hook=options.hook)
    show_answer(event, options, lines=[f"✓ {event.id} is on its way: weighbridge hook deliveries {options.hook}"])
    return 0


async def list_types(options: argparse.Namespace, context: Context) -> int:
    found = await context.ask(operations.types, Nothing())
    show_list(found, [row.model_dump() for row in found.types], ("type", "when"), options, empty="there are none")
    return 0


async def list_events(options: argparse.Namespace, context: Context) -> int:
    found = await _ask(options, context, operations.events, type=options.type, limit=options.limit, after=options.after)
    rows = [{**event.model_dump(mode="json"), "happened": _time(event.happened)} for event in found.events]
    show_list(found, rows, _EVENTS, options, empty="nothing happened in the last 30 days")
    return 0


async def list_deliveries(options: argparse.Namespace, context: Context) -> int:
    words = {"hook": options.hook, "status": options.status, "limit": options.limit, "after": options.after}
    found = await _ask(options, context, operations.deliveries, **words)
    rows = [
        {**row.model_dump(mode="json"), "happened": _time(row.happened), "next attempt": _time(row.next_attempt)}
        for row in found.deliveries
    ]
    show_list(found, rows, _DELIVERIES, options, empty="it was told nothing yet")
    return 0


async def replay(options: argparse.Namespace, context: Context) -> int:
    since = None if options.since is None else dt.datetime.combine(read_day(options.since), dt.time(), dt.UTC)
    replayed = await _ask(options, context, operations.replay, hook=options.hook, event=options.event, since=since)
    what = "1 event is" if replayed.events == 1 else f"{replayed.events:,} events are"
    show_answer(replayed, options, lines=[f"✓ {what} on the way"])
    return 0


def _lines(hook: operations.HookRow) -> list[str]:
    lines = [f"Endpoint: {hook.id}", f"  URL: {hook.url}", f"  Events: {' '.join(hook.events)}", f"  Status: {hook.status.value}"]
    if hook.description:
        lines.append(f"  Description: {hook.description}")
    if hook.failing_since is not None:
        lines.append(f"  Failing since: {_time(hook.failing_since)}")
    if hook.disabled_reason is not None:
        lines.append(f"  Disabled: {_time(hook.disabled_at)}, {hook.disabled_reason}")
    return lines


def _secret(made: operations.HookMade) -> list[str]:
    return [f"  Secret: {made.secret}", "  Save it now: it is not shown again."]


def _time(at: dt.datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M}"
