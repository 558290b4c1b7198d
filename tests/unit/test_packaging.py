"""The Dockerfile and compose.yaml, held against the program they package: its commands, settings, ports and folders.

No container engine runs here: both are read as text. What only an engine can show (that the images exist, that the
build ends) is not shown.
"""

import fnmatch
import json
import re
import shlex
import tomllib
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import SETTINGS, Settings, default_of
from metering.model.errors import ConfigFaulty
from weighbridge.cli.main import normalized, parser

ROOT = Path(__file__).parents[2]
OUR_IMAGE = "weighbridge:"
PORTS = {int(default_of(name)) for name in ("WEIGHBRIDGE_PORT", "WEIGHBRIDGE_CONTROL_PORT", "WEIGHBRIDGE_METRICS_PORT")}
PACKAGES = ("metering", "billing", "gateway", "aggregator", "config", "weighbridge")
OTHER_MODULES = {"billing.stripe.sandbox": {"--host", "--port", "--state"}}  # started by `python -m`, not by the command line
NOT_SETTINGS = {"PATH", "PYTHONUNBUFFERED"}
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|make|build-essential|python3?-dev|apt-get|apk|pip install)\b")


@dataclass(frozen=True)
class Instruction:
    name: str
    words: list[str]
    text: str
    stage: int


def dockerfile(text: str) -> list[Instruction]:
    """Its instructions; continuation lines joined, comments gone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        words = json.loads(rest) if rest.startswith("[") else rest.split() if name != "ENV" else shlex.split(rest)
        found.append(Instruction(name, words, rest, stage))
    return found


def pinned(image: str) -> bool:
    name, _, tag = image.rpartition(":")
    return bool(name) and tag not in ("", "latest") and any(digit.isdigit() for digit in tag)


def refused_by_the_command_line(command: list[str]) -> str:
    """What our parser says against it; empty where it is accepted."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            parser().parse_args(normalized([str(word) for word in command]))
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    return ""


def unknown_setting(name: str) -> bool:
    """Neither one of the settings, nor one that a process reads for itself when it starts."""
    if name in SETTINGS or name in NOT_SETTINGS:
        return False
    return not any(f'"{name}"' in path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("__main__.py"))


def ignored(path: str, patterns: list[str]) -> bool:
    """As .dockerignore decides: the last pattern that matches the path or a folder above it."""
    hit = False
    for pattern in patterns:
        plain = pattern.lstrip("!").removeprefix("**/")
        parts = path.split("/")
        if any(fnmatch.fnmatch("/".join(parts[: n + 1]), plain) or fnmatch.fnmatch(parts[n], plain) for n in range(len(parts))):
            hit = not pattern.startswith("!")
    return hit


def dockerfile_faults(text: str, dockerignore: str) -> list[str]:
    instructions = dockerfile(text)
    last = max(i.stage for i in instructions)
    final = [i for i in instructions if i.stage == last]
    faults = [f"FROM {i.words[0]} is not pinned" for i in instructions if i.name == "FROM" and not pinned(i.words[0])]
    faults += copy_faults(instructions, [line for line in dockerignore.splitlines() if line and not line.startswith("#")])
    users = [i.words[0] for i in final if i.name == "USER"]
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        faults.append("the final stage runs as root")
    if last == 0 or any(i.name == "RUN" and COMPILERS.search(i.text) for i in final):
        faults.append("the final stage installs something, or there is only one stage")
    faults += [f"there is no {name}" for name in ("HEALTHCHECK", "ENTRYPOINT", "CMD") if name not in {i.name for i in final}]
    for instruction in final:
        if instruction.name == "ENV":
            names = [word.partition("=")[0] for word in instruction.words]
            faults += [f"ENV {name} is no setting" for name in names if unknown_setting(name)]
        if instruction.name == "EXPOSE":
            faults += [f"port {port} is none of ours" for port in instruction.words if int(port) not in PORTS]
        if instruction.name == "CMD" and (refusal := refused_by_the_command_line(instruction.words)):
            faults.append(refusal)
    return faults


def copy_faults(instructions: list[Instruction], patterns: list[str]) -> list[str]:
    faults = []
    stages = [i.words[2] for i in instructions if i.name == "FROM" and len(i.words) == 3]
    for copy in (i for i in instructions if i.name == "COPY"):
        if copy.words[0].startswith("--from="):
            if copy.words[0].removeprefix("--from=") not in stages:
                faults.append(f"COPY {copy.words[0]}: there is no such stage")
            continue
        for source in copy.words[:-1]:
            if not (ROOT / source).exists():
                faults.append(f"COPY {source}: there is no such file")
            elif ignored(source, patterns):
                faults.append(f"COPY {source}: .dockerignore keeps it out")
    return faults


