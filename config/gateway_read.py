"""gateway.yaml, resolved: defaults filled in, charges merged, route ids given. All that a gateway worker needs to read.

Prices and plans are no business of the gateway: this module reads gateway.yaml and meters.yaml alone.
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from metering.model.errors import ConfigFaulty
from metering.model.meter import Kind, Meter
from metering.model.quota import CLOSED, Mode, Quota

from . import gateway_file, meters
from .document import UNREAD, Table, Unreadable, read
from .faults import Fault, Report, did_you_mean
from .files import FileSet
from .gateway import (
    DEFAULT_UPSTREAM,
    Cost,
    Failure,
    Fixed,
    FromHeader,
    GatewayConfig,
    HeaderEdit,
    Held,
    HostHeader,
    JwtIdentity,
    Limits,
    Messages,
    Route,
    Settled,
    Timeouts,
    Weighed,
    with_targets,
)
from .gateway_file import Common, GatewayFile, HeadersShape, RouteShape, TimeoutsShape
from .identity import read_identity
from .limits import make_concurrency
from .paths import segments_of, shape_of
from .quotas import make_quotas
from .route_limits import check_callers, check_tenants, open_charge, route_rates
from .secret_words import found_in
from .settle import MOST_UNITS, SettleShape, make_settled
from .shape import read_shape
from .units import BYTE, base_units
from .upstreams import make_upstream, origin
from .words import Amount

_ALL_FAILURES: frozenset[Failure] = frozenset(("unreachable", "5xx", "timeout"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParsed:
    """`config` is None where there is a fault."""

    config: GatewayConfig | None
    meters: Mapping[str, Meter]
    version: str
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def parse_gateway(files: FileSet) -> GatewayParsed:
    """Read gateway.yaml and meters.yaml of a set; every fault at once."""
    counted, known = Report(meters.FILE), None
    known = meters.read_meters(load(files, meters.FILE, counted), counted)
    report = Report(gateway_file.FILE, meters=known)
    config = _gateway(load(files, gateway_file.FILE, report), report)
    if config and files.targets:
        config = _aimed(config, files.targets, report)
    faults = [*(fault for fault in files.faults() if fault.file in (meters.FILE, gateway_file.FILE)), *counted.faults, *report.faults]
    return GatewayParsed(
        config=None if faults else config,
        meters=known or {},
        version=files.version,
        faults=sorted(faults),
        warnings=sorted([*counted.warnings, *report.warnings]),
    )


def gateway_of(files: FileSet) -> GatewayConfig:
    """The gateway's part of a set, for a worker. Raises ConfigFaulty with every fault of it."""
    parsed = parse_gateway(files)
    if parsed.config is None:
        raise ConfigFaulty("the configuration has faults:\n" + "\n".join(f"  {fault}" for fault in parsed.faults))
    return parsed.config


_INSTEAD = "secrets come from the environment, or from the file that a variable with _FILE behind its name names"


def load(files: FileSet, name: str, report: Report) -> Any:
    """The value of one file; UNREAD where there is none, with the reason in the report or the set."""
    if name not in files.texts:
        return UNREAD
    for line, kind in found_in(files.texts[name]):
        report.at(line, "", f"this looks like {kind}, which stands in no file, not even in a comment: {_INSTEAD}")
    try:
        value, skipped = read(files.texts[name])
    except Unreadable as error:
        report.at(error.line, error.path, error.message)
        return UNREAD
    for fault in skipped:
        report.at(fault.line, fault.path, fault.message)
    return value


def _aimed(config: GatewayConfig, targets: tuple[str, ...], report: Report) -> GatewayConfig:
    try:
        origins = [origin(target) for target in targets]
    except ValueError as error:
        report.at(0, "--upstream", str(error))
        return config
    if config.default_upstream not in config.upstreams:
        report.at(
            0, "--upstream", f"there is no upstream `{config.default_upstream}` to point elsewhere; name one in defaults: {{upstream: …}}"
        )
        return config
    return with_targets(config, origins)


def _gateway(value: Any, report: Report) -> GatewayConfig | None:
    file = read_shape(GatewayFile, value, report)
    return _Resolver(file, report).config() if file is not None else None


