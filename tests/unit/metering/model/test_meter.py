"""Report units: whole ones only; the remainder stays until it makes a unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model.meter import UNIT_SIZES, report_units


@pytest.mark.parametrize(
    ("overage", "size", "units"),
    [(0, 1, 0), (7, 1, 7), (999_999, 10**6, 0), (10**6, 10**6, 1), (1_999_999, 10**6, 1), (2**53, 10**6, 9_007_199_254)],
)
def test_only_whole_report_units_are_told(overage: int, size: int, units: int) -> None:
    assert report_units(overage, size) == units


@given(parts=st.lists(st.integers(0, 10**9), max_size=8), size=st.sampled_from([1, *UNIT_SIZES.values()]))
def test_what_is_told_piece_by_piece_adds_up_to_what_is_told_at_once(parts: list[int], size: int) -> None:
    told = overage = 0
    for part in parts:
        overage += part
        told += report_units(overage, size) - told
    assert told == report_units(sum(parts), size)


def test_decimal_units_are_powers_of_ten_and_binary_ones_powers_of_two() -> None:
    assert [UNIT_SIZES[unit] for unit in ("kB", "MB", "GB", "TB")] == [1000**power for power in (1, 2, 3, 4)]
    assert [UNIT_SIZES[unit] for unit in ("KiB", "MiB", "GiB", "TiB")] == [1024**power for power in (1, 2, 3, 4)]