def interpolated(value: Any, given: dict[str, str]) -> Any:
    """Compose's ${NAME}, ${NAME:-default} and ${NAME:?message}."""
    if isinstance(value, dict):
        return {key: interpolated(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, given) for item in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        name, sign, word = match["name"], match["sign"], match["word"] or ""
        if given.get(name):
            return given[name]
        if sign == ":-":
            return word
        raise KeyError(name)

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<sign>:[-?])(?P<word>[^}]*))?\}", put, value)


def compose(text: str, **given: str) -> dict[str, Any]:
    read: dict[str, Any] = interpolated(yaml.safe_load(text), given)
    return read


def compose_faults(text: str) -> list[str]:
    read = compose(text, POSTGRES_PASSWORD="x")
    services: dict[str, dict[str, Any]] = read["services"]
    faults: list[str] = []
    for name, service in services.items():
        found = general_faults(service, services, read) + (our_faults(service) if service["image"].startswith(OUR_IMAGE) else [])
        faults += [f"{name}: {fault}" for fault in found]
    valkey = [str(word) for word in services["valkey"]["command"]]
    for option, value in (("--maxmemory-policy", "noeviction"), ("--appendonly", "yes")):
        if option not in valkey or valkey[valkey.index(option) + 1] != value:
            faults.append(f"valkey: {option} is not {value}")
    return faults


def general_faults(service: dict[str, Any], services: dict[str, Any], read: dict[str, Any]) -> list[str]:
    faults = [] if pinned(service["image"]) else [f"{service['image']} is not pinned"]
    if "healthcheck" not in service:
        faults.append("has no health check")
    for other, terms in service.get("depends_on", {}).items():
        if other not in services or (terms["condition"] == "service_healthy" and "healthcheck" not in services[other]):
            faults.append(f"waits for {other}, which is not there or has no health check")
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        if source.startswith((".", "/")) and not (ROOT / source).exists():
            faults.append(f"mounts {source}, which does not exist")
        elif not source.startswith((".", "/")) and source not in read["volumes"]:
            faults.append(f"mounts the volume {source}, which is not declared")
    return faults + [f"is on the network {n}, which is not declared" for n in service.get("networks", []) if n not in read["networks"]]


def our_faults(service: dict[str, Any]) -> list[str]:
    command = [str(word) for word in service["command"]]
    if "entrypoint" in service:
        known = OTHER_MODULES.get(service["entrypoint"][-1], set())
        faults = [f"{word} is no option of {service['entrypoint'][-1]}" for word in command if word.startswith("--") and word not in known]
    else:
        faults = [refusal] if (refusal := refused_by_the_command_line(command)) else []
    environment = {name: str(value) for name, value in service.get("environment", {}).items()}
    faults += [f"{name} is no setting" for name in environment if unknown_setting(name)]
    if environment:
        Settings.load(environment)  # raises with every fault
    ports = [str(port).rpartition(":")[2] for port in service.get("ports", [])]
    faults += [f"port {port} is none of ours" for port in ports if int(port) not in PORTS]
    asked = re.findall(r"127\.0\.0\.1:(\d+)/", " ".join(service.get("healthcheck", {}).get("test", [])))
    own = PORTS | {int(value) for name, value in environment.items() if name.endswith("_PORT")}
    return faults + [f"its health check asks port {port}, which is none of its own" for port in asked if int(port) not in own]


# --- as they stand ------------------------------------------------------------------------------------------------------

DOCKERFILE, DOCKERIGNORE, COMPOSE = ((ROOT / name).read_text() for name in ("Dockerfile", ".dockerignore", "compose.yaml"))


def test_the_dockerfile_packages_what_there_is() -> None:
    assert dockerfile_faults(DOCKERFILE, DOCKERIGNORE) == []


def test_every_package_of_the_product_is_in_the_image() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {word for i in dockerfile(DOCKERFILE) if i.name == "COPY" for word in i.words[:-1]}
    assert {pattern.rstrip("*") for pattern in patterns} <= copied


def test_nothing_private_gets_into_the_image() -> None:
    patterns = [line for line in DOCKERIGNORE.splitlines() if line and not line.startswith("#")]
    assert all(ignored(path, patterns) for path in (".env", ".git", ".venv", ".weighbridge", "tests", "config/.env"))


def test_compose_starts_what_there_is() -> None:
    assert compose_faults(COMPOSE) == []


