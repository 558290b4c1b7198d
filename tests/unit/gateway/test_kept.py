"""What callers can make grow is bounded over all of them, and what is new drives out what is old."""

import pytest

from gateway import charges, drawing
from gateway.kept import Kept

from .test_charges_tenants import charge


def test_where_there_is_no_room_the_older_half_goes() -> None:
    kept = Kept[int, str](4)
    for number in range(5):
        assert kept.keep(number, f"v{number}") == f"v{number}"
    assert kept.known == {2: "v2", 3: "v3", 4: "v4"}


def test_the_tenants_that_calls_name_are_kept_for_all_charges_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charges, "_variants", Kept(50))
    for _ in range(3):
        of = charge()
        for number in range(40):
            assert of.variant("", f"t{number}").limits[1].counter.split(":")[5] == f"tt{number}"
    assert len(charges._variants.known) <= 50


def test_the_lengths_of_requests_are_kept_for_all_charges_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_sized", Kept(50))
    made = charge()
    for _ in range(3):
        cut = drawing.Cut(("bandwidth",), (), make=lambda length: made)
        for length in range(1, 50):
            cut.sized(length)
    assert len(drawing._sized.known) <= 50
