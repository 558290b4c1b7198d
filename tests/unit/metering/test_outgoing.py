"""An address that somebody configured leads to no metadata service, and a name that changes its mind leads nowhere else."""

import socket
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from metering.model.outward import Forbidden, Reach, check
from metering.outgoing import guarded

NOBODY = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1",
    "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "nowhere", "",
]  # fmt: skip
INSIDE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "fd12::1",
    "100.64.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
]
OUTSIDE = ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"]


@pytest.mark.parametrize("text", NOBODY)
def test_no_url_leads_to_a_metadata_service_or_to_no_host_at_all(text: str) -> None:
    for reach in Reach:
        with pytest.raises(Forbidden):
            check(text, reach)


@pytest.mark.parametrize("text", INSIDE)
def test_a_network_of_ones_own_is_for_the_operators_files_alone(text: str) -> None:
    check(text, Reach.OPERATOR)
    with pytest.raises(Forbidden, match="public internet"):
        check(text, Reach.PUBLIC)


@pytest.mark.parametrize("text", OUTSIDE)
def test_the_public_internet_is_within_everybodys_reach(text: str) -> None:
    for reach in Reach:
        check(text, reach)


class Names(AbstractResolver):
    """A name whose answers change: first `first`, then the loopback."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [ResolveResult(hostname=host, host=a, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST) for a in found]

    async def close(self) -> None:
        pass


async def ask(url: str, reach: Reach, names: Names | None = None) -> str:
    async with aiohttp.ClientSession(connector=guarded(url, reach, names)) as session, session.get(url) as answer:
        return await answer.text()


@pytest.fixture
async def service() -> Any:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Host"])

    app = web.Application()
    app.router.add_get("/", hello)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


async def test_the_address_that_was_looked_at_is_the_one_that_is_asked(service: TestServer) -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    assert await ask(f"http://keys.example:{service.port}/", Reach.OPERATOR, names) == f"keys.example:{service.port}"
    assert names.asked == 1


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"]])
async def test_a_name_that_leads_inside_is_asked_nothing_for_a_customer(service: TestServer, answers: list[str]) -> None:
    with pytest.raises(Forbidden):
        await ask(f"http://keys.example:{service.port}/", Reach.PUBLIC, Names(answers))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0.0.0.0"])
async def test_an_address_in_the_url_itself_is_looked_at_too(host: str) -> None:
    with pytest.raises(Forbidden):
        await ask(f"http://{host}/latest/meta-data/", Reach.OPERATOR)


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "0177.0.0.1"])
async def test_odd_spellings_of_an_address_are_names_and_judged_by_what_they_resolve_to(host: str) -> None:
    with pytest.raises((Forbidden, aiohttp.ClientError, OSError)):
        await ask(f"http://{host}:1/", Reach.PUBLIC, Names(["127.0.0.1"]))
