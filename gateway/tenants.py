"""For whom of an organization's own customers a call is: named by the caller's token, or by a header of the call.

Limits may be by tenant, and usage is kept apart by it: the first thousand names of an organization's day, then others.
The exact bound is the aggregator's; here it only keeps a worker's memory and journal in bounds.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from config.gateway import Route
from metering.model.errors import BadInput
from metering.model.ledger import OTHER, TENANTS_A_DAY, tenant_dimension

_NAME = re.compile(r"[A-Za-z0-9._~:@+-]{1,64}")
_ORGS_KEPT = 1_000
_DAY_MS = 86_400_000


class TenantFaulty(BadInput):
    """The tenant's name will not do: once, 1 to 64 letters, digits, or one of . _ ~ : @ + -"""

    code = "tenant_faulty"


class Names(Protocol):
    """A parsed request head."""

    @property
    def names(self) -> Sequence[bytes]: ...

    def header(self, lower_name: bytes) -> bytes | None: ...


def tenant_of(request: Names, route: Route, claimed: str | None) -> str:
    """The tenant of a call on a route that tells tenants apart; empty where it names none. What the token `claimed` stands above
    the header. Raises TenantFaulty."""
    if claimed is not None:
        return claimed
    field = route.tenant_header.encode() if route.tenant_header is not None else b""
    value = request.header(field) if field else None
    if value is None:
        return ""
    name = value.decode("latin-1").strip()
    if not _NAME.fullmatch(name) or request.names.count(field) > 1:  # of two the service may read the other
        raise TenantFaulty(header=route.tenant_header)
    return name


class TenantNames:
    """The names that have appeared here today, organization by organization."""

    def __init__(self) -> None:
        self._day = 0
        self._seen: dict[str, set[str]] = {}

    def dimension(self, org_id: str, tenant: str, now_ms: int) -> str:
        """The dimensions of this tenant's usage."""
        day = now_ms // _DAY_MS
        if day != self._day or (len(self._seen) >= _ORGS_KEPT and org_id not in self._seen):
            self._day, self._seen = day, {}
        seen = self._seen.setdefault(org_id, set())
        if tenant not in seen:
            if len(seen) >= TENANTS_A_DAY:
                return tenant_dimension(OTHER)
            seen.add(tenant)
        return tenant_dimension(tenant)
