"""Every operation there is. A noun's file lists its own; this is the only list of the files."""

from typing import Any

from billing.operations import (
    alerts,
    audit,
    bypasses,
    caps,
    closing,
    coupons,
    credits,  # noqa: A004  the word of the trade
    customers,
    events,
    exports,
    features,
    hooks,
    imports,
    inbox,
    invoice_acts,
    invoices,
    keys,
    mails,
    orgs,
    outbox,
    payments,
    plans,
    quotas,
    subscriptions,
    tokens,
    trials,
    usage,
)
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
    *quotas.OPERATIONS,
    *alerts.OPERATIONS,
    *caps.OPERATIONS,
    *features.OPERATIONS,
    *events.OPERATIONS,
    *imports.OPERATIONS,
    *exports.OPERATIONS,
    *subscriptions.OPERATIONS,
    *customers.OPERATIONS,
    *payments.OPERATIONS,
    *invoices.OPERATIONS,
    *invoice_acts.OPERATIONS,
    *coupons.OPERATIONS,
    *credits.OPERATIONS,
    *closing.OPERATIONS,
    *plans.OPERATIONS,
    *trials.OPERATIONS,
)


def by_name(name: str) -> Operation[Any, Any]:
    """Raises KeyError."""
    return _NAMES[name]


_NAMES = {operation.name: operation for operation in OPERATIONS}
