"""What went out and what waits, as rows to look at: mails to customers, and what Stripe is told."""

from collections.abc import Sequence

from billing.model.delivery import State
from billing.model.mail_delivery import MailState
from billing.services.ports import Books
from billing.services.ports_mail import MailRow
from billing.services.ports_outbox import Kept, NoSuchRow, OutboxCarer
from metering.model.errors import DependencyUnavailable


class MailLog:
    """Mails, whatever became of them."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def newest(
        self, org_id: str | None = None, state: MailState | None = None, limit: int = 50, before_id: int | None = None
    ) -> list[MailRow]:
        """Newest first, of those before that one; with `org_id`, of one organization."""
        async with self._books.transaction() as unit:
            return await unit.mails.newest(org_id, state, limit, before_id)


class OutboxLog:
    """What Stripe is to be told. `carer` None: nobody here can send a row again."""

    def __init__(self, books: Books, carer: OutboxCarer | None = None) -> None:
        self._books, self._carer = books, carer

    async def all(self, states: Sequence[State], limit: int, before_id: int | None = None) -> list[Kept]:
        """Newest first; of those before that one."""
        async with self._books.transaction() as unit:
            return await unit.outbox.kept(states, limit, before_id)

    async def one(self, ref: str) -> Kept:
        """By number or identifier. Raises NoSuchRow."""
        async with self._books.transaction() as unit:
            found = await unit.outbox.find(ref)
        if found is None:
            raise NoSuchRow(f"the outbox has no row {ref!r}; `weighbridge outbox list` shows those that stopped")
        return found

    async def retry(self, ref: str) -> Kept:
        """As it stands afterwards. Raises NoSuchRow, MayDouble, Conflict for a row that has not stopped, DependencyUnavailable."""
        if self._carer is None:
            raise DependencyUnavailable("there is no Stripe to tell: set STRIPE_API_KEY, or run `weighbridge up`, which brings a sandbox")
        await self._carer.retry(ref)
        return await self.one(ref)
