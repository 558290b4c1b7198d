"""gateway.yaml as it is written: the model of the file. config/gateway_read.py resolves it."""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, StrictBool, WithJsonSchema, WrapValidator

from .document import Table
from .faults import Report, unavailable
from .gateway import NAMED, Cost, FromHeader, Held, Messages, Settled, Weighed
from .identity import IdentityShape, ScopeWord
from .limits import ConcurrencyWord, RateShape, RatesWord
from .paths import check_template
from .quotas import FailureRuleWord, QuotaShape
from .settle import SettleShape, is_source, sources
from .shape import Lenient, Shape
from .upstreams import UpstreamShape
from .words import (
    Amount,
    HeaderName,
    NoneIs,
    SecondsWord,
    SizeWord,
    SomeSecondsWord,
    SomeSizeWord,
    amount,
    header_name,
    named,
    one_of,
    shown,
)

FILE = "gateway.yaml"

_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\]")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NAME = r"[a-z][a-z0-9_-]{0,62}"
_FRAMING = frozenset(
    ("connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-connection", "host", "via")
)


def _method(value: Any) -> str:
    if isinstance(value, str) and _METHOD.fullmatch(value):
        return value
    if isinstance(value, str) and _METHOD.fullmatch(value.upper()):
        raise ValueError(f"methods are written in capitals: {value.upper()}")
    raise ValueError(f"{shown(value)} is no method; write it like GET")


def _host(value: Any) -> str:
    if isinstance(value, str) and value.startswith("*."):
        raise ValueError(unavailable(value, "name each host"))
    if not isinstance(value, str) or not _HOST.fullmatch(value.lower().rstrip(".")):
        raise ValueError(f"{shown(value)} is no host name; write it like api.example.com, without scheme and port")
    return value.lower().rstrip(".")


def _template(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no path; write it like /v1/reports/{{id}}")
    return check_template(value)


def _prefix(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value.rstrip("/") == "" or "{" in value or "*" in value:
        raise ValueError(f"{shown(value)} is no prefix; write it like /v1")
    return value.rstrip("/")


def _header_value(value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or not _LINE.fullmatch(str(value)):
        raise ValueError("a header's value is a text in one line; put it in quotes")
    return str(value)


def cost(value: Any) -> Cost | Amount | Held | None:
    """1, 5 kB, bytes, response_bytes, messages, header:X-Pages, json:/usage/tokens, held, none. An Amount waits for its meter's unit."""
    if value == "none":
        return None
    if value == "held":
        return Held()
    if value in ("bytes", "response_bytes", "request_bytes"):
        return Weighed(value)
    if value in ("messages", "response_messages", "request_messages"):
        return Messages(value)
    if isinstance(value, str) and value.startswith("header:"):
        return FromHeader(header_name(value.removeprefix("header:")))
    if is_source(value):
        return Settled(sources=sources(value))
    try:
        found = amount(value)
    except ValueError:
        found = Amount(None)
    if found.number is None:
        raise ValueError(
            f"{shown(value)} is no cost; write a number, bytes, messages, header:X-Name, json:/place, {{settle: …}}, held, or none"
        )
    return found


def _cost_or_settled(value: Any, handler: Callable[[Any], Any]) -> Any:
    return handler(value) if isinstance(value, dict) else cost(value)


_COST_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}, SettleShape.model_json_schema()]}
_CostWord = Annotated[Lenient[SettleShape], WrapValidator(_cost_or_settled), WithJsonSchema(_COST_SCHEMA)]


def _text(check: Any, **schema: Any) -> Any:
    return Annotated[str, PlainValidator(check), WithJsonSchema({"type": "string", **schema})]


def _none_is_empty(value: Any, handler: Callable[[Any], Any]) -> Any:
    return {} if value == "none" else handler(value)


def _or_none(schema: dict[str, Any]) -> Any:
    return WithJsonSchema({"anyOf": [{"const": "none"}, schema]})


_NONE_IS_EMPTY = WrapValidator(_none_is_empty)
_FAILURES = {"type": "array", "items": {"enum": ["unreachable", "5xx", "timeout"]}}
_ChargeWord = Annotated[dict[str, _CostWord], _NONE_IS_EMPTY, _or_none({"type": "object", "additionalProperties": _COST_SCHEMA})]
ReturnOn = one_of(("unreachable", "5xx", "timeout"), {"client_gone": "a client that goes away pays", "4xx": ""})


