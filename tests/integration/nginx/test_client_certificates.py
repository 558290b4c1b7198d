"""Client certificates: TLS ends at nginx, which asks for them; the gateway behind it knows whose each is. All real but the service."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from metering.model.apikey import mint, sha256_hex
from tests.authority import Authority, Client

from .conftest import CERTIFICATE, Nginx, ScriptedGateway, Start, free_port
from .test_to_gateway import FILES, spawn

KEY = mint(b"beside a client certificate")
ACME, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
GATEWAY = FILES["gateway.yaml"].replace(
    "identity:\n", "identity:\n  - client_cert: {header: X-Client-Cert}\n"
)  # the certificate is looked for before the key
ORGS = (
    "orgs:\n"
    f"  acme: {{id: {ACME}, plan: wide, anchor: 2026-01-01T00:00:00Z, keys: [{{sha256: %s, certificate: true}}]}}\n"
    f"  other: {{id: {OTHER}, plan: wide, anchor: 2026-01-01T00:00:00Z, keys: [{{sha256: {sha256_hex(KEY)}}}]}}\n"
)


@dataclass
class Edge:
    nginx: Nginx
    gateway_port: int
    service: ScriptedGateway
    authority: Authority
    robot: Client

    async def ask(self, client: Client | None, *lines: str) -> tuple[int, bytes]:
        """Over TLS through nginx."""
        context = client.context(CERTIFICATE) if client else ssl.create_default_context(cafile=str(CERTIFICATE))
        return await _ask(await asyncio.open_connection("127.0.0.1", self.nginx.tls_port, ssl=context, server_hostname="localhost"), lines)

    async def ask_gateway(self, source: str, *lines: str) -> tuple[int, bytes]:
        """Past nginx."""
        return await _ask(await asyncio.open_connection("127.0.0.1", self.gateway_port, local_addr=(source, 0)), lines)


async def _ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], lines: tuple[str, ...]) -> tuple[int, bytes]:
    reader, writer = streams
    writer.write("".join(f"{line}\r\n" for line in ("GET / HTTP/1.1", "Host: a", "Connection: close", *lines, "")).encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.fixture
async def edge(start_nginx: Start, gateway: ScriptedGateway, redis: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    authority = Authority(folder, "authority")
    robot = authority.client("robot")
    files = FILES | {"gateway.yaml": GATEWAY, "orgs.yaml": ORGS % robot.sha256_hex}
    process = spawn(folder, gateway.port, redis, port, files)
    try:
        made = Edge(await start_nginx([port], tls=True, clients=authority.certificate), port, gateway, authority, robot)
        for _ in range(600):
            assert process.poll() is None, (folder / "gateway.log").read_text()
            if (await made.ask(robot))[0] == 200:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError((folder / "gateway.log").read_text()[-2000:])
        gateway.seen.clear()
        yield made
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def forged(path: Path) -> str:
    return f"X-Client-Cert: {quote(path.read_bytes())}"


@pytest.mark.long
async def test_who_a_certificate_stands_for_is_decided_by_its_fingerprint(edge: Edge) -> None:
    assert (await edge.ask(edge.robot))[0] == 200
    assert edge.service.seen[-1]["X-Org-Id"] == ACME
    status, answer = await edge.ask(edge.authority.client("stranger"))
    assert status == 401
    assert b"the client certificate is unknown" in answer


@pytest.mark.long
async def test_a_certificate_that_nobody_named_has_signed_does_not_get_past_nginx(edge: Edge, tmp_path: Path) -> None:
    status, answer = await edge.ask(Authority(tmp_path, "somebody").client("robot"))
    assert status == 400
    assert b"bad_client_certificate" in answer
    assert edge.service.seen == []


@pytest.mark.long
async def test_a_bad_certificate_does_not_fall_through_to_a_good_key(edge: Edge) -> None:
    assert (await edge.ask(edge.authority.client("stranger"), f"X-API-Key: {KEY}"))[0] == 401
    assert (await edge.ask(None, f"X-API-Key: {KEY}"))[0] == 200
    assert edge.service.seen[-1]["X-Org-Id"] == OTHER


@pytest.mark.long
async def test_a_certificate_in_a_header_is_nothing_without_the_proof_that_tls_gives(edge: Edge) -> None:
    claim = forged(edge.robot.certificate)
    assert (await edge.ask(None, claim))[0] == 401
    assert (await edge.ask(None, claim, f"X-API-Key: {KEY}"))[0] == 200
    assert edge.service.seen[-1]["X-Org-Id"] == OTHER
    assert edge.service.seen[-1]["X-Client-Cert"] is None


@pytest.mark.long
async def test_only_a_trusted_proxy_is_believed_and_from_anybody_else_the_field_goes_no_further(edge: Edge) -> None:
    claim = forged(edge.robot.certificate)
    assert (await edge.ask_gateway("127.0.0.5", claim))[0] == 401
    for spelled in (claim, claim.replace("X-Client-Cert", "x_client_cert"), f"X-Client_Cert: {edge.robot.sha256_hex}"):
        assert (await edge.ask_gateway("127.0.0.5", spelled, f"X-API-Key: {KEY}"))[0] == 200
        assert edge.service.seen[-1]["X-Org-Id"] == OTHER
        assert not [name for name, _ in edge.service.seen[-1].fields if name.lower().replace("_", "-") == "x-client-cert"]
    for value in (edge.robot.sha256_hex, quote(edge.robot.certificate.read_bytes())):
        assert (await edge.ask_gateway("127.0.0.1", f"X-Client-Cert: {value}"))[0] == 200
        assert edge.service.seen[-1]["X-Org-Id"] == ACME


@pytest.mark.long
async def test_a_trusted_peer_and_a_stranger_who_send_the_same_fields_are_told_apart(edge: Edge) -> None:
    """Equal blocks of fields share what was derived from them; whom they came from is no part of that."""
    claim = f"X-Client-Cert: {edge.robot.sha256_hex}"
    for _ in range(3):
        assert (await edge.ask_gateway("127.0.0.1", claim))[0] == 200
        assert (await edge.ask_gateway("127.0.0.5", claim))[0] == 401
