"""What bytes are charged that are drawn before they pass: with their call where their number is known, else byte by byte."""

from collections.abc import Mapping

import pytest

from config.gateway import Cost, Fixed, Route, Weighed
from gateway import drawing
from gateway.charges import Charge, make_charge
from gateway.drawing import MOST_WHOLE, SIZES_KEPT, drawing_of, whole
from gateway.draws import Draw, asked
from gateway.flow import FIRST_BYTES, LARGEST_BYTES, LEAST_BYTES, next_size, share
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Mode, Per, Quota, Then, Window

NOW_MS = 1_740_000_000_000
BOTH: Mapping[str, Cost] = {"api": Fixed(1), "bandwidth": Weighed("bytes")}


def bandwidth(limit: int, **facts: object) -> Quota:
    return Quota(meter="bandwidth", limit=limit, **{"at_limit": "cut", **facts})  # type: ignore[arg-type]


def charge(*quotas: Quota, costs: Mapping[str, Cost] = BOTH, test: bool = False) -> Charge:
    entitlement = Entitlement(org_id="o", slug="a", name="A", version=1, plan="p", plan_version=1, anchor_ms=0, quotas=quotas)
    route = Route(id=5, path="/*", upstream="app", charge=costs)
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=9, org_id="o", test=test), NOW_MS)


def bounds(of: Charge) -> list[tuple[str, int, int | None]]:
    """(scope and window, cost, limit) of each limit."""
    return [(":".join(limit.counter.split(":")[4:6]), limit.cost, limit.enforced) for limit in of.limits]


@pytest.mark.parametrize(
    ("source", "inward", "outward"),
    [("bytes", True, True), ("response_bytes", False, True), ("request_bytes", True, False)],
)
def test_bytes_are_drawn_the_ways_that_their_meter_weighs(source: str, inward: bool, outward: bool) -> None:
    of = charge(bandwidth(100), costs={"bandwidth": Weighed(source)})  # type: ignore[arg-type]
    assert of.cut is not None
    assert (of.cut.inward == ("bandwidth",), of.cut.outward == ("bandwidth",)) == (inward, outward)
    assert not of.ordinary


@pytest.mark.parametrize(
    "quota",
    [
        bandwidth(100, at_limit="finish"), bandwidth(100, shadow=True), bandwidth(100, mode=Mode.SOFT), bandwidth(100, mode=Mode.OVERAGE),
        bandwidth(100, mode=Mode.THROTTLE, then=Then(limit=1, window=Window.DAY)), Quota(meter="api", limit=5, at_limit="cut"),
    ],
)  # fmt: skip
def test_where_nothing_ends_at_a_byte_calls_are_ordinary(quota: Quota) -> None:
    of = charge(quota)
    assert of.cut is None
    assert of.ordinary


def test_an_overage_quota_cuts_at_its_stop() -> None:
    of = charge(bandwidth(100, mode=Mode.OVERAGE, stop_at=500))
    assert bounds(drawing_of(of, ("bandwidth",), 0)) == [("bandwidth:o", 1, 500)]


def test_a_byte_moves_all_counters_of_its_meter_and_is_refused_by_those_that_cut_alone() -> None:
    of = charge(
        bandwidth(1000, on_store_failure=OPEN), bandwidth(100, at_limit="finish", per=Per.ROUTE, on_store_failure=CLOSED),
        Quota(meter="api", limit=3),
    )  # fmt: skip
    byte = drawing_of(of, ("bandwidth",), 0)
    assert bounds(byte) == [("bandwidth:o", 1, 1000), ("bandwidth:r5", 1, None)]
    assert byte.rule == OPEN  # who lets a call finish has no word in what passes of it
    assert byte.template.costs == (("bandwidth", 1),)
    assert byte.draws
    assert not byte.plain
    assert drawing_of(of, ("bandwidth",), 0) is byte


def test_of_two_quotas_on_one_counter_the_one_that_cuts_still_cuts_where_it_says() -> None:
    of = charge(bandwidth(100, at_limit="finish", window=Window.DAY), bandwidth(700, window=Window.DAY))
    assert [(limit.enforced, limit.cut) for limit in of.limits if limit.quota] == [(100, 700)]


def test_a_call_with_an_upload_is_charged_its_bytes_with_it_and_one_who_lets_finish_asks_for_room_alone() -> None:
    of = charge(bandwidth(1000), bandwidth(100, at_limit="finish", per=Per.ROUTE), Quota(meter="api", limit=3))
    assert of.cut is not None
    sized = of.cut.sized(300)
    assert sized is not None
    assert bounds(sized) == [("api:o", 1, 3), ("bandwidth:o", 300, 1000), ("bandwidth:r5", 300, 100 + 299)]
    assert sized.template.costs == (("api", 1), ("bandwidth", 300))
    assert sized.upload is not None
    assert sized.upload.base is of
    assert of.cut.sized(300) is sized


@pytest.mark.parametrize(("used", "passes"), [(0, True), (99, True), (100, False), (5000, False)])
def test_room_alone_is_what_a_limit_and_its_length_less_one_ask_for(used: int, passes: bool) -> None:
    length, limit = 300, 100
    assert ((limit + length - 1 - used) // length >= 1) is passes


def test_charges_by_length_are_kept_but_for_so_many_and_a_length_beyond_all_sense_has_none() -> None:
    of = charge(bandwidth(10**15))
    assert of.cut is not None
    assert of.cut.sized(MOST_WHOLE + 1) is None
    for length in range(1, SIZES_KEPT + 300):
        assert of.cut.sized(length) is not None
    assert len(drawing._sized.known) <= SIZES_KEPT


def test_a_test_keys_bytes_are_its_own() -> None:
    entitled = charge(bandwidth(1000, per=Per.KEY), test=True)
    assert entitled.cut is not None
    assert entitled.cut.outward == ("?bandwidth",)
    assert [limit.counter.split(":")[4] for limit in drawing_of(entitled, ("?bandwidth",), 0).limits] == ["?bandwidth"] * 2


def test_blocks_of_equal_charges_are_asked_for_together_and_what_is_wanted_whole_alone() -> None:
    byte = drawing_of(charge(bandwidth(1000)), ("bandwidth",), 0)
    draws = [Draw(xid, byte, units, lambda *_: None) for xid, units in ((1, 10), (2, 30))]
    assert asked(byte, draws) == 40
    alone = whole(byte)
    assert asked(alone, draws[:1]) == -10
    assert alone is not byte
    assert not byte.whole


# --- how large a block is -----------------------------------------------------------------------------------------------


def test_a_stream_that_uses_its_blocks_up_soon_gets_larger_ones_and_a_slow_one_smaller_ones() -> None:
    assert next_size(FIRST_BYTES, 0.01) == 2 * FIRST_BYTES
    assert next_size(FIRST_BYTES, 0.5) == FIRST_BYTES
    assert next_size(FIRST_BYTES, 5.0) == FIRST_BYTES // 2
    assert next_size(LARGEST_BYTES, 0.0) == LARGEST_BYTES
    assert next_size(LEAST_BYTES, 99.0) == LEAST_BYTES


@pytest.mark.parametrize(
    ("left", "streams", "size"),
    [(None, 1, 16_384), (10**9, 1, 16_384), (10**9, 200, 16_384), (80_000, 1, 10_000), (80_000, 5, 2_000), (0, 5, 1_024), (9, 1, 1_024)],
)
def test_near_the_limit_a_block_is_a_share_of_what_is_left(left: int | None, streams: int, size: int) -> None:
    assert share(FIRST_BYTES, left, streams) == size
