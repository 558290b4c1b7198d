"""RFC 9110 §4.2.3, 3986 §6: a route's price and quota hold for every spelling of its path; the service still sees the one that came."""

import pytest

from .parties import Origin, Way, get, request, until
from .rig import Payer, Rig

DODGES = [
    b"/vip/1", b"/VIP/../vip/1", b"/vip/./1", b"//vip//1", b"/vip/1/", b"/%76ip/1", b"/%76%69%70/1", b"/x/%2e%2e/vip/1", b"/x/%2E%2e/vip/1",
    b"/x/.%2e/vip/1", b"/./vip/1", b"/%2e/vip/1", b"/vip;a=b/1", b"/vip;/1", b"/vip/1;x=y", b"/vip\\1", b"/vip%5c1", b"/vip%5C1",
    b"/vip%2f1",
    b"/vip%2F1", b"/vip/1?", b"/vip/1?/../../free", b"/vip/1/.", b"/vip/2/../1", b"/vip//////1", b"/x/..;/vip/1", b"/x/..%2fvip/1",
    b"/x\\..\\vip/1",
    b"/vip%3ba=b/1", b"/vip/%31", b"http://a.example/vip/1", b"http://b.example/%76ip/1",
]  # fmt: skip


@pytest.mark.parametrize("target", DODGES, ids=lambda text: text.decode())
async def test_an_odd_spelling_is_charged_what_the_route_costs(target: bytes, way: Way, origin: Origin, rig: Rig) -> None:
    before = rig.counter("vip")
    answered = await way.ask(get(target))
    assert (answered.status, len(origin.calls)) == (200, 1)
    assert rig.counter("vip") - before == 7


OTHERS = [b"/vipx/1", b"/vip%201/2/3", b"/VIP/1", b"/vip", b"/vip/", b"/a/vip/1", b"/vip/1/2", b"/?/vip/1", b"/vip%252f1"]


@pytest.mark.parametrize("target", OTHERS, ids=lambda text: text.decode())
async def test_another_path_is_not(target: bytes, direct: Way, origin: Origin, rig: Rig) -> None:
    before = rig.counter("vip"), rig.counter("api")
    assert (await direct.ask(get(target))).status == 200
    await until(lambda: rig.counter("api") > before[1])
    assert rig.counter("vip") == before[0]


async def test_9110_9_3_2_head_costs_what_get_costs(direct: Way, origin: Origin, rig: Rig) -> None:
    before = rig.counter("vip")
    client = await direct.connect()
    await client.ask(get(b"/shut/vip").replace(b"GET", b"HEAD", 1))
    assert rig.counter("vip") - before == 7


async def test_a_preflight_with_a_body_is_none_and_pays(direct: Way, origin: Origin, payer: Payer) -> None:
    lines = (b"Origin: https://a", b"Access-Control-Request-Method: GET")
    client = await direct.connect()
    for body in (b"", b"x", b"x"):
        head = request(*lines, *([b"Content-Length: 1"] if body else []), start=b"OPTIONS /vip/1 HTTP/1.1", key=payer.key)
        assert (await client.ask(head + body)).status == 200
    await payer.pays(vip=14)


OPEN = [
    b"/open/../x", b"/open/%2e%2e/x", b"/open/x/../../y", b"/open/..;/x", b"/open/..%2fx", b"/open\\..\\x", b"/open%2f..%2fx",
    b"/open/./../x", b"//open/../x",
]  # fmt: skip


@pytest.mark.parametrize("target", OPEN, ids=lambda text: text.decode())
async def test_no_dots_lead_through_an_open_route(target: bytes, way: Way, origin: Origin) -> None:
    """The service may undo them, and would serve `/x` to anybody."""
    answered = await way.ask(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answered.status in (400, 401)
    assert origin.calls == []


async def test_9110_4_2_3_a_host_of_another_case_port_or_final_dot_is_the_same(way: Way, origin: Origin, rig: Rig) -> None:
    before = rig.counter("vip")
    for host in (b"A.EXAMPLE", b"a.example:80", b"a.example."):
        assert (await way.ask(get(b"/vip/1").replace(b"a.example", host, 1))).status == 200
    assert rig.counter("vip") - before == 21


async def test_9110_9_1_no_method_but_those_of_the_route_is_free(direct: Way, origin: Origin, rig: Rig) -> None:
    before = rig.counter("vip")
    client = await direct.connect()
    for method in (b"PUT", b"PURGE", b"PROPFIND", b"QUERY", b"OPTIONS"):
        assert (await client.ask(get(b"/vip/1").replace(b"GET", method, 1))).status == 200
    assert rig.counter("vip") - before == 35