class _Resolver:
    """One reading of one file."""

    def __init__(self, file: GatewayFile, report: Report) -> None:
        self._file, self._report = file, report
        self._claims_tenant = False
        self._defaults = file.defaults or Common()
        written = file.table.get("upstreams")
        self._names = list(written) if isinstance(written, Table) else []
        made = {name: make_upstream(name, shape) for name, shape in file.upstreams.items() if shape is not None}
        self._upstreams = {name: upstream for name, upstream in made.items() if upstream is not None}

    def config(self) -> GatewayConfig:
        self._check_upstream(self._defaults)
        identity = read_identity(self._file.identity or (), self._report)
        self._claims_tenant = any(isinstance(way, JwtIdentity) and way.tenant_claim for way in identity)
        shapes = [shape for shape in self._file.routes if shape is not None]
        ids = self._ids(shapes)
        routes = tuple(self._route(shape, ids[index]) for index, shape in enumerate(shapes))
        self._check_identity(routes)
        return GatewayConfig(
            upstreams=self._upstreams,
            routes=routes,
            identity=identity,
            limits=_limits(self._file.limits),
            x_ratelimit_headers=self._file.x_ratelimit_headers,
            default_upstream=self._default_upstream(),
        )

    def _default_upstream(self) -> str:
        if self._defaults.upstream:
            return self._defaults.upstream
        return self._names[0] if len(self._names) == 1 else DEFAULT_UPSTREAM

    def _check_identity(self, routes: tuple[Route, ...]) -> None:
        if self._file.table.get("identity") == [] and any(route.auth == "required" for route in routes):
            self._report.fault(
                self._file.table, "identity", "routes require a caller, but nothing says how to know one; write - api_key: {}"
            )

    def _check_upstream(self, shape: Common) -> None:
        if shape.upstream is not None and shape.upstream not in self._names:
            self._report.fault(
                shape.table, "upstream", f"there is no upstream `{shape.upstream}`{did_you_mean(shape.upstream, self._names)}"
            )

    def _route(self, shape: RouteShape, route_id: int) -> Route:
        base, name = self._defaults, self._upstream_of(shape)
        charge = self._charge(shape)
        upstream = self._upstreams.get(name)
        host = shape.host or (upstream.host if upstream else "preserve")
        failures = _first(shape.return_on, base.return_on)
        is_open = _first(shape.auth, base.auth) == "none"
        check_callers(shape, is_open=is_open, report=self._report)
        tenant_header = self._tenant_header(shape, is_open=is_open)
        check_tenants(shape, named=tenant_header is not None or self._claims_tenant or is_open, report=self._report)
        return Route(
            id=route_id,
            path=shape.path,
            upstream=name,
            methods=_methods(shape),
            hosts=tuple(shape.hosts or ()),
            auth=_first(shape.auth, base.auth) or "required",
            charge=charge,
            quotas=self._quotas(shape, charge),
            rates=route_rates(shape, charge, self._report),
            concurrency=make_concurrency(shape.concurrency, shape.table, self._report, source="route"),
            return_on=_ALL_FAILURES if failures is None else frozenset(failures),
            on_store_failure=shape.on_store_failure or base.on_store_failure or CLOSED,
            closed_is_said=(shape.on_store_failure or base.on_store_failure) == CLOSED,
            strip_prefix=self._strip_prefix(shape),
            host=cast(HostHeader, host),
            request_headers=_readable(_headers(base.request_headers, shape.request_headers), charge),
            response_headers=_headers(base.response_headers, shape.response_headers),
            timeouts=_timeouts(base.timeouts, shape.timeouts),
            preflight=_first(shape.preflight, base.preflight) or "free",
            hide_credentials=bool(_first(shape.hide_credentials, base.hide_credentials)),
            scopes=self._scopes(shape),
            tenant_header=tenant_header,
            reads_trailers=_reads(charge, "trailer"),
            by_tenant=tenant_header is not None or (self._claims_tenant and not is_open),
        )

    def _scopes(self, shape: RouteShape) -> frozenset[str]:
        """The route's own in place of the defaults'. An open route has nobody to ask for a scope."""
        is_open = _first(shape.auth, self._defaults.auth) == "none"
        if shape.scopes and is_open:
            self._report.fault(shape.table, "scopes", "an open route knows no caller to ask for a scope; leave it out")
        return frozenset(_first(shape.scopes, self._defaults.scopes) or ()) if not is_open else frozenset()

    def _tenant_header(self, shape: RouteShape, *, is_open: bool) -> str | None:
        """An open route knows no organization whose tenant there could be."""
        if is_open and shape.tenant is not None:
            self._report.fault(shape.table, "tenant", "an open route has no organization, so no tenant of one; leave it out")
        layer = shape if "tenant" in shape.table else self._defaults
        return layer.tenant.header.lower() if layer.tenant is not None and not is_open else None

    def _upstream_of(self, shape: RouteShape) -> str:
        self._check_upstream(shape)
        name = shape.upstream or self._default_upstream()
        if shape.upstream is None and self._defaults.upstream is None and name not in self._names and self._names:
            self._report.fault(shape.table, None, f"say which upstream: {', '.join(self._names)}; or name one for all in defaults")
        return name

    def _charge(self, shape: RouteShape) -> dict[str, Cost]:
        """Merged by meter: what meters say themselves, the defaults, the route."""
        if shape.table.get("charge") == "none":
            return {}
        known = self._report.meters or {}
        merged: dict[str, Cost] = {m.name: FromHeader(m.cost_from.removeprefix("header:")) for m in known.values() if m.cost_from}
        if self._defaults.charge is not None and self._defaults.table.get("charge") == "none":
            merged = {}
        for layer in (self._defaults, shape):
            for meter, cost in (layer.charge or {}).items():
                resolved = self._cost(layer, meter, cost)
                merged.pop(meter, None)
                if resolved is not None and (resolved != Fixed(0) or isinstance(cost, Held)):
                    merged[meter] = resolved
        return open_charge(shape, merged, self._report) if _first(shape.auth, self._defaults.auth) == "none" else merged

    def _cost(self, layer: Common, meter_name: str, cost: Cost | Amount | SettleShape | Held | None) -> Cost | None:
        meter = self._report.meter(meter_name)
        where = cast(Table, layer.table["charge"])
        if meter is None or cost is None:
            return None
        if isinstance(cost, Held) and meter.kind is Kind.LEVEL:
            return Fixed(0)
        if isinstance(cost, Held) or meter.kind is Kind.LEVEL:
            level = "a level, which no call moves; write held, and its hard quota refuses calls while it is used up"
            why = (
                f"is {level}"
                if meter.kind is Kind.LEVEL
                else "is no level: what a call weighs is a number, bytes, messages, header:X-Name …"
            )
            self._report.fault(where, meter_name, f"`{meter_name}` {why}")
            return None
        if isinstance(cost, Weighed) and meter.unit not in (BYTE, ""):
            self._report.fault(
                where,
                meter_name,
                f"`{cost.source}` weighs bytes, but `{meter_name}` counts `{meter.unit}`; write a number or header:X-Name",
            )
        if isinstance(cost, Messages) and meter.unit == BYTE:
            self._report.fault(
                where, meter_name, f"`{cost.source}` counts messages, but `{meter_name}` counts bytes; write bytes, or name another meter"
            )
        if isinstance(cost, SettleShape):
            return make_settled(cost, meter, self._report)
        if not isinstance(cost, Amount):
            return cost
        try:
            units = base_units(cost, meter) or 0
        except ValueError as error:
            self._report.fault(where, meter_name, str(error))
            return None
        if units > MOST_UNITS:
            self._report.fault(where, meter_name, f"{cost} is more than one call can take ({MOST_UNITS:,})")
        return Fixed(units)

    def _quotas(self, shape: RouteShape, charge: Mapping[str, Cost]) -> tuple[Quota, ...]:
        for quota in shape.quotas:
            if quota is None or self._report.meter(quota.meter) is None:
                continue
            if quota.mode == Mode.OVERAGE:
                self._report.fault(
                    quota.table, "mode", "overage is billed by a plan; on a route write mode: hard or soft, and the overage in plans.yaml"
                )
            if quota.meter not in charge:
                self._report.fault(
                    quota.table,
                    "meter",
                    f"the route charges no `{quota.meter}`, so this quota would never move; add it to the route's charge",
                )
        return make_quotas(shape.quotas, self._report, source="route")

    def _strip_prefix(self, shape: RouteShape) -> str | None:
        prefix: str | None = shape.strip_prefix
        if prefix is None:
            return None
        if segments_of(shape.path)[: len(segments_of(prefix))] != segments_of(prefix):
            self._report.fault(shape.table, "strip_prefix", f"the path {shape.path} does not begin with {prefix}")
        return prefix

    def _ids(self, shapes: list[RouteShape]) -> list[int]:
        """Route ids: a hash of hosts and path, and of the methods where several routes share those."""
        self._refuse_doubles(shapes)
        texts = [f"{','.join(sorted(shape.hosts or ()))}{shape.path}" for shape in shapes]
        shared = Counter(texts)
        taken: dict[int, int] = {}
        ids: list[int] = []
        for index, (shape, text) in enumerate(zip(shapes, texts, strict=True)):
            own = f"{','.join(sorted(shape.methods))} {text}" if shared[text] > 1 and shape.methods else text
            ids.append(zlib.crc32(own.encode()))
            other = taken.setdefault(ids[-1], index)
            if other != index and texts[other] != text:
                self._report.fault(shape.table, "path", f"its id is that of {shapes[other].path}, by chance; spell one of them another way")
        return ids

    def _refuse_doubles(self, shapes: list[RouteShape]) -> None:
        seen: dict[tuple[tuple[str, ...], str, str], RouteShape] = {}
        for shape in shapes:
            if shape.methods == [] or shape.hosts == []:  # faulty, and said so
                continue
            for host in shape.hosts or [""]:
                for method in shape.methods or [""]:
                    other = seen.setdefault((shape_of(segments_of(shape.path)), host, method), shape)
                    if other is not shape:
                        what = " ".join(filter(None, (method, host + other.path)))
                        self._report.fault(
                            shape.table,
                            "path",
                            f"the route in line {other.table.line} already takes {what}; merge the two, or tell them apart",
                        )
                        break


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _methods(shape: RouteShape) -> frozenset[str] | None:
    return frozenset(shape.methods) if shape.methods else None


