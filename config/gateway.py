"""The gateway's configuration, resolved: every default filled in, every rule merged. What the data plane reads.

Plain slotted data, frozen, cheap to import. config/gateway_file.py makes it from gateway.yaml.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from metering.model.quota import CLOSED, Concurrency, FailureRule, Quota, Rate

DEFAULT_UPSTREAM = "app"

HostHeader = Literal["preserve", "upstream"]
Balance = Literal["round_robin", "least_connections"]
Failure = Literal["unreachable", "5xx", "timeout"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """So many base units a call, known before it is forwarded. None of a level: its quota refuses the call while it is used up."""

    units: int


class Held:
    """How files say that a call is about a level: it moves nothing (Fixed(0))."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """Body bytes: both ways, the answer's, or the request's."""

    source: Literal["bytes", "response_bytes", "request_bytes"]


@dataclass(frozen=True, slots=True)
class Messages:
    """WebSocket messages: both ways, the service's, or the client's. What is no WebSocket has none."""

    source: Literal["messages", "response_messages", "request_messages"]


@dataclass(frozen=True, slots=True)
class FromHeader:
    """The whole number in this header of the service's answer; nothing where the header is missing."""

    name: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where an answer says how many: a header's or trailer's name, or a JSON pointer into its body or its server-sent events."""

    kind: Literal["header", "trailer", "json", "sse"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """`reserve` units when the call is admitted; when it has ended what the first of the sources says that says anything.

    `otherwise`: what it is where none does; None: the reserve. `within`: bytes of a body, or of one event, that are looked at.
    """

    sources: tuple[Source, ...]
    reserve: int = 0
    otherwise: int | None = None
    within: int = 2**20

    @property
    def unsaid(self) -> int:
        """What it is where no source says anything."""
        return self.reserve if self.otherwise is None else self.otherwise

    def reads(self, *kinds: str) -> bool:
        """Whether it looks for a source of these kinds."""
        return any(source.kind in kinds for source in self.sources)


Cost = Fixed | Weighed | Messages | FromHeader | Settled


def drawn(cost: Cost | None) -> int:
    """The units that are charged when a call is admitted."""
    if isinstance(cost, Fixed):
        return cost.units
    return cost.reserve if isinstance(cost, Settled) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a target is asked whether it is well: GET `path`; an answer from `lowest_status` to `highest_status` is a yes."""

    path: str
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy: int = 2
    unhealthy: int = 3
    lowest_status: int = 200
    highest_status: int = 399


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """When calls themselves show that a target is not well: so many failures in a row, and it is left out for a while."""

    failures: int = 5
    base_s: float = 10.0
    most_s: float = 300.0
    count_5xx: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Calls that wait for one of a target's connections. `timeout_s` None: as long as the route waits to connect."""

    most: int = 1_000
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How https targets are verified, and what we show them. Files are PEM; `ca` None: the machine's trusted certificates."""

    ca: str | None = None
    server_name: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service behind the gateway. `targets` are origins such as http://127.0.0.1:9000, or unix:/run/app.sock.

    `weights` stand beside the targets; none: all the same. `max_connections` bounds each target, in each worker.
    """

    name: str
    targets: tuple[str, ...]
    weights: tuple[int, ...] = ()
    balance: Balance = "round_robin"
    health: Health | None = None
    ejection: Ejection | None = Ejection()
    max_connections: int = 512
    queue: Queue = Queue()
    tls: Tls = Tls()
    host: HostHeader = "preserve"


NAMED = re.compile(r"\$\{([A-Z_][A-Z0-9_]{0,127})\}")  # a variable in a header towards the service


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """Header lines to set (replacing what came under that name), and names to remove. A value may name variables: ${NAME}."""

    add: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. `total_s` None lets streams live as long as they like."""

    connect_s: float = 5.0
    idle_s: float = 60.0
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may send. Sizes in bytes, `max_body` None is unlimited."""

    max_line: int = 8_000
    max_headers_bytes: int = 32_000
    max_header_count: int = 100
    max_body: int | None = None
    header_timeout_s: float = 10.0
    keepalive_s: float = 75.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyIdentity:
    """Where an API key may stand: header names, or "bearer" for `Authorization: Bearer …`; the first present decides."""

    sources: tuple[str, ...] = ("X-API-Key", "bearer")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIdentity:
    """Whose tokens are taken, as `Authorization: Bearer …`. With `secret_env` they are signed with that secret (HS…), else with a
    key that `jwks_url` names; never both."""

    issuer: str
    audience: tuple[str, ...]
    org_claim: str = "org_id"
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    secret_env: str | None = None
    skew_s: float = 30.0
    tenant_claim: str | None = None
    scopes_claim: str = "scope"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertIdentity:
    """The field in which a trusted proxy passes the client's certificate: its SHA-256 fingerprint, or the certificate as PEM."""

    header: str


Identity = ApiKeyIdentity | JwtIdentity | ClientCertIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. `methods` None is every method, no `hosts` every host; `charge` is empty where nothing is charged.

    `closed_is_said`: the file says on_store_failure: closed, then rates and concurrency limits too refuse while the store is away.
    `scopes` are what a caller's key must carry.
    """

    id: int
    path: str
    upstream: str
    methods: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    auth: Literal["required", "none"] = "required"
    charge: Mapping[str, Cost] = field(default_factory=dict)
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    scopes: frozenset[str] = frozenset()
    return_on: frozenset[Failure] = frozenset()
    on_store_failure: FailureRule = CLOSED
    closed_is_said: bool = False
    strip_prefix: str | None = None
    host: HostHeader = "preserve"
    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()
    timeouts: Timeouts = Timeouts()
    preflight: Literal["free", "charged"] = "free"
    hide_credentials: bool = False
    tenant_header: str | None = None  # lower case
    reads_trailers: bool = False  # the answer's trailers say what a call takes
    by_tenant: bool = False  # calls may say for which tenant they are, by that header or a token


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """gateway.yaml, resolved."""

    upstreams: Mapping[str, Upstream]
    routes: tuple[Route, ...]
    identity: tuple[Identity, ...] = (ApiKeyIdentity(),)
    limits: Limits = Limits()
    x_ratelimit_headers: bool = False
    default_upstream: str = DEFAULT_UPSTREAM


def with_targets(config: GatewayConfig, targets: Sequence[str], *, upstream: str | None = None) -> GatewayConfig:
    """`config` with other targets for one upstream (the default one unless named): what `--upstream` asks for.

    The rest of the file stands. Raises KeyError where there is no such upstream.
    """
    name = upstream or config.default_upstream
    changed = replace(config.upstreams[name], targets=tuple(targets), weights=())
    return replace(config, upstreams={**config.upstreams, name: changed})
