"""Who changed what, when, from what to what. Written by the database itself, in the transaction of each change; read here."""

from billing.model.organization import is_uuid
from billing.services import lookup
from billing.services.ports import AuditEntry, Books
from metering.model.errors import BadInput

MOST = 100_000


class Audit:
    """What the command line asks for."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def entries(
        self, *, org_ref: str | None = None, since_ms: int = 0, limit: int = 100, before_id: int | None = None
    ) -> list[AuditEntry]:
        """The newest so many since then, before that entry, in the order they happened. With `org_ref`, what concerns one organization,
        read so that nothing of another is in reach. Raises NoSuchOrganization, BadInput."""
        if not 0 < limit <= MOST:
            raise BadInput(f"from 1 to {MOST:,} entries can be asked for at once")
        if org_ref is None:
            async with self._books.transaction() as unit:
                return await unit.audit.entries(None, since_ms, limit, before_id)
        org_id = org_ref if is_uuid(org_ref) else await self._id_of(org_ref)  # by its id a deleted one too
        async with self._books.transaction(org=org_id) as unit:
            return await unit.audit.entries(org_id, since_ms, limit, before_id)

    async def _id_of(self, slug: str) -> str:
        async with self._books.transaction() as unit:
            return (await lookup.organization(unit, slug)).id