class TimeoutsShape(Shape):
    """How long to wait for the service."""

    connect: SomeSecondsWord | None = Field(None, description="Until a connection stands. Default 5s.")
    idle: SomeSecondsWord | None = Field(None, description="Between two bytes of the answer. Default 60s.")
    total: SecondsWord = Field(None, description="For the whole exchange; none lets streams live. Default none.")


_CREDENTIAL = re.compile(r"(?:proxy-)?authorization|cookie|.*(?:key|token|secret|password)", re.IGNORECASE)


def _misplaced_secret(path: str, name: str, value: str) -> str | None:
    """A sentence for a credential that stands in the file itself, or is to be told to clients."""
    if path.endswith("response_headers"):
        return "clients read this: only request_headers take ${NAME} from the environment" if NAMED.search(value) else None
    if "${" in NAMED.sub("", value):
        return "write ${NAME} for a variable of the gateway's environment: capitals, digits and _"
    if _CREDENTIAL.fullmatch(name) and not NAMED.search(value):
        return f"`{name}` is a credential, which stands in no file; name the variable that holds it: ${{SERVICE_TOKEN}}"
    return None


class HeadersShape(Shape):
    """Header lines to set and to take away. Towards the service ${NAME} is what the gateway's environment says, or the file NAME_FILE."""

    add: dict[HeaderName, _text(_header_value)] = Field(default_factory=dict, description="Set, in place of what came.")  # type: ignore[valid-type]
    remove: list[HeaderName] = Field(default_factory=list)

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        for word in ("add", "remove"):
            names = table.get(word)
            for name in names if isinstance(names, dict | list) else ():
                if isinstance(name, str) and name.lower() in _FRAMING:
                    report.fault(table, word, f"`{name}` belongs to the connection, which the gateway keeps; leave it out")
        added = table.get("add")
        for name, value in added.items() if isinstance(added, dict) else ():
            if said := _misplaced_secret(table.path, name, str(value)):
                report.fault(added if isinstance(added, Table) else table, name if isinstance(added, Table) else "add", said)


class TenantShape(Shape):
    """How a call says for whom of the organization's own customers it is."""

    header: HeaderName = Field(description="X-Tenant-Id. A token's tenant_claim stands above it.")


