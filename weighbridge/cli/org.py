"""`weighbridge org`: create, list, show and delete organizations."""

import argparse
import sys
from typing import Any

from billing.model.limits import concurrency_to_json, rate_to_json, terms_to_json
from billing.model.organization import ApiKey
from billing.services.ports import LimitRow, QuotaRow
from metering.model.clock import isoformat
from metering.model.quota import Rate

from .context import Context, add_folders
from .limits import limit_words
from .output import add_format, say, show, show_rows


def add(nouns: Any) -> None:
    verbs = nouns.add_parser("org", help="organizations: create, list, show, delete").add_subparsers(
        dest="verb", metavar="verb", required=True
    )
    create = _verb(verbs, "create", "a new organization with a subscription and a first key, shown once", create_org)
    create.add_argument("name")
    create.add_argument("--plan", help="default: BILLING_DEFAULT_PLAN")
    create.add_argument("--slug", help="default: made from the name")
    create.add_argument("--email", help="where its invoices go")
    create.add_argument("--zone", default="UTC", help="whose summer time its billing periods follow: Europe/Berlin (default: UTC)")
    create.add_argument("--test-key", action="store_true", help="its first key is wbk_test_…")
    _verb(verbs, "list", "all organizations", list_orgs)
    for name, text, run in (
        ("show", "one organization with its keys and overrides", show_org),
        ("delete", "its keys stop at once", delete_org),
    ):
        verb = _verb(verbs, name, text, run)
        verb.add_argument("org", nargs="?", help="id or slug")
        verb.add_argument("--org", dest="org_option", metavar="ORG", help="id or slug")
        if name == "delete":
            verb.add_argument("--yes", action="store_true", help="do not ask")


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_folders(parser)
    add_format(parser)
    parser.set_defaults(run=run)
    return parser


def unpublished(published: bool) -> None:
    """The change is stored; say so where the gateways do not know yet."""
    if not published:
        sys.stderr.write("weighbridge: stored, but Redis is not there: control tells the gateways once it is\n")


async def create_org(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        plan = options.plan or context.settings.billing_default_plan
        made = await billing.orgs.create(
            options.name, plan=plan, slug=options.slug, email=options.email, test_key=options.test_key, zone=options.zone
        )  # fmt: skip
    value = {
        "id": made.org.id, "slug": made.org.slug, "name": made.org.name, "plan": made.subscription.plan,
        "plan_version": made.subscription.plan_version, "api_key": made.api_key,
    }  # fmt: skip
    show(
        value,
        options,
        lines=[
            f"Organization {made.org.slug} on plan {made.subscription.plan}",
            f"  id       {made.org.id}",
            f"  api key  {made.api_key}   (shown this once: we store only its hash)",
        ],
    )
    unpublished(made.published)
    return 0


async def list_orgs(options: argparse.Namespace, context: Context) -> int:
    async with context.billing() as billing:
        found = await billing.orgs.all()
    rows = [
        {
            "id": org.id, "slug": org.slug, "name": org.name, "plan": subscription.plan if subscription else None,
            "status": subscription.state.value if subscription else None, "created": isoformat(org.created_at_ms),
        }
        for org, subscription in found
    ]  # fmt: skip
    show_rows(
        rows, ("slug", "name", "plan", "status", "created", "id"), options, empty="No organizations. weighbridge org create NAME makes one."
    )
    return 0


async def show_org(options: argparse.Namespace, context: Context) -> int:
    ref = which(options)
    async with context.billing() as billing:
        view = await billing.orgs.show(ref)
    now_ms, org, subscription = context.clock.now_ms(), view.org, view.subscription
    value: dict[str, Any] = {
        "id": org.id,
        "slug": org.slug,
        "name": org.name,
        "plan": subscription.plan if subscription else None,
        "plan_version": subscription.plan_version if subscription else None,
        "status": subscription.state.value if subscription else None,
        "anchor": isoformat(subscription.anchor_ms) if subscription else None,
        "created": isoformat(org.created_at_ms),
        "keys": [key_row(key, now_ms) for key in view.keys],
        "overrides": [
            {
                **override_facts(row), "reason": row.reason,
                "until": isoformat(row.until_ms) if row.until_ms is not None else None, "managed_by": row.managed_by,
            }
            for row in view.overrides
        ],
    }  # fmt: skip
    lines = [
        f"{name.replace('_', ' '):<13} {value[name]}"
        for name in ("slug", "name", "id", "plan", "plan_version", "status", "anchor", "created")
    ]
    lines += [f"key           {key['id']}  {key['hint']}  {key['status']}  {key['label']}".rstrip() for key in value["keys"]]
    lines += [
        f"override      {o['quota']} {o['limit']} {o['mode']} until {o['until'] or 'further notice'}: {o['reason']}"
        for o in value["overrides"]
    ]
    show(value, options, lines=lines)
    return 0


async def delete_org(options: argparse.Namespace, context: Context) -> int:
    ref = which(options)
    if not options.yes and sys.stdin.isatty():
        sys.stderr.write(f"Delete {ref}? Its keys stop working at once; its usage stays on record. (y/N) ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("Nothing was deleted.")
            return 1
    async with context.billing() as billing:
        org, published = await billing.orgs.delete(ref)
    show({"id": org.id, "slug": org.slug, "deleted": True}, options, lines=[f"Deleted {org.slug}; its keys are refused from now on"])
    unpublished(published)
    return 0


def which(options: argparse.Namespace) -> str:
    """The organization named as an argument or by --org. Ends with the usage error where there is none, or two."""
    if options.org and options.org_option and options.org != options.org_option:
        sys.stderr.write(f"weighbridge: two organizations are named, {options.org} and {options.org_option}; name one\n")
        raise SystemExit(2)
    ref: str | None = options.org_option or options.org
    if ref is None:
        sys.stderr.write("weighbridge: which organization? Give its id or slug\n")
        raise SystemExit(2)
    return ref


def key_row(key: ApiKey, now_ms: int) -> dict[str, Any]:
    """A key as lists show it."""
    return {
        "id": key.id,
        "kind": key.kind.value,
        "hint": key.hint,
        "label": key.label,
        "status": key.status(now_ms),
        "test": key.test,
        "imported": key.imported,
        "scopes": list(key.grants.scopes),
        "limits": limit_words(key.grants),
        "created": isoformat(key.created_at_ms),
        "expires": isoformat(key.expires_at_ms) if key.expires_at_ms is not None else None,
        "replaced_by": key.replaced_by,
    }


def override_facts(row: QuotaRow | LimitRow) -> dict[str, Any]:
    """What stands in for the plan's."""
    if isinstance(row, QuotaRow):
        return {"quota": row.quota.name, "limit": row.quota.limit, "mode": row.quota.mode.value, **terms_to_json(row.quota)}
    if isinstance(row.limit, Rate):
        return {"quota": row.limit.name, "mode": "rate", **rate_to_json(row.limit)}
    return {"quota": row.limit.name, "mode": "in flight", **concurrency_to_json(row.limit)}
