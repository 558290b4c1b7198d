"""Upstreams as they are written in gateway.yaml: targets and their weights, health, ejection, waiting, TLS.

The words become config.gateway.Upstream here; what they do is in gateway/upstream.py.
"""

import os
import re
from typing import Annotated, Any, ClassVar, cast
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, StrictBool, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from .document import Items, Table
from .faults import Report
from .gateway import Balance, Ejection, Health, HostHeader, Queue, Tls, Upstream
from .shape import Lenient, Shape
from .words import SomeSecondsWord, one_of, shown

_HEAVIEST = 100
_STATUSES = re.compile(r"([1-9]\d\d)(?:\s*-\s*([1-9]\d\d))?")
_LONGEST_UNIX_PATH = 107  # bytes; the kernel's sockaddr_un


def origin(value: Any) -> str:
    """http://127.0.0.1:9000: scheme, host and port, nothing behind; or unix:/run/app.sock."""
    if isinstance(value, str) and value.startswith("unix:"):
        return _unix(value)
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not _plain(value):
        raise ValueError(f"{shown(value)} is no target; write it like http://127.0.0.1:9000, http://[::1]:9000 or unix:/run/app.sock")
    try:
        found = parts.port != 0
    except ValueError:
        found = False
    if not found:
        raise ValueError(f"{value} has no such port; a port is 1 to 65535")
    if parts.username or parts.password:
        raise ValueError("a target carries no user and password; let the gateway add a header: request_headers: {add: …}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{value} has a path behind the host; a target is scheme, host and port, the path comes from the request")
    return f"{parts.scheme}://{parts.netloc}"


def _split(value: Any) -> Any:
    try:
        return urlsplit(value) if isinstance(value, str) else None
    except ValueError:  # a bracket that does not hold an IPv6 address
        return None


def _plain(text: str) -> bool:
    """It goes into the Host field: no blanks, no control bytes, nothing but ASCII."""
    return text.isascii() and text.isprintable() and " " not in text


def _unix(value: str) -> str:
    path = value.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError(f"{value} is no socket; write its whole path, like unix:/run/app.sock")
    if len(os.fsencode(path)) > _LONGEST_UNIX_PATH:
        raise ValueError(f"{path} is longer than a socket's path can be ({_LONGEST_UNIX_PATH} bytes)")
    return f"unix:{path}"


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not _plain(value) or "#" in value:
        raise ValueError(f"{shown(value)} is no path; write it like /health")
    return value


def _statuses(value: Any) -> tuple[int, int]:
    """200, 200-399."""
    match = _STATUSES.fullmatch(shown(value)) if isinstance(value, str | int) else None
    lowest, highest = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if lowest > highest:
        raise ValueError(f"{shown(value)} is no range of statuses; write it like 200-399, or one like 200")
    return lowest, highest


def _file(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(f"{shown(value)} is no whole path; write it like /etc/weighbridge/ca.pem")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.:-]{1,253}", value):
        raise ValueError(f"{shown(value)} is no name of a server; write it like app.internal")
    return value


class _Short:
    """A text that stands for a mapping with one word in it: `health: /health` is `health: {path: /health}`."""

    def __init__(self, word: str, pattern: str, *, none: bool = False) -> None:
        self._word, self._pattern, self._none = word, pattern, none

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._read, handler(source))

    def _read(self, value: Any, handler: Any, info: Any) -> Any:
        if self._none and value == "none":
            return None
        if isinstance(value, Table | Items | dict | list) or value is None:
            return handler(value)
        return handler({self._word: value})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        short = {"type": "string", "pattern": self._pattern + ("|^none$" if self._none else "")}
        return {"anyOf": [short, handler(schema["schema"])]}


