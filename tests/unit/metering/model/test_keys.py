"""The grammar of Redis keys: one hash tag a bucket, one counter a scope and window."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model import keys
from metering.model.quota import Per, Window

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"


def test_the_bucket_hash_is_the_one_of_redis_cluster() -> None:
    assert keys.bucket_of("123456789") == 0x31C3 % 256  # the check value of CRC16/XMODEM, as the cluster specification gives it


@given(st.uuids().map(str))
def test_every_key_of_an_organization_carries_the_tag_of_its_bucket(org_id: str) -> None:
    bucket = keys.bucket_of(org_id)
    assert 0 <= bucket < keys.BUCKETS
    tag = f"{{{bucket}}}"
    assert keys.entitlement(org_id).split(":")[1] == tag
    assert keys.counter(org_id, "api", "o", Window.DAY, 0).split(":")[1] == tag


def test_all_keys_that_one_script_takes_share_one_hash_tag() -> None:
    names = [make(7) for make in (keys.epoch, keys.versions, keys.marks, keys.live, keys.flying, keys.generation, keys.committed)]
    assert {name[name.index("{") : name.index("}") + 1] for name in names} == {"{7}"}
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("per", "routed", "scope"),
    [
        (Per.ORG, False, "o"), (Per.ROUTE, False, "r5"), (Per.KEY, False, "k9"),
        (Per.ORG, True, "r5"), (Per.ROUTE, True, "r5"), (Per.KEY, True, "r5.k9"),
        (Per.TENANT, False, "temea"), (Per.TENANT, True, "r5.temea"), (Per.ADDRESS, False, "a192.0.2.7"),
    ],
)  # fmt: skip
def test_the_scope_says_whose_use_a_quota_adds_up(per: Per, routed: bool, scope: str) -> None:
    assert keys.limit_scope(per, routed, route_id=5, key_id=9, tenant="emea", address="192.0.2.7") == scope


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("::1", "::"),
        ("unix", "unix"), ("fe80::1%eth0", "fe80::"),
    ],
)  # fmt: skip
def test_an_address_stands_for_itself_and_an_ipv6_address_for_its_block(address: str, block: str) -> None:
    assert keys.address_block(address) == block


@pytest.mark.parametrize("tenant", ["a.b", "r5", "", "x" * 41, "é", "a:b", "\ud800"])
def test_whatever_a_caller_names_its_tenant_it_never_meets_another_scope(tenant: str) -> None:
    part = keys.scope(route_id=None, key_id=None, tenant=tenant)
    assert part.startswith("t")
    assert len(part) <= 41
    assert part.isascii()
    assert not {".", ":"} & set(part)
    assert keys.scope(route_id=None, key_id=None, tenant=tenant + "!") != part


@pytest.mark.parametrize(
    ("window", "letter"), [(Window.HOUR, "h"), (Window.DAY, "d"), (Window.PERIOD, "p"), (Window.MONTH, "m")]
)  # fmt: skip
def test_a_counter_is_named_for_its_meter_scope_and_the_second_its_window_began(window: Window, letter: str) -> None:
    bucket = keys.bucket_of(ORG)
    assert keys.counter(ORG, "api", "r5.k9", window, 1_767_225_600_000) == f"wb:{{{bucket}}}:q:{ORG}:api:r5.k9:{letter}1767225600"


def test_counters_of_different_facts_never_share_a_key() -> None:
    names = [
        keys.counter(ORG, meter, scope, window, start)
        for meter in ("api", "bandwidth") for scope in ("o", "r5", "k5", "r5.k5") for window in Window for start in (0, 3_600_000)
    ]  # fmt: skip
    assert len(set(names)) == len(names)


def test_one_pattern_finds_every_counter_and_a_key_names_its_bucket() -> None:
    key = keys.counter(ORG, "api", "o", Window.HOUR, 0)
    assert fnmatchcase(key, keys.EVERY_COUNTER)
    assert keys.bucket_in(key) == keys.bucket_of(ORG)
