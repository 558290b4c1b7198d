"""The grammar of a ledger field: one row of usage, as a field of the live hash.

  <minute>|<period start>|<org>|<measure>|<route>|<method>|<key>|<dimensions>

`minute` and `period start` are whole minutes and seconds since the epoch. A measure is a meter's name (quantity charged,
net of returns), `^<meter>` (units returned), `?<meter>` and `^?<meter>` (the same for calls with test keys: a meter of their own,
which no plan can price) or a fact that is never priced: `#1`…`#5` exchanges by status class, `#ms` their duration, `#in` and
`#out` their body bytes. Meter names match [a-z][a-z0-9_]*, so no measure holds a `|`.
"""

import json
from dataclasses import dataclass

RETURNED = "^"
FACT = "#"
TEST = "?"

TENANT = "tenant"  # the dimension that names the organization's own customer; empty for calls that named none
TENANTS_A_DAY = 1_000  # have a name of their own in an organization's usage of a day; then they are …
OTHER = "other"

MARKS_KEPT_DAYS = 100
"""How long it is remembered what Postgres has of a gateway process that is gone. Until then its journal may be handed in again."""
JOURNALS_TAKEN_DAYS = 90
"""A journal that ends longer ago than this is not taken unasked: clocks differ, and what nobody remembers would be counted again."""


@dataclass(frozen=True, slots=True)
class Row:
    """The identity of a quantity in the ledger."""

    minute: int  # minutes since the epoch
    period_start: int  # seconds since the epoch
    org_id: str
    measure: str
    route_id: int
    method: str
    key_id: int
    dimensions: str = ""  # JSON object with sorted keys, or empty


def row_field(
    minute: int, period_start: int, org_id: str, measure: str, route_id: int, method: str, key_id: int, dimensions: str = ""
) -> str:
    """The field of these facts. The inverse of `parse`."""
    return f"{minute}|{period_start}|{org_id}|{measure}|{route_id}|{method}|{key_id}|{dimensions}"


def parse(field: str) -> Row:
    """The row behind a field. Raises ValueError on anything else."""
    minute, period_start, org_id, measure, route_id, method, key_id, dimensions = field.split("|", 7)
    return Row(int(minute), int(period_start), org_id, measure, int(route_id), method, int(key_id), dimensions)


def tenant_dimension(tenant: str) -> str:
    """The dimensions of a call for this tenant."""
    return json.dumps({TENANT: tenant}, separators=(",", ":"))