class _NoneWord:
    """`none`, or a mapping."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(lambda value, read: None if value == "none" else read(value), handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"const": "none"}, handler(schema["schema"])]}


def _text(check: Any, **schema: Any) -> Any:
    return Annotated[str, PlainValidator(check), WithJsonSchema({"type": "string", **schema})]


_TARGET, _PATH = "^(https?://|unix:)", "^/"
_StatusWord = Annotated[tuple[int, int], PlainValidator(_statuses), WithJsonSchema({"type": ["string", "integer"]})]


def _count(most: int) -> Any:
    return Annotated[int, Field(ge=1, le=most)]


class TargetShape(Shape):
    """One place where the service listens."""

    url: _text(origin, pattern=_TARGET) = Field(description="http://10.0.0.1:9000, https://app.internal, unix:/run/app.sock")  # type: ignore[valid-type]
    weight: _count(_HEAVIEST) = Field(1, description="Its share of the calls beside the others' weights. Default 1.")  # type: ignore[valid-type]


class HealthShape(Shape):
    """How each worker asks each target whether it is well. The first answer counts at once, later ones in a row."""

    path: _text(_path, pattern=_PATH) = Field(description="Asked with GET.")  # type: ignore[valid-type]
    interval: SomeSecondsWord | None = Field(None, description="From one question to the next. Default 5s.")
    timeout: SomeSecondsWord | None = Field(None, description="For the answer's status. Default 2s.")
    healthy: _count(100) = Field(2, description="So many good answers bring a target back. Default 2.")  # type: ignore[valid-type]
    unhealthy: _count(100) = Field(3, description="So many bad answers take it out. Default 3.")  # type: ignore[valid-type]
    status: _StatusWord = Field((200, 399), description="Good answers: 200-399 (default), or one like 204.")


class EjectionShape(Shape):
    """When calls themselves show that a target is not well. At most half of the targets are left out so."""

    failures: _count(1_000) = Field(5, description="So many in a row: unreachable, broken off, no HTTP, timed out. Default 5.")  # type: ignore[valid-type]
    base: SomeSecondsWord | None = Field(None, description="How long the first time; twice as long each time after. Default 10s.")
    most: SomeSecondsWord | None = Field(None, description="The longest. Default 5m.")
    count_5xx: StrictBool = Field(False, description="true: an answer of 500 and above is a failure too. Default false.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        for word in ("consecutive", "after"):
            if word in table:
                report.fault(table, word, "say how many failures in a row: failures: 5")


class QueueShape(Shape):
    """Calls that wait while all of a target's connections are busy."""

    most: Annotated[int, Field(ge=0, le=1_000_000)] = Field(1_000, description="A target, a worker; more are refused. Default 1000.")
    timeout: SomeSecondsWord | None = Field(None, description="Default: the route's timeouts.connect.")


class TlsShape(Shape):
    """For https targets."""

    ca: _text(_file) | None = Field(None, description="PEM file of who signs the service's certificate. Default: the machine's.")  # type: ignore[valid-type]
    server_name: _text(_name) | None = Field(None, description="The name in the service's certificate. Default: the target's host.")  # type: ignore[valid-type]
    client_cert: _text(_file) | None = Field(None, description="PEM file: our certificate, for services that ask for one.")  # type: ignore[valid-type]
    client_key: _text(_file) | None = Field(None, description="PEM file: its key. Default: it stands in client_cert.")  # type: ignore[valid-type]
    verify: StrictBool = Field(True, description="false: any certificate will do, and anybody can pose as the service.")

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        if "client_key" in table and "client_cert" not in table:
            report.fault(table, "client_key", "a key without its certificate; write client_cert too")
        if table.get("verify") is False:
            if "ca" in table:
                report.fault(table, "verify", "nothing is verified, so `ca` would never be looked at; leave one of them out")
            else:
                report.warn(table, "verify", "anybody on the way can pose as the service; name its `ca` instead")
        for word in ("ca", "client_cert", "client_key"):
            path = table.get(word)
            if isinstance(path, str) and path.startswith("/") and "\0" not in path and not os.path.exists(path):
                report.warn(table, word, f"there is no file {path} on this machine; a gateway that lacks it refuses this configuration")


