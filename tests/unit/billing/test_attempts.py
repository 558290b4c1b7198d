"""Wrong credentials, counted by address."""

import ipaddress

import pytest
from aiohttp.test_utils import make_mocked_request

from billing.api.attempts import Attempts, TooManyAttempts
from metering.model.clock import FrozenClock

CLOCK_MS = 1_800_000_000_000


def test_who_guesses_is_refused_for_a_minute_and_nobody_else_is() -> None:
    clock = FrozenClock(CLOCK_MS)
    attempts = Attempts(clock, most=3)
    for _ in range(3):
        attempts.check("203.0.113.7", "wbt_guess")
        attempts.wrong("203.0.113.7")
    with pytest.raises(TooManyAttempts) as refusal:
        attempts.check("203.0.113.7", "wbt_guess")
    assert refusal.value.details == {"retry_after_seconds": 60}
    attempts.check("203.0.113.8", "wbt_guess")
    clock.advance(60)
    attempts.check("203.0.113.7", "wbt_guess")


def test_a_credential_that_was_right_passes_whatever_others_guess_beside_it() -> None:
    clock = FrozenClock(CLOCK_MS)
    attempts = Attempts(clock, most=1)
    attempts.right("wbt_good")
    attempts.wrong("203.0.113.7")
    attempts.check("203.0.113.7", "wbt_good")
    with pytest.raises(TooManyAttempts):
        attempts.check("203.0.113.7", "wbt_other")


def test_what_is_remembered_has_a_bound() -> None:
    attempts = Attempts(FrozenClock(CLOCK_MS), most=1)
    for number in range(10_050):
        attempts.wrong(f"a{number}")
        attempts.right(f"c{number}")
    assert (len(attempts._wrong), len(attempts._right)) == (10_000, 10_000)
    attempts.check("a0", "x")  # the eldest is forgotten


PROXY = [ipaddress.ip_network("10.0.0.0/8")]
ADDRESSES = [  # peer, X-Forwarded-For, who asks
    ("203.0.113.7", None, "203.0.113.7"),
    ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # nobody's word but a proxy's
    ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # the first is what the client said itself
    ("127.0.0.1", "198.51.100.1, 10.0.0.1", "198.51.100.1"),
    ("127.0.0.1", None, "127.0.0.1"),
    ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
    ("::ffff:203.0.113.7", None, "203.0.113.7"),
    ("10.0.0.1", "x" * 200, "x" * 64),
    (None, "198.51.100.1", "198.51.100.1"),  # a Unix socket
]


@pytest.mark.parametrize(("peer", "forwarded", "found"), ADDRESSES)
def test_the_address_is_of_the_one_who_asks(peer: str | None, forwarded: str | None, found: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer or "")
    assert Attempts(FrozenClock(CLOCK_MS), PROXY).address(request) == found
