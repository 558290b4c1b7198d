"""API keys: unguessable, checkable at a glance, stored only as a hash."""

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model import apikey
from metering.model.apikey import KeyRecord

KEY = apikey.mint(bytes(range(18)))


@given(entropy=st.binary(min_size=18, max_size=32), test=st.booleans())
def test_a_minted_key_has_the_stated_form_and_a_checksum_that_fits(entropy: bytes, test: bool) -> None:
    key = apikey.mint(entropy, test=test)
    assert re.fullmatch(rf"wbk_{'test' if test else 'live'}_[0-9A-Za-z]{{30}}", key)
    assert not apikey.checksum_fails(key)


@given(position=st.integers(min_value=0, max_value=len(KEY) - 1), letter=st.sampled_from("0129AZaz"))
def test_one_wrong_letter_is_noticed_without_asking_anyone(position: int, letter: str) -> None:
    mistyped = KEY[:position] + letter + KEY[position + 1 :]
    ours = mistyped.startswith("wbk_")
    assert apikey.checksum_fails(mistyped) == (mistyped != KEY and ours)


@pytest.mark.parametrize("key", ["wbk_", "wbk_live_", "wbk_live_x", KEY[:-1], KEY + "0", "wbk_ü", KEY.lower()])
def test_what_claims_to_be_ours_and_is_cut_or_odd_is_refused(key: str) -> None:
    assert apikey.checksum_fails(key)


@pytest.mark.parametrize("key", ["", "sk-imported", "WBK_LIVE", "x", KEY.removeprefix("wbk_")])
def test_an_imported_key_may_look_as_it_likes(key: str) -> None:
    assert not apikey.checksum_fails(key)


def test_less_than_eighteen_bytes_make_no_key() -> None:
    with pytest.raises(ValueError, match="18 bytes"):
        apikey.mint(b"x" * 17)


@given(st.lists(st.binary(min_size=18, max_size=18), min_size=2, max_size=20, unique=True))
def test_different_entropy_makes_different_keys(entropies: list[bytes]) -> None:
    # 24 base-62 digits hold 142.9 of the 144 bits, so only what differs below that is promised
    different = {int.from_bytes(e, "big") % 62**24 for e in entropies}
    assert len({apikey.mint(e) for e in entropies}) == len(different)


def test_only_the_sha_256_of_a_key_is_kept() -> None:
    assert apikey.sha256_hex(KEY) == hashlib.sha256(KEY.encode()).hexdigest()


def test_bytes_that_are_no_text_can_be_hashed_too() -> None:
    assert len(apikey.sha256_hex(b"\xff\xfe".decode("utf-8", "surrogateescape"))) == 64


def test_a_hint_shows_the_last_four_characters_alone() -> None:
    assert apikey.hint("wbk_live_abcdefgh") == "…efgh"


RECORDS = st.builds(
    KeyRecord, key_id=st.integers(0, 2**53), org_id=st.uuids().map(str), expires_at_ms=st.none() | st.integers(0, 2**45), test=st.booleans()
)


@given(RECORDS)
def test_a_record_survives_its_json(record: KeyRecord) -> None:
    assert apikey.record_from_json(apikey.record_to_json(record)) == record
    assert apikey.record_from_json(apikey.record_to_json(record).encode()) == record


def test_a_record_without_the_optional_facts_never_expires() -> None:
    assert apikey.record_from_json(json.dumps({"id": 1, "org": "o"})) == KeyRecord(key_id=1, org_id="o")