def _limits(shape: gateway_file.LimitsShape | None) -> Limits:
    plain = Limits()
    if shape is None:
        return plain
    return Limits(
        max_line=shape.line or plain.max_line,
        max_headers_bytes=shape.headers or plain.max_headers_bytes,
        max_header_count=shape.header_count or plain.max_header_count,
        max_body=shape.body,
        header_timeout_s=shape.header_timeout or plain.header_timeout_s,
        keepalive_s=shape.keepalive or plain.keepalive_s,
    )


def _timeouts(base: TimeoutsShape | None, own: TimeoutsShape | None) -> Timeouts:
    plain = Timeouts()
    words: dict[str, Any] = {"connect": plain.connect_s, "idle": plain.idle_s, "total": plain.total_s}
    for layer in (base, own):
        if layer is not None:
            words |= {word: getattr(layer, word) for word in words if word in layer.model_fields_set}
    return Timeouts(connect_s=words["connect"] or plain.connect_s, idle_s=words["idle"] or plain.idle_s, total_s=words["total"])


def _readable(edit: HeaderEdit, charge: Mapping[str, Cost]) -> HeaderEdit:
    """Where the answer's body says what a call takes, a client must not ask for one that is encoded, or for a part of it."""
    if not _reads(charge, "json", "sse"):
        return edit
    own = {name.lower() for name in (*edit.add, *edit.remove)}
    add = edit.add if "accept-encoding" in own else {**edit.add, "Accept-Encoding": "identity"}
    return HeaderEdit(add=add, remove=edit.remove if "range" in own else (*edit.remove, "Range"))


def _reads(charge: Mapping[str, Cost], *kinds: str) -> bool:
    return any(cost.reads(*kinds) for cost in charge.values() if isinstance(cost, Settled))


def _headers(base: HeadersShape | None, own: HeadersShape | None) -> HeaderEdit:
    layers = [layer for layer in (base, own) if layer is not None]
    add = {name: value for layer in layers for name, value in layer.add.items()}
    return HeaderEdit(add=add, remove=tuple(dict.fromkeys(name for layer in layers for name in layer.remove)))