class Common(Shape):
    """Words that a route has and `defaults` sets for all."""

    not_built: ClassVar[dict[str, str]] = {"spend_cap": "leave it out"}
    misplaced: ClassVar[dict[str, str]] = {
        "rate": "a rate stands on a route, or in a plan",
        "rates": "rates stand on a route, or in a plan",
        "concurrency": "calls in flight are limited on a route, or in a plan",
        "quotas": "quotas stand on a route, or in a plan",
        "shadow": "write it on the quota, the rate or the concurrency that is to count and never block",
        "price": "prices stand in plans.yaml; a route says what a call weighs (`charge`)",
        "prices": "prices stand in plans.yaml; a route says what a call weighs (`charge`)",
        "method": "write a list: methods: [GET]",
    }

    auth: one_of(("required", "none"), {"optional": "use required or none"}) | None = Field(  # type: ignore[valid-type]
        None, description="required (default) or none. An open route says so, and charges nothing."
    )
    upstream: str | None = Field(None, description="A name from upstreams.")
    charge: _ChargeWord | None = Field(
        None, description="Meter: what one call weighs. Merged over the defaults, meter by meter; none: nothing at all."
    )
    return_on: Annotated[list[ReturnOn], _NONE_IS_EMPTY, _or_none(_FAILURES)] | None = Field(  # type: ignore[valid-type]
        None, description="When units go back: unreachable, 5xx, timeout (all three unless stated)."
    )
    on_store_failure: FailureRuleWord | None = Field(None, description="open, closed or {grace: n}. Default closed.")
    preflight: one_of(("free", "charged")) | None = Field(None, description="CORS preflights: free (default) or charged.")  # type: ignore[valid-type]
    timeouts: TimeoutsShape | None = None
    hide_credentials: StrictBool | None = Field(None, description="true: the service does not see the API key. Default false.")
    scopes: list[ScopeWord] | None = Field(None, description="What a caller's key or token must carry, each of them. Default: nothing.")
    tenant: Annotated[TenantShape | None, NoneIs(None)] = Field(
        None, description="{header: X-Tenant-Id}: usage is kept apart by it, and limits may be per tenant. none: not here."
    )
    request_headers: HeadersShape | None = Field(None, description="Towards the service.")
    response_headers: HeadersShape | None = Field(None, description="Towards the client.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        charge = table.get("charge")
        if not isinstance(charge, Table):
            return
        for meter in charge:
            if unknown := report.unknown_meter(meter):
                report.fault(charge, meter, unknown)


class RouteShape(Common):
    """One route. The most specific wins, wherever it stands in the file."""

    misplaced: ClassVar[dict[str, str]] = {
        **Common.misplaced,
        "limits": "write the limits of a route under `quotas`, `rates` or `concurrency`",
    }

    path: _text(_template, pattern="^/") = Field(description="/v1/chat, /v1/reports/{id}, /docs/*, /*")  # type: ignore[valid-type]
    methods: list[_text(_method)] | None = Field(None, description="[GET, POST]; GET includes HEAD. Default: every method.")  # type: ignore[valid-type]
    hosts: list[_text(_host)] | None = Field(None, description="[api.example.com]. Default: every host.")  # type: ignore[valid-type]
    quotas: list[Lenient[QuotaShape]] = Field(default_factory=list, description="Beside the plan's; all pass or none is charged.")
    rate: Lenient[RateShape] = Field(None, description="How fast: {limit: 5, per: second, burst: 10}")
    rates: RatesWord = Field(default_factory=list, description="Several of them.")
    concurrency: ConcurrencyWord = Field(default_factory=list, description="Calls in flight: 2, {limit: 2, by: key}, or a list.")
    strip_prefix: _text(_prefix) | None = Field(None, description="/v1: taken off the path that the service sees.")  # type: ignore[valid-type]
    host: one_of(("preserve", "upstream")) | None = Field(None, description="Which Host the service sees. Default: its upstream's.")  # type: ignore[valid-type]

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        super().contradictions(table, report)
        host = table.get("host")
        if isinstance(host, str) and "." in host:
            report.fault(table, "host", "`host` says which Host the service sees; to match a host, write hosts: [" + host + "]")
        if "rate" in table and "rates" in table:
            report.fault(table, "rate", "write them all under `rates`")
        for word in ("methods", "hosts"):
            if table.get(word) == []:
                report.fault(table, word, f"an empty list matches nothing; leave `{word}` out to match all")


class LimitsShape(Shape):
    """What a client may send."""

    line: SomeSizeWord | None = Field(None, description="The request line. Default 8 kB.")
    headers: SomeSizeWord | None = Field(None, description="All header lines together. Default 32 kB.")
    header_count: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="Header lines. Default 100.")
    body: SizeWord = Field(None, description="A request's body; none is unlimited. Default none.")
    header_timeout: SomeSecondsWord | None = Field(None, description="Until the head is complete. Default 10s.")
    keepalive: SomeSecondsWord | None = Field(None, description="How long an idle connection is kept. Default 75s.")


class GatewayFile(Shape):
    """gateway.yaml: what comes in, who sends it, what it weighs. No prices here."""

    misplaced: ClassVar[dict[str, str]] = {
        "plans": "plans stand in plans.yaml",
        "prices": "prices stand in plans.yaml",
        "meters": "meters stand in meters.yaml",
        "quotas": "quotas stand in plans.yaml, or on a route",
    }

    upstreams: dict[_text(named(_NAME, "name for an upstream", "app"), pattern=f"^{_NAME}$"), Lenient[UpstreamShape]]  # type: ignore[valid-type]
    identity: list[Lenient[IdentityShape]] | None = Field(None, description="The first credential present decides.")
    defaults: Lenient[Common] = Field(None, description="Every route inherits these.")
    limits: LimitsShape | None = None
    x_ratelimit_headers: StrictBool = Field(
        False, description="true: X-RateLimit-Limit, -Remaining and -Reset beside RateLimit and RateLimit-Policy."
    )
    routes: list[Lenient[RouteShape]] = Field(min_length=1)
