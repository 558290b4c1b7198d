"""Via tells a request that comes round from one that passes several gateways."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.gateway import Limits
from gateway.errors import LoopDetected
from gateway.http1 import RequestHead, RequestParser
from gateway.loops import loops
from gateway.pseudonym import via


def head(*via: bytes) -> RequestHead:
    lines = b"".join(b"Via: %b\r\n" % value for value in via)
    found, _ = RequestParser(Limits(), RequestHead).feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hops", "own", "round_again"),
    [
        ((), b"1.1 weighbridge", False),
        ((b"1.1 nginx, 2 fastly (Varnish)",), b"1.1 weighbridge", False),
        ((b"1.1 weighbridge",), b"1.1 weighbridge", False),
        ((b"1.1 weighbridge", b"1.1 x, 1.1 weighbridge", b"1.1 Weighbridge (eu)"), b"1.1 weighbridge", False),
        ((b"1.1 weighbridge, 1.1 weighbridge", b"1.1 x, 1.1 weighbridge", b"1.1 Weighbridge (eu)"), b"1.1 weighbridge", True),
        ((b"1.1 weighbridge-1a2b",), b"1.1 weighbridge-3c4d", False),
        ((b"1.1 nginx, 1.1 weighbridge-1a2b",), b"1.1 weighbridge-1a2b", True),
        ((b"1.1 weighbridge-a, 1.1 weighbridge-b, 1.1 weighbridge-c, 1.1 weighbridge-d",), b"1.1 weighbridge-e", True),
        ((b",,", b"weighbridge"), b"1.1 weighbridge", False),
    ],
)
def test_a_request_that_comes_round_is_known_by_its_via(hops, own, round_again):
    found = head(*hops)
    assert loops(found, own) is round_again
    assert loops(found, own) is round_again  # from memory


def test_the_answer_to_a_loop_is_508_and_says_what_is_wrong():
    error = LoopDetected()
    assert (error.http_status, error.code) == (508, "loop_detected")
    assert "the gateway itself" in str(error)


def test_an_installation_keeps_its_pseudonym_and_others_have_another(tmp_path):
    mine = via(tmp_path / "mine")
    assert re.fullmatch(rb"1\.1 weighbridge-[0-9a-f]{8}", mine)
    assert via(tmp_path / "mine") == mine
    assert via(tmp_path / "yours") != mine


def test_workers_that_start_at_once_agree_on_one_pseudonym(tmp_path):
    with ThreadPoolExecutor(8) as workers:
        assert len(set(workers.map(lambda _: via(tmp_path), range(32)))) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["pseudonym"]


def test_a_pseudonym_that_could_not_stand_in_a_header_is_drawn_anew(tmp_path):
    (tmp_path / "pseudonym").write_text("a\r\nX-Org-Id: 1")
    assert re.fullmatch(rb"1\.1 weighbridge-[0-9a-f]{8}", via(tmp_path))