class UpstreamShape(Shape):
    """A service behind the gateway."""

    misplaced: ClassVar[dict[str, str]] = {
        "target": "write a list: targets: [http://127.0.0.1:9000]",
        "weight": "a weight belongs to a target: targets: [{url: http://127.0.0.1:9000, weight: 3}]",
        "timeouts": "timeouts stand on routes, or under defaults",
    }

    targets: list[Lenient[Annotated[TargetShape, _Short("url", _TARGET)]]] = Field(
        min_length=1, description='["http://127.0.0.1:9000", {url: "http://127.0.0.1:9001", weight: 3}]'
    )
    balance: one_of(("round_robin", "least_connections")) = Field(  # type: ignore[valid-type]
        "round_robin", description="Whose turn it is: in turns (default), or who is at work on the fewest calls for its weight."
    )
    health: Annotated[HealthShape | None, _Short("path", _PATH, none=True)] = Field(None, description="/health, or {path, interval, …}.")
    ejection: Annotated[EjectionShape | None, _NoneWord()] = Field(None, description="none: nothing is left out for failed calls.")
    max_connections: _count(100_000) = Field(512, description="To each target, from each worker. Default 512.")  # type: ignore[valid-type]
    queue: QueueShape | None = None
    tls: TlsShape | None = None
    host: one_of(("preserve", "upstream")) = Field("preserve", description="Which Host the service sees.")  # type: ignore[valid-type]

    @classmethod
    def contradictions(cls, table: Table, report: Report) -> None:
        targets = table.get("targets")
        if not isinstance(targets, Items):
            return
        seen: dict[str, int] = {}
        for index, written in enumerate(targets):
            url = written.get("url") if isinstance(written, Table) else written
            try:
                first = seen.setdefault(origin(url), index)
            except ValueError:
                continue
            if first != index:
                report.fault(targets, index, f"{url} stands here twice; to send it more, write {{url: {url}, weight: 2}}")
        if isinstance(table.get("tls"), Table) and seen and not any(url.startswith("https:") for url in seen):
            report.fault(table, "tls", "no target begins with https://, so TLS is never spoken; change the targets, or leave `tls` out")


def make_upstream(name: str, shape: UpstreamShape) -> Upstream | None:
    """What the gateway reads. None where no target could be read; its fault is in the report."""
    targets = [target for target in shape.targets if target is not None]
    if not targets:
        return None
    weights = tuple(target.weight for target in targets)
    plain = Queue()
    return Upstream(
        name=name,
        targets=tuple(target.url for target in targets),
        weights=weights if len(set(weights)) > 1 else (),
        balance=cast(Balance, shape.balance),
        health=_health(shape.health),
        ejection=_ejection(shape),
        max_connections=shape.max_connections,
        queue=Queue(most=shape.queue.most, timeout_s=shape.queue.timeout) if shape.queue else plain,
        tls=_tls(shape.tls),
        host=cast(HostHeader, shape.host),
    )


def _health(shape: HealthShape | None) -> Health | None:
    if shape is None:
        return None
    plain = Health(path=shape.path)
    lowest, highest = shape.status
    return Health(
        path=shape.path,
        interval_s=shape.interval or plain.interval_s,
        timeout_s=shape.timeout or plain.timeout_s,
        healthy=shape.healthy,
        unhealthy=shape.unhealthy,
        lowest_status=lowest,
        highest_status=highest,
    )


def _ejection(shape: UpstreamShape) -> Ejection | None:
    plain, own = Ejection(), shape.ejection
    if own is None:
        return None if shape.table.get("ejection") == "none" else plain
    base = own.base or plain.base_s
    return Ejection(failures=own.failures, base_s=base, most_s=max(base, own.most or plain.most_s), count_5xx=own.count_5xx)


def _tls(shape: TlsShape | None) -> Tls:
    if shape is None:
        return Tls()
    return Tls(
        ca=shape.ca,
        server_name=shape.server_name,
        client_cert=shape.client_cert,
        client_key=shape.client_key,
        verify=shape.verify,
    )


def upstream_facts(upstream: Upstream) -> dict[str, str]:
    """What a change of it is told by; config/diff.py."""
    health, ejection, queue, tls = upstream.health, upstream.ejection, upstream.queue, upstream.tls
    weights = upstream.weights or (1,) * len(upstream.targets)
    return {
        "targets": ", ".join(url if weight == 1 else f"{url} ({weight})" for url, weight in zip(upstream.targets, weights, strict=True)),
        "balance": upstream.balance,
        "health": "none"
        if health is None
        else f"{health.path} every {health.interval_s:g}s within {health.timeout_s:g}s, {health.lowest_status}-{health.highest_status}, "
        f"{health.unhealthy} bad, {health.healthy} good",
        "ejection": "none"
        if ejection is None
        else f"{ejection.failures} failures{' (5xx too)' if ejection.count_5xx else ''}, {ejection.base_s:g}s to {ejection.most_s:g}s",
        "max_connections": str(upstream.max_connections),
        "queue": f"{queue.most}, " + (f"{queue.timeout_s:g}s" if queue.timeout_s else "as long as connecting"),
        "tls": _tls_facts(tls),
        "host": upstream.host,
    }


def _tls_facts(tls: Tls) -> str:
    named = [f"{name} {value}" for name in ("ca", "server_name", "client_cert", "client_key") if (value := getattr(tls, name))]
    return ", ".join([*named, "verified" if tls.verify else "not verified"])
