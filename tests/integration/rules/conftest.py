"""One gateway a test process, directly and behind the shipped nginx; a fresh scripted service for every test."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from .parties import Client, Origin, Way, serving
from .rig import Payer, Rig, certificate, listening, start_rig, way_to


@pytest.fixture(scope="session")
def rules_folder(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="session")
def service_tls(rules_folder):
    """The service's TLS context, and the file that a gateway which trusts it names in SSL_CERT_FILE."""
    return certificate(rules_folder / "tls")


@pytest.fixture(scope="session")
def elsewhere(rules_folder) -> Iterator[dict[str, socket.socket]]:
    """Where services listen that are not on IPv4: by the name of their upstream."""
    sockets = {"unix": listening(str(rules_folder / "service.sock")), "six": listening("::1")}
    yield sockets
    for each in sockets.values():
        each.close()


@pytest.fixture(scope="session")
def rig(rules_folder, service_tls, elsewhere) -> Iterator[Rig]:
    targets = {"unix": f"unix:{elsewhere['unix'].getsockname()}", "six": f"http://[::1]:{elsewhere['six'].getsockname()[1]}"}
    running = start_rig(
        rules_folder / "wide", nginx=True, SSL_CERT_FILE=str(service_tls[1]),
        upstreams="\n".join(f'  {name}: {{targets: ["{target}"]}}' for name, target in targets.items()),
        routes="\n".join(f"  - {{path: /{name}, upstream: {name}}}" for name in targets),
    )  # fmt: skip
    yield running
    running.stop()


@pytest.fixture(params=["direct", "nginx"])
async def way(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[Way]:
    """The way from a client to the gateway."""
    async with way_to(rig, request.param) as found:
        yield found


@pytest.fixture
async def direct(rig: Rig) -> AsyncIterator[Way]:
    async with way_to(rig, "direct") as found:
        yield found


@pytest.fixture
async def behind_nginx(rig: Rig) -> AsyncIterator[Way]:
    async with way_to(rig, "nginx") as found:
        yield found


@pytest.fixture
def payer(rig: Rig) -> Payer:
    return rig.payer()


@pytest.fixture
async def origin(rig: Rig) -> AsyncIterator[Origin]:
    async with serving(rig.service) as found:
        yield found


@pytest.fixture
async def tls_origin(rig: Rig, service_tls) -> AsyncIterator[Origin]:
    service = Origin(rig.tls_service, tls=service_tls[0])
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def client(way: Way, origin: Origin) -> Client:
    return await way.connect()
