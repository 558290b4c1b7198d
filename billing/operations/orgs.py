"""Organizations: who is billed."""

from datetime import UTC, datetime

from billing.model.subscription import State
from billing.operations.operation import About, Call, Model, Nothing, operation


class OrgRow(Model):
    id: str
    slug: str
    name: str
    plan: str | None
    status: State | None
    created: datetime


class OrgList(Model):
    orgs: tuple[OrgRow, ...]


@operation("GET", "/orgs", name="org.list", about=About.ALL)
async def list_all(call: Call, ask: Nothing) -> OrgList:
    """Every organization, by slug."""
    return OrgList(
        orgs=tuple(
            OrgRow(
                id=org.id, slug=org.slug, name=org.name, plan=s.plan if s else None, status=s.state if s else None,
                created=datetime.fromtimestamp(org.created_at_ms / 1000, UTC),
            )
            for org, s in await call.billing.orgs.all()
        )
    )  # fmt: skip


OPERATIONS = (list_all,)
