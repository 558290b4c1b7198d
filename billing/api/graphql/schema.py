"""The schema as text: the guide's types, and for each table that may be asked for the types that Hasura would give it; and the scalars."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, NoReturn
from uuid import UUID

from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema, build_schema

from billing.model.rowquery import COMPARED, CURRENT, SUMMED, TABLES, Compare, Direction, Kind

PREFIX = "billing_"
_LARGEST = 2**63

GUIDE = """
scalar uuid
scalar timestamptz
"A number as JSON has it; whole ones stay whole."
scalar float8
scalar date
"A whole number of up to 64 bits."
scalar bigint
"An exact number, written as text: \\"35.00\\"."
scalar numeric

enum UsageStatus { OK WARNING EXCEEDED }
enum QuotaMode { HARD SOFT OVERAGE THROTTLE }
enum QuotaWindow { HOUR DAY PERIOD MONTH }
enum InvoiceStatus { DRAFT OPEN PAID UNPAID PAST_DUE VOID UNCOLLECTIBLE }

"What is used of one service now, in its display unit. `quota` and `percentage` are null where nothing limits."
type Usage { service: String!  current: Float!  quota: Float  percentage: Float  status: UsageStatus!  unit: String! }

"One service's widest quota. `quota` is null where nothing limits."
type Quota {
  service: String!  quota: Float  current: Float!  remaining: Float  percentage: Float  status: UsageStatus!  mode: QuotaMode
  window: QuotaWindow!  unit: String!  reset_at: timestamptz!
}

type Feature { key: String!  label: String!  number: Int }

"A plan as the subscription has it. `price` is null where it is sold by agreement."
type Plan { name: String!  title: String!  version: Int!  price: numeric  every: String!  features: [Feature!]! }

type Subscription {
  id: ID!  org: String!  plan: Plan!  status: String!  currency: String!  period_start: timestamptz!  period_end: timestamptz!
  next_charge: timestamptz  next_amount: numeric  next_plan: String  ends: timestamptz  ended: Boolean!  auto_renew: Boolean!
  trial_end: timestamptz
}

type InvoiceLine { description: String!  quantity: numeric!  unit_price: numeric  amount: numeric! }

type Invoice {
  id: ID!  number: String  status: InvoiceStatus!  date: timestamptz!  currency: String!  period_start: timestamptz!
  period_end: timestamptz!  due_date: timestamptz  paid_date: timestamptz  subtotal: numeric!  discount: numeric!  tax: numeric!
  total: numeric!  amount_due: numeric!  amount_paid: numeric!  amount_remaining: numeric!  lines: [InvoiceLine!]!
}

type PaymentMethod {
  id: ID!  type: String!  brand: String  last4: String  exp_month: Int  exp_year: Int  default: Boolean!  title: String!
}

type Mutation {
  "To another plan now, prorated by the second."
  upgradeSubscription(plan: String!): Subscription!
  "At the end of the period."
  cancelSubscription: Subscription!
  "One that was made at Stripe (pm_…)."
  addPaymentMethod(token: String!): PaymentMethod!
}

schema { query: Query  mutation: Mutation  subscription: Live }

"What changes, as it changes, over server-sent events."
type Live {
  "At once, and whenever a figure is another."
  usage(service: String): [Usage!]!
}