def test_every_process_has_a_service_and_the_gateway_knows_neither_database_nor_stripe() -> None:
    services = compose(COMPOSE, POSTGRES_PASSWORD="x", STRIPE_API_KEY="sk_test_x")["services"]
    assert {tuple(s["command"]) for s in services.values() if s["image"].startswith(OUR_IMAGE) and "entrypoint" not in s} == {
        ("serve", "gateway"), ("serve", "aggregator"), ("serve", "control"),
    }  # fmt: skip
    settings = Settings.load(services["gateway"]["environment"])
    assert (settings.database_url, settings.stripe_api_key) == (None, None)


def test_the_gateway_believes_nginx_and_nginx_speaks_to_the_gateway() -> None:
    read = compose(COMPOSE, POSTGRES_PASSWORD="x")
    settings = Settings.load(read["services"]["gateway"]["environment"])
    assert [str(network) for network in settings.trusted_proxies] == [read["networks"]["edge"]["ipam"]["config"][0]["subnet"]]
    assert f"server gateway:{settings.port} " in (ROOT / "nginx" / "compose" / "gateways.conf").read_text()
    assert "edge" in read["services"]["nginx"]["networks"]
    assert "edge" in read["services"]["gateway"]["networks"]


def test_a_password_is_asked_for() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        compose(COMPOSE)


# --- each check can fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("FROM python:3.11-slim-bookworm\n", "FROM python:latest\n", "FROM python:latest is not pinned"),
        ("COPY gateway ./gateway", "COPY gateways ./gateway", "COPY gateways: there is no such file"),
        ("COPY gateway ./gateway", "COPY tests ./tests", "COPY tests: .dockerignore keeps it out"),
        ("COPY --from=build", "COPY --from=builder", "COPY --from=builder: there is no such stage"),
        ("USER 10001:10001\n", "", "the final stage runs as root"),
        ("RUN useradd", "RUN apt-get install -y gcc && useradd", "the final stage installs something, or there is only one stage"),
        ("WEIGHBRIDGE_HOST=", "WEIGHBRIDGE_HSOT=", "ENV WEIGHBRIDGE_HSOT is no setting"),
        ("EXPOSE 8080", "EXPOSE 80", "port 80 is none of ours"),
    ],
)
def test_a_fault_in_the_dockerfile_is_named(old: str, new: str, fault: str) -> None:
    assert old in DOCKERFILE
    assert fault in dockerfile_faults(DOCKERFILE.replace(old, new), DOCKERIGNORE)


def test_an_unknown_command_in_the_dockerfile_is_named() -> None:
    faults = dockerfile_faults(DOCKERFILE.replace('CMD ["serve", "gateway"]', 'CMD ["serve", "portal"]'), DOCKERIGNORE)
    assert any("invalid choice: 'portal'" in fault for fault in faults)


BROKEN_COMPOSE: dict[str, tuple[str, str]] = {
    "aggregator: XREDIS_URL is no setting": (
        "      WEIGHBRIDGE_AGGREGATOR_PORT:",
        "      XREDIS_URL: x\n      WEIGHBRIDGE_AGGREGATOR_PORT:",
    ),
    "postgres: postgres is not pinned": ("image: postgres:18", "image: postgres"),
    "nginx: mounts ./nginxx, which does not exist": ("- ./nginx:", "- ./nginxx:"),
    "valkey: mounts the volume valkei, which is not declared": ('"valkey:/data"', '"valkei:/data"'),
    "valkey: --maxmemory-policy is not noeviction": ("noeviction", "allkeys-lru"),
    "control: port 8082 is none of ours": ("127.0.0.1:8081:8081", "127.0.0.1:8081:8082"),
    "control: its health check asks port 8079, which is none of its own": ("127.0.0.1:8081/healthz", "127.0.0.1:8079/healthz"),
    "nginx: is on the network edges, which is not declared": ("networks: [edge]", "networks: [edges]"),
    "stripe-sandbox: --stat is no option of billing.stripe.sandbox": ("--state", "--stat"),
    "nginx: waits for gatewai, which is not there or has no health check": ("depends_on: {gateway:", "depends_on: {gatewai:"),
}


@pytest.mark.parametrize("fault", BROKEN_COMPOSE)
def test_a_fault_in_compose_is_named(fault: str) -> None:
    old, new = BROKEN_COMPOSE[fault]
    assert old in COMPOSE
    assert compose_faults(COMPOSE.replace(old, new)) == [fault]


def test_a_setting_that_will_not_do_is_refused() -> None:
    with pytest.raises(ConfigFaulty, match="WEIGHBRIDGE_WORKERS"):
        compose_faults(COMPOSE.replace("${WEIGHBRIDGE_WORKERS:-2}", "two"))
