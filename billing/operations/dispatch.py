"""Carries out operations for whoever asks: the scope is checked, the organization found, and what only reads is held to it."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from billing.operations.operation import About, Call, Facts, Model, Operation
from billing.operations.text import unstorable_field
from billing.services.access import Access, Caller
from billing.services.repeats import Repeats
from billing.services.use_cases import Billing
from metering.model.clock import Clock
from metering.model.errors import BadInput, WeighbridgeError

A = TypeVar("A", bound=Model)
R = TypeVar("R")
BillingFor = Callable[[str | None, str | None], Billing]  # (organization's id, actor) -> the use cases, held to it


class ForEverybody(WeighbridgeError):
    """This takes a token for every organization; yours is bound to one."""

    code, http_status = "bound_token", 403


class TokenWanted(WeighbridgeError):
    """This takes a token: an API key reads usage, quotas and the subscription."""

    code, http_status = "token_wanted", 403


class Dispatch:
    """`billing` makes the use cases of one call: bound to an organization they only read what is its own."""

    def __init__(self, billing: BillingFor, facts: Callable[[], Facts], clock: Clock) -> None:
        self._billing, self._facts, self._clock = billing, facts, clock

    @property
    def access(self) -> Access:
        return self._billing(None, None).access

    @property
    def repeats(self) -> Repeats:
        return self._billing(None, None).repeats

    async def open(
        self, operation: Operation[Any, Any], *, caller: Caller, org: str | None = None, body: AsyncIterator[bytes] | None = None
    ) -> Call:
        """Whoever gets a call may carry the operation out. `org` names an organization, by id or slug. Raises ScopeMissing, ForEverybody,
        NoSuchOrganization, and BadInput where none is named and the caller is bound to none."""
        caller.must(operation.need)
        if operation.by_token and caller.by_key:
            raise TokenWanted()
        if caller.org_id is not None and (operation.about is About.ALL or operation.unbound):
            raise ForEverybody()
        org_id = await self.access.organization(caller, org) if _about_one(operation, caller, org) else None
        held = org_id if operation.reads and caller.org_id is not None else None
        billing = self._billing(held, caller.name)
        return Call(billing=billing, caller=caller, facts=self._facts(), now_ms=self._clock.now_ms(), org_id=org_id, body=body)

    async def perform(
        self, operation: Operation[A, R], ask: A, *, caller: Caller, org: str | None = None, body: AsyncIterator[bytes] | None = None
    ) -> R:
        """Raises what `open` and the operation raise."""
        return await operation.run(await self.open(operation, caller=caller, org=org, body=body), ask)


def _about_one(operation: Operation[Any, Any], caller: Caller, org: str | None) -> bool:
    return operation.about is About.ORG or (operation.about is not About.ANYBODY and (org is not None or caller.org_id is not None))


def asked(operation: Operation[A, Any], values: Mapping[str, Any]) -> A:
    """The question, from what a door has read. Raises BadInput that names every field that will not do."""
    if (field := unstorable_field(values)) is not None:
        problem = "text has neither NUL nor lone surrogates"
        raise BadInput(f"{field}: {problem}", faults=[{"field": field, "problem": problem}])
    try:
        return operation.ask.model_validate(values)
    except ValidationError as exc:
        raise misasked(exc) from None


def misasked(error: ValidationError) -> BadInput:
    """Names every field that will not do, and repeats none of what stood there."""
    faults = [{"field": ".".join(map(str, fault["loc"])) or "(all)", "problem": fault["msg"]} for fault in error.errors()]
    return BadInput("; ".join(f"{fault['field']}: {fault['problem']}" for fault in faults), faults=faults)
