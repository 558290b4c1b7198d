"""What a worker knows of bypasses: whom they cover, until when, and what a store that forgets changes (nothing)."""

import pytest

from gateway.bypasses import NO_BYPASS, Bypasses
from metering.model.bypass import Bypass, Scope, from_json, to_json

ACME, OTHER = "4a0b5b5e-0000-4000-8000-000000000001", "4a0b5b5e-0000-4000-8000-000000000002"


def knowing(*bypasses: Bypass) -> Bypasses:
    found = Bypasses()
    found.learn(to_json(bypasses).encode())
    return found


COVER = [
    (Bypass(id=1, until_ms=100, org_id=ACME), ACME, "api", 100),
    (Bypass(id=1, until_ms=100, org_id=ACME), ACME, None, 100),
    (Bypass(id=1, until_ms=100, org_id=ACME), OTHER, "api", None),
    (Bypass(id=1, until_ms=100, org_id=ACME), "", "api", None),
    (Bypass(id=1, until_ms=100, org_id=ACME, meter="api"), ACME, "api", 100),
    (Bypass(id=1, until_ms=100, org_id=ACME, meter="api"), ACME, "bandwidth", None),
    (Bypass(id=1, until_ms=100, meter="api"), OTHER, "api", 100),
    (Bypass(id=1, until_ms=100, meter="api"), OTHER, None, None),
    (Bypass(id=1, until_ms=100), OTHER, None, 100),
    (Bypass(id=1, until_ms=100), "", None, 100),
]


@pytest.mark.parametrize(("bypass", "org_id", "meter", "until_ms"), COVER)
def test_a_bypass_covers_its_organization_its_meter_or_everything(
    bypass: Bypass, org_id: str, meter: str | None, until_ms: int | None
) -> None:
    assert knowing(bypass).covers(org_id, meter, 50) == until_ms


def test_of_several_the_last_end_counts() -> None:
    both = knowing(Bypass(id=1, until_ms=100), Bypass(id=2, until_ms=200, org_id=ACME))
    assert [both.covers(org, "api", 50) for org in (ACME, OTHER)] == [200, 100]


def test_it_ends_by_itself_at_its_time() -> None:
    known = knowing(Bypass(id=1, until_ms=100))
    assert (known.covers(ACME, "api", 99), known.covers(ACME, "api", 100)) == (100, None)
    assert (known.active(99)[Scope.ALL], known.active(100)[Scope.ALL]) == (1, 0)


def test_the_active_ones_are_counted_by_scope() -> None:
    known = knowing(
        Bypass(id=1, until_ms=9), Bypass(id=2, until_ms=9, meter="api"), Bypass(id=3, until_ms=9, org_id=ACME, meter="api"),
        Bypass(id=4, until_ms=9, org_id=OTHER),
    )  # fmt: skip
    assert known.active(0) == {Scope.ORG: 2, Scope.METER: 1, Scope.ALL: 1}


def test_a_store_that_forgot_or_fails_ends_none_and_an_empty_list_ends_all() -> None:
    changes: list[str] = []
    known = Bypasses(on_change=lambda: changes.append("changed"))
    known.learn(to_json([Bypass(id=1, until_ms=100)]).encode())
    for answer in (None, ConnectionError("away"), b"{not json", b'[{"id":1}]', b"7"):
        known.learn(answer)
        assert known.covers(ACME, "api", 50) == 100
    known.learn(b"[]")
    assert known.covers(ACME, "api", 50) is None
    assert changes == ["changed", "changed"]


def test_the_same_list_again_changes_nothing() -> None:
    changes: list[str] = []
    known = Bypasses(on_change=lambda: changes.append("changed"))
    for _ in range(3):
        known.learn(to_json([Bypass(id=1, until_ms=100)]).encode())
    assert changes == ["changed"]


def test_where_none_was_ever_read_none_covers() -> None:
    assert NO_BYPASS.covers(ACME, "api", 0) is None


def test_what_is_written_is_read_and_order_makes_no_difference() -> None:
    one, two = Bypass(id=10, until_ms=5, org_id=ACME, meter="api", reason="a “reason”"), Bypass(id=9, until_ms=6)
    assert from_json(to_json([one, two])) == (two, one)
    assert to_json([one, two]) == to_json([two, one])
