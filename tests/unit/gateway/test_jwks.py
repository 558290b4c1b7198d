"""The public keys of an issuer: how often they are fetched, what they may verify, and what a failing fetch leaves."""

import asyncio

import pytest

from gateway.jwks import AGAIN_SECONDS, FRESH_SECONDS, KeySet, KeySets, Unreadable, read_keys
from metering.model.clock import FrozenClock
from tests.unit.gateway.issuers import EC, OTHER_RSA, RSA, SHORT_RSA, jwk, key_set


class Site:
    """Gives out a set of keys, or fails."""

    def __init__(self, *keys: dict[str, object]) -> None:
        self.clock = FrozenClock(1_740_000_000_000)
        self.body, self.fetched = key_set(*keys), 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.keys = KeySet("https://id.example.com/k", fetch=self.fetch, monotonic=self.clock.monotonic)

    async def fetch(self, url: str) -> bytes:
        self.fetched += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.body

    async def settled(self) -> None:
        while self.keys._fetching is not None:
            await asyncio.sleep(0)


async def test_a_key_is_found_by_its_id_once_the_set_was_fetched() -> None:
    site = Site(jwk(RSA, "one"), jwk(OTHER_RSA, "two"))
    assert site.keys.find("two", "RS256") is None
    await site.keys.learn()
    found = site.keys.find("two", "RS256")
    assert found is not None
    assert site.keys.find("two", "RS256") is found
    assert site.keys.find("three", "RS256") is None


async def test_however_many_ask_there_is_one_fetch_at_a_time_and_one_in_ten_seconds() -> None:
    site = Site(jwk(RSA, "one"))
    site.gate.clear()
    waiting = [asyncio.ensure_future(site.keys.learn()) for _ in range(50)]
    await asyncio.sleep(0)
    site.gate.set()
    await asyncio.gather(*waiting)
    for number in range(50):
        site.keys.find(f"unknown-{number}", "RS256")
        await site.keys.learn()
    assert site.fetched == 1
    site.clock.advance(AGAIN_SECONDS)
    await site.keys.learn()
    assert site.fetched == 2


async def test_a_failing_fetch_leaves_the_keys_that_are_known_and_is_tried_again_later() -> None:
    site = Site(jwk(RSA, "one"))
    await site.keys.learn()
    known = site.keys.find("one", "RS256")
    for failure in (OSError("gone"), TimeoutError(), Unreadable("it answers 500")):
        site.failure = failure
        site.clock.advance(FRESH_SECONDS + 1)
        site.keys.tend()
        await site.settled()
        assert site.keys.failing
        assert site.keys.find("one", "RS256") is known
    assert site.fetched == 4
    site.failure = None
    site.clock.advance(AGAIN_SECONDS)
    await site.keys.learn()
    assert not site.keys.failing


async def test_a_set_that_has_grown_old_is_fetched_anew_while_it_goes_on() -> None:
    site = Site(jwk(RSA, "one"))
    await site.keys.learn()
    site.body = key_set(jwk(RSA, "one"), jwk(OTHER_RSA, "two"))
    site.clock.advance(FRESH_SECONDS - 1)
    site.keys.tend()
    await site.settled()
    assert site.fetched == 1
    site.clock.advance(2)
    site.keys.tend()
    assert site.keys.find("one", "RS256") is not None
    await site.settled()
    assert site.keys.find("two", "RS256") is not None


async def test_a_key_that_its_issuer_withdrew_is_gone_and_said_to_be() -> None:
    site = Site(jwk(RSA, "one"), jwk(OTHER_RSA, "two"))
    lost: list[bool] = []
    site.keys.on_lost = lambda: lost.append(True)
    await site.keys.learn()
    one, two = site.keys.find("one", "RS256"), site.keys.find("two", "RS256")
    assert one is not None
    assert two is not None
    site.body = key_set(jwk(RSA, "one"))
    site.clock.advance(AGAIN_SECONDS)
    await site.keys.learn()
    assert lost == [True]
    assert (site.keys.holds(one), site.keys.holds(two)) == (True, False)
    assert site.keys.find("two", "RS256") is None


async def test_a_key_under_a_known_id_that_was_exchanged_is_another_key() -> None:
    site = Site(jwk(RSA, "one"))
    await site.keys.learn()
    before = site.keys.find("one", "RS256")
    site.body = key_set(jwk(OTHER_RSA, "one"))
    site.clock.advance(AGAIN_SECONDS)
    await site.keys.learn()
    after = site.keys.find("one", "RS256")
    assert before is not None
    assert after is not None
    assert after is not before
    assert not site.keys.holds(before)


@pytest.mark.parametrize(
    ("key", "algorithm", "found"),
    [
        (jwk(RSA, "k"), "RS256", True),
        (jwk(RSA, "k"), "PS384", True),
        (jwk(RSA, "k", alg="RS256"), "RS256", True),
        (jwk(RSA, "k", alg="RS256"), "RS512", False),
        (jwk(RSA, "k", alg="RSA-OAEP"), "RS256", False),
        (jwk(RSA, "k"), "ES256", False),
        (jwk(RSA, "k"), "HS256", False),
        (jwk(RSA, "k"), "none", False),
        (jwk(RSA, "k", use="enc"), "RS256", False),
        (jwk(RSA, "k", use="sig", key_ops=["verify"]), "RS256", True),
        (jwk(RSA, "k", key_ops=["wrapKey"]), "RS256", False),
        (jwk(SHORT_RSA, "k"), "RS256", False),
        (jwk(EC, "k"), "ES256", True),
        (jwk(EC, "k"), "ES384", False),
        (jwk(EC, "k"), "RS256", False),
        ({**jwk(EC, "k"), "x": "AAAA"}, "ES256", False),
        ({"kty": "RSA", "kid": "k"}, "RS256", False),
        ({"kty": "RSA", "kid": "k", "n": 5, "e": []}, "RS256", False),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, "HS256", False),
    ],
)
async def test_a_key_verifies_what_it_was_made_for_and_nothing_else(key: dict[str, object], algorithm: str, found: bool) -> None:
    site = Site(key)
    await site.keys.learn()
    assert (site.keys.find("k", algorithm) is not None) is found


async def test_without_an_id_the_only_key_that_suits_is_meant() -> None:
    site = Site(jwk(RSA, "one"), jwk(EC, "two"))
    await site.keys.learn()
    assert site.keys.find(None, "RS256") is not None
    site.body = key_set(jwk(RSA, "one"), jwk(EC, "two"), jwk(OTHER_RSA, "three"))
    site.clock.advance(AGAIN_SECONDS)
    await site.keys.learn()
    assert site.keys.find(None, "RS256") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b'{"keys": "x"}', b"\xff"])
def test_what_is_no_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_keys(body)


def test_what_a_set_holds_beside_keys_is_left_out() -> None:
    assert read_keys(b'{"keys": [1, null, {}, {"kty": "RSA"}, {"kty": "oct"}]}') == [{"kty": "RSA"}]


async def test_the_sets_that_a_new_configuration_names_go_on_and_the_others_go() -> None:
    clock = FrozenClock(0)

    async def fetch(url: str) -> bytes:
        return b""

    sets = KeySets(clock.monotonic, fetch)
    one, two = sets.at("https://a/"), sets.at("https://b/")
    sets.keep_only({"https://a/"})
    assert sets.at("https://a/") is one
    assert sets.at("https://b/") is not two
