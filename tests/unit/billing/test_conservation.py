"""Each unit in its place, once: one missing in each place in turn is named, and only there."""

from dataclasses import replace

import pytest

from billing.model.conservation import (
    Books,
    Difference,
    Key,
    Lane,
    Outbox,
    Place,
    Told,
    differences,
    differences_at_stripe,
    lost_batches,
    totals,
)

KEY = Key("5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11", "api", 1_793_491_200_000)


def at_rest() -> Books:
    """90 in Postgres, 8 settled and on their way, 2 in journals only, of which the counter has both; 5 returned; 40 over 50, all told."""
    return Books(
        key=KEY, events=90, hours=90, period=90, events_returned=4, hours_returned=4,
        settled=8, settled_returned=1, shipped=8, unshipped=2, held=2, counter=100, rated=40, reported=40, outbox=40,
    )  # fmt: skip


def places(found: list[Difference]) -> list[tuple[Place, int | None]]:
    return [(difference.place, difference.units) for difference in found]


def test_books_that_agree_have_no_difference() -> None:
    books = at_rest()
    assert differences(books) == []
    assert (books.admitted, books.returned, books.charged) == (105, 5, 100)
    assert totals({KEY: books}) == {"in_journals_only": 2, "in_the_store": 8, "unreported": 0}


@pytest.mark.parametrize(
    ("changed", "place", "units"),
    [
        ({"events": 89}, Place.EVENTS, 1),
        ({"hours": 91}, Place.HOURS, -1),
        ({"period": 89}, Place.PERIOD, 1),
        ({"hours_returned": 3}, Place.RETURNED, 1),
        ({"settled": 7}, Place.STORE, 1),
        ({"settled": 9}, Place.STORE, -1),
        ({"counter": 99}, Place.COUNTER, 1),
        ({"counter": 101}, Place.COUNTER, -1),
        ({"outbox": 39}, Place.HANDED_OVER, 1),
        ({"outbox": 41}, Place.HANDED_OVER, -1),
        ({"rated": 41, "overdue": True}, Place.UNREPORTED, 1),
    ],
)
def test_a_unit_missing_or_too_many_is_named_where_it_is(changed: dict[str, int], place: Place, units: int) -> None:
    found = differences(replace(at_rest(), **changed))  # type: ignore[arg-type]
    assert places(found) == [(place, units)]


def test_overage_of_a_running_period_that_was_not_cut_yet_is_on_its_way() -> None:
    books = replace(at_rest(), rated=45)
    assert differences(books) == []
    assert books.unreported == 5


@pytest.mark.parametrize("counter", [98, 99, 100])
def test_while_it_moves_the_counter_may_have_what_only_journals_have_or_not_yet(counter: int) -> None:
    assert differences(replace(at_rest(), counter=counter, moving=True)) == []


@pytest.mark.parametrize(("counter", "units"), [(97, 1), (101, -1)])
def test_while_it_moves_the_counter_is_still_held_to_what_is_in_flight(counter: int, units: int) -> None:
    assert places(differences(replace(at_rest(), counter=counter, moving=True))) == [(Place.COUNTER, units)]


def test_what_journals_elsewhere_hold_is_not_taken_for_an_excess_while_it_moves() -> None:
    assert differences(replace(at_rest(), counter=120, moving=True, partly=True)) == []
    assert places(differences(replace(at_rest(), counter=120, partly=True))) == [(Place.COUNTER, -20)]


def test_a_store_whose_journals_cannot_be_read_is_taken_at_its_word() -> None:
    assert differences(replace(at_rest(), shipped=None)) == []


TOLD = Told(key=replace(KEY, start_ms=0), outbox=Outbox(delivered=40), summary=40)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (TOLD, []),
        (replace(TOLD, summary=39), [(Place.STRIPE, 1)]),
        (replace(TOLD, summary=41), [(Place.STRIPE, -1)]),
        (replace(TOLD, outbox=Outbox(delivered=40, pending=7)), []),
        (replace(TOLD, outbox=Outbox(delivered=40, pending=7, tried=7), summary=47), []),
        (replace(TOLD, outbox=Outbox(delivered=40, pending=7, tried=7), summary=48), [(Place.STRIPE, -1)]),
        (replace(TOLD, outbox=Outbox(delivered=40, dead=3)), [(Place.DEAD, 3)]),
        (replace(TOLD, outbox=Outbox(delivered=40, unknown=3)), [(Place.UNKNOWN, 3)]),
        (replace(TOLD, outbox=Outbox(delivered=40, unknown=3), summary=43), [(Place.UNKNOWN, 0)]),
        (replace(TOLD, outbox=Outbox(delivered=40, unknown=3), summary=None), [(Place.UNKNOWN, None)]),
        (replace(TOLD, outbox=Outbox(delivered=40, unknown=-3), summary=38), [(Place.UNKNOWN, -1)]),
        (replace(TOLD, summary=None), []),
    ],
)
def test_what_stripe_has_is_held_against_what_it_was_told(told: Told, found: list[tuple[Place, int | None]]) -> None:
    assert places(differences_at_stripe(told)) == found


@pytest.mark.parametrize(
    ("committed", "taken", "in_journal", "words"),
    [
        (3, 5, [3, 4, 5, 6, 7], None),
        (3, 5, [], None),
        (3, 3, [5, 6], "batch 4 "),
        (3, 3, [4, 7], "batch 5 to 6 "),
        (3, 6, [7], None),
    ],
)
def test_a_batch_that_nobody_has_is_named(committed: int, taken: int, in_journal: list[int], words: str | None) -> None:
    found = lost_batches(Lane(7, "w1", committed, taken, in_journal))
    assert (found is None) == (words is None)
    assert words is None or (found is not None and words in found.sentence)
