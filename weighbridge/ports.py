"""Which ports a running system takes. Decided before anything starts, so that a taken one leaves nothing half done."""

from collections.abc import Mapping
from dataclasses import dataclass

from config.settings import Settings

from .sockets import PortTaken, check_free, free_port

_SAMPLE = 9000
_VARIABLES = {"gateway": "--port or WEIGHBRIDGE_PORT", "control": "WEIGHBRIDGE_CONTROL_PORT", "metrics": "WEIGHBRIDGE_METRICS_PORT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Each on its own host: WEIGHBRIDGE_HOST, _CONTROL_HOST, _METRICS_HOST; the last two, the sample and the sandbox are on loopback,
    unless the settings say otherwise."""

    gateway: int
    control: int
    metrics: int
    sample: int
    sandbox: int


def choose(settings: Settings, environ: Mapping[str, str]) -> Ports:
    """Raises PortTaken with the setting that names another. A second system on a port of its own (`--port 8090`) gets free
    ports for what was not chosen; the first keeps the ports that the documents show."""
    _check(settings.host, settings.port, "gateway")
    own = settings.port != 8080

    def port(role: str, host: str, value: int, variable: str) -> int:
        if own and variable not in environ:
            return free_port(host, 0 if settings.port == 0 else value)
        _check(host, value, role)
        return value or free_port(host)

    return Ports(
        gateway=settings.port or free_port(settings.host),
        control=port("control", settings.control_host, settings.control_port, "WEIGHBRIDGE_CONTROL_PORT"),
        metrics=port("metrics", settings.metrics_host, settings.metrics_port, "WEIGHBRIDGE_METRICS_PORT"),
        sample=free_port("127.0.0.1", 0 if settings.port == 0 else _SAMPLE),
        sandbox=free_port("127.0.0.1"),
    )


def _check(host: str, port: int, role: str) -> None:
    try:
        check_free(host, port)
    except PortTaken as exc:
        raise PortTaken(f"the {role}'s {exc}: stop that one, or choose another port with {_VARIABLES[role]}") from exc