type Query {
  usage(service: String): [Usage!]!
  quota(service: String): [Quota!]!
  subscription: Subscription
  "The newest first; 50 unless `limit` says otherwise, at most 200."
  invoices(limit: Int, status: InvoiceStatus): [Invoice!]!
"""

_NAMES: Mapping[Kind, str] = {
    Kind.UUID: "uuid", Kind.TEXT: "String", Kind.INTEGER: "Int", Kind.BIGINT: "bigint", Kind.NUMERIC: "numeric", Kind.FLOAT: "float8",
    Kind.BOOLEAN: "Boolean", Kind.INSTANT: "timestamptz", Kind.DATE: "date",
}  # fmt: skip


def text() -> str:
    """The whole schema."""
    tables = {**TABLES, "usage_current": CURRENT}
    roots = [line for name in tables for line in _roots(name, aggregated=name in TABLES)]
    parts = [GUIDE + "".join(f"  {line}\n" for line in roots) + "}", f"enum order_by {{ {' '.join(Direction)} }}"]
    parts += [_comparison(name) for name in dict.fromkeys(_NAMES.values())]
    parts += [part for name, columns in tables.items() for part in _types(PREFIX + name, columns)]
    parts += [part for name, columns in TABLES.items() for part in _aggregates(PREFIX + name, columns)]
    return "\n".join(parts)


def _roots(name: str, *, aggregated: bool) -> list[str]:
    table = PREFIX + name
    words = f"(where: {table}_bool_exp, order_by: [{table}_order_by!], limit: Int, offset: Int)"
    return [f"{table}{words}: [{table}!]!", *([f"{table}_aggregate{words}: {table}_aggregate!"] if aggregated else [])]


def _comparison(scalar: str) -> str:
    words = [f"{c}: [{scalar}!]" if c in (Compare.ONE_OF, Compare.NONE_OF) else f"{c}: {scalar}" for c in Compare if c != Compare.IS_NULL]
    return f"input {scalar}_comparison_exp {{ {' '.join(words)} {Compare.IS_NULL}: Boolean }}"


def _types(table: str, columns: Mapping[str, Kind]) -> list[str]:
    return [
        f"type {table} {{ {_fields(columns)} }}",
        f"input {table}_bool_exp {{ _and: [{table}_bool_exp!] _or: [{table}_bool_exp!] _not: {table}_bool_exp "
        + " ".join(f"{name}: {_NAMES[kind]}_comparison_exp" for name, kind in columns.items())
        + " }",
        f"input {table}_order_by {{ {' '.join(f'{name}: order_by' for name in columns)} }}",
    ]


def _aggregates(table: str, columns: Mapping[str, Kind]) -> list[str]:
    summed = {name: kind for name, kind in columns.items() if kind in SUMMED}
    sums = {name: Kind.NUMERIC if kind is Kind.NUMERIC else Kind.BIGINT for name, kind in summed.items()}
    figures = {
        "sum": sums, "avg": dict.fromkeys(summed, Kind.NUMERIC), "min": {n: k for n, k in columns.items() if k in COMPARED},
        "max": {n: k for n, k in columns.items() if k in COMPARED},
    }  # fmt: skip
    figures = {name: fields for name, fields in figures.items() if fields}
    return [
        f"type {table}_aggregate {{ aggregate: {table}_aggregate_fields nodes: [{table}!]! }}",
        f"type {table}_aggregate_fields {{ count: Int! {' '.join(f'{f}: {table}_{f}_fields' for f in figures)} }}",
        *(f"type {table}_{f}_fields {{ {_fields(fields)} }}" for f, fields in figures.items()),
    ]


def _fields(columns: Mapping[str, Kind]) -> str:
    return " ".join(f"{name}: {_NAMES[kind]}" for name, kind in columns.items())


def schema() -> GraphQLSchema:
    """With the scalars' meanings, without resolvers."""
    built = build_schema(text())
    for name, (read, write) in _SCALARS.items():
        scalar = built.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)
        built.type_map[name].__dict__.update(GraphQLScalarType(name, coerce_input_value=read, coerce_output_value=write).__dict__ | {
            "description": scalar.description, "ast_node": scalar.ast_node,
        })  # fmt: skip
    return built


def _read_uuid(value: Any) -> UUID:
    with _refusing("uuid", value):
        if len(value) == 36:
            return UUID(value)
    _refuse("uuid", value)


def _read_instant(value: Any) -> datetime:
    """A day is its first instant; what names no zone is UTC."""
    with _refusing("timestamptz", value):
        read = datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)


def _read_date(value: Any) -> dt.date:
    with _refusing("date", value):
        return dt.date.fromisoformat(value)


def _read_bigint(value: Any) -> int:
    with _refusing("bigint", value):
        read = int(_figures(value, 20))
        if -_LARGEST <= read < _LARGEST:
            return read
    _refuse("bigint", value)


def _read_numeric(value: Any) -> Decimal:
    with _refusing("numeric", value):
        read = Decimal(_figures(value, 40))
        if read.is_finite() and abs(read.adjusted()) < 40:
            return read
    _refuse("numeric", value)


def _read_float(value: Any) -> float:
    with _refusing("float8", value):
        read = float(_figures(value, 40))
        if isfinite(read):
            return read
    _refuse("float8", value)


def _figures(value: Any, longest: int) -> str:
    """A number, or its text. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    if isinstance(value, int) and abs(value) >= 10**longest:
        raise ValueError
    if len(str(value)) > longest:
        raise ValueError
    return str(value)


@contextmanager
def _refusing(kind: str, value: Any) -> Iterator[None]:
    """What is of another type, or cannot be read, is no such value."""
    try:
        yield
    except (TypeError, AttributeError, ValueError, OverflowError, ArithmeticError):
        _refuse(kind, value)


def _refuse(kind: str, value: Any) -> NoReturn:
    raise GraphQLError(f"{str(value)[:60]!r} is no {kind}")


def _write_instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


_SCALARS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "uuid": (_read_uuid, str),
    "timestamptz": (_read_instant, _write_instant),
    "date": (_read_date, lambda value: value.isoformat()),
    "float8": (_read_float, lambda value: int(value) if float(value).is_integer() else float(value)),
    "bigint": (_read_bigint, int),
    "numeric": (_read_numeric, lambda value: format(value, "f")),
}
