"""Via tells a request that comes round from one that passes several gateways."""

import pytest

from config.gateway import Limits
from gateway.http1 import RequestHead, RequestParser
from gateway.loops import LoopDetected, loops


def head(*via: bytes) -> RequestHead:
    lines = b"".join(b"Via: %b\r\n" % value for value in via)
    found, _ = RequestParser(Limits(), RequestHead).feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("via", "own", "round_again"),
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
def test_a_request_that_comes_round_is_known_by_its_via(via, own, round_again):
    found = head(*via)
    assert loops(found, own) is round_again
    assert loops(found, own) is round_again  # from memory


def test_the_answer_to_a_loop_is_508_and_says_what_is_wrong():
    error = LoopDetected()
    assert (error.http_status, error.code) == (508, "loop_detected")
    assert "the gateway itself" in str(error)
