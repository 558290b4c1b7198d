"""Every operation there is. A noun's file lists its own; this is the only list of the files."""

from typing import Any

from billing.operations import audit, bypasses, hooks, inbox, keys, mails, orgs, outbox, subscriptions, tokens, usage
from billing.operations.operation import Operation

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *hooks.OPERATIONS,
    *orgs.OPERATIONS,
    *keys.OPERATIONS,
    *tokens.OPERATIONS,
    *audit.OPERATIONS,
    *bypasses.OPERATIONS,
    *inbox.OPERATIONS,
    *mails.OPERATIONS,
    *outbox.OPERATIONS,
    *usage.OPERATIONS,
    *subscriptions.OPERATIONS,
)


def by_name(name: str) -> Operation[Any, Any]:
    """Raises KeyError."""
    return _NAMES[name]


_NAMES = {operation.name: operation for operation in OPERATIONS}
