"""`weighbridge org`: create, list, show and delete organizations."""

import argparse
import sys
from typing import Any

from billing.operations import orgs as operations
from billing.operations.operation import Nothing
from billing.operations.pages import AskPage

from .context import Context
from .output import row_of, say, show_answer, show_list
from .pages import ask_pages
from .verbs import confirmed, nouns_verbs, one_org, org_argument, verb
from .words import moment


def add(nouns: Any) -> None:
    verbs = nouns_verbs(nouns, "org", "organizations: create, list, show, delete")
    create = verb(
        verbs, "create", "a new organization with a subscription and a first key, shown once", create_org, org=False,
        example='weighbridge org create "Acme Corp" --plan pro --email billing@acme.example',
    )  # fmt: skip
    create.add_argument("name")
    create.add_argument("--plan", help="default: BILLING_DEFAULT_PLAN")
    create.add_argument("--slug", help="default: made from the name")
    create.add_argument("--email", help="where its invoices go")
    create.add_argument("--zone", default="UTC", help="whose summer time its billing periods follow: Europe/Berlin (default: UTC)")
    create.add_argument("--test-key", action="store_true", help="its first key is wbk_test_…")
    verb(verbs, "list", "all organizations", list_orgs, org=False, example="weighbridge org list --format csv")
    show = verb(verbs, "show", "one organization with its keys and overrides", show_org, example="weighbridge org show acme-corp")
    delete = verb(verbs, "delete", "its keys stop at once", delete_org, example="weighbridge org delete acme-corp --yes")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    for parser in (show, delete):
        org_argument(parser)


def unpublished(published: bool) -> None:
    """The change is stored; say so where the gateways do not know yet."""
    if not published:
        sys.stderr.write("weighbridge: stored, but Redis is not there: control tells the gateways once it is\n")


async def create_org(options: argparse.Namespace, context: Context) -> int:
    made = await context.ask(
        operations.create,
        operations.CreateOrg(
            name=options.name, plan=options.plan, slug=options.slug, email=options.email, zone=options.zone, test_key=options.test_key
        ),
    )
    lines = [
        f"Organization {made.slug} on plan {made.plan}",
        f"  id       {made.id}",
        f"  api key  {made.api_key}   (shown this once: we store only its hash)",
    ]
    show_answer(made, options, lines=lines)
    unpublished(made.told_gateways)
    return 0


async def list_orgs(options: argparse.Namespace, context: Context) -> int:
    found = await ask_pages(context, operations.list_all, AskPage(), "orgs")
    rows = [row_of(org) for org in found.orgs]
    empty = "No organizations. weighbridge org create NAME makes one."
    show_list(found, rows, ("slug", "name", "plan", "status", "created", "id"), options, empty=empty)
    return 0


async def show_org(options: argparse.Namespace, context: Context) -> int:
    one_org(options)
    found = await context.ask(operations.show, Nothing())
    facts = row_of(found)
    names = ("slug", "name", "id", "plan", "plan_version", "status", "anchor", "created")
    lines = [f"{name.replace('_', ' '):<13} {facts[name]}" for name in names]
    lines += [f"key           {key.id}  {key.hint}  {key.status}  {key.label}".rstrip() for key in found.keys]
    lines += [
        f"override      {o.quota} {o.limit} {o.mode} until {moment(o.until) if o.until else 'further notice'}: {o.reason}"
        for o in found.overrides
    ]
    show_answer(found, options, lines=lines)
    return 0


async def delete_org(options: argparse.Namespace, context: Context) -> int:
    ref = one_org(options)
    if ref is None:
        sys.stderr.write("weighbridge: which organization? Give its id or slug\n")
        raise SystemExit(2)
    if not confirmed(f"Delete {ref}? Its keys stop working at once; its usage stays on record.", options):
        say("Nothing was deleted.")
        return 1
    gone = await context.ask(operations.delete, Nothing())
    show_answer(gone, options, lines=[f"Deleted {gone.slug}; its keys are refused from now on"])
    unpublished(gone.told_gateways)
    return 0
