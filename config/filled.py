"""Put in what the configuration only names: variables in headers towards the service. For the process that sends them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from metering.model.errors import ConfigFaulty

from .gateway import NAMED, GatewayConfig, Route


def filled(config: GatewayConfig, secrets: Callable[[str], str | None]) -> GatewayConfig:
    """`secrets` gives the value of a variable. Raises ConfigFaulty, which names a variable and never its value."""
    if not any(NAMED.search(value) for route in config.routes for value in route.request_headers.add.values()):
        return config
    return replace(config, routes=tuple(_filled(route, secrets) for route in config.routes))


def _filled(route: Route, secrets: Callable[[str], str | None]) -> Route:
    add = {name: _value(route, value, secrets) for name, value in route.request_headers.add.items()}
    return replace(route, request_headers=replace(route.request_headers, add=add))


def _value(route: Route, text: str, secrets: Callable[[str], str | None]) -> str:
    known: Mapping[str, str | None] = {name: secrets(name) for name in NAMED.findall(text)}
    for name, value in known.items():
        if not value or not value.isprintable():
            wrong = "is not set where the gateway runs" if not value else "holds what no header can carry"
            raise ConfigFaulty(f"routes: {route.path}: request_headers: {name} {wrong}")
    return NAMED.sub(lambda match: known[match[1]] or "", text)
