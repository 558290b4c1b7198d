"""What each journal record means, and the laws that hold over any sequence of them."""

from typing import Any

import pytest

from gateway.tally import Batch, Record, Sums, Tally, Template, replay

B, MINUTE, EPOCH = 7, 29_000_000, 3
API, BYTES, DAY = "wb:{7}:q:o:api:o:p0", "wb:{7}:q:o:bandwidth:o:p0", "wb:{7}:q:o:api:k9:d0"
T = Template(
    1, "o", B, 9, 5, "GET", 0, (("api", 2),),
    {"api": ((API, 1_000), (DAY, 500)), "bandwidth": ((BYTES, 1_000),)},
)  # fmt: skip
OTHER = Template(2, "o", B, 9, 6, "POST", 0, (("api", 1),), {"api": ((API, 1_000),)})
HEAD: list[Record] = [["B", "w", []], T.record(), OTHER.record()]


def told(*records: Record) -> Tally:
    tally, _ = replay(iter([*HEAD, *records]))
    return tally


def row(measure: str, minute: int = MINUTE, template: Template = T) -> str:
    return f"{minute}|0|o|{measure}|{template.route_id}|{template.method}|9|"


def sums(tally: Tally) -> Sums:
    return tally.sums[B]


A3 = ["A", 1, EPOCH, 4, 1, 3, MINUTE]
F3 = ["F", 1, EPOCH, 4, 1, 3, MINUTE]
RULE3 = ["F", 1, EPOCH, 0, 1, 3, MINUTE]


# --- one record ---------------------------------------------------------------------------------------------------------

EMPTY: dict[str, int] = {}
CASES: list[tuple[str, list[Record], dict[str, int], dict[str, int], dict[str, int]]] = [
    # what happened, records, ledger, counter moves under the same epoch, under a later epoch
    ("three calls are charged", [A3], {row("api"): 6}, EMPTY, {API: 6, DAY: 6}),
    ("three calls pass by rule", [RULE3], {row("api"): 6}, {API: 6, DAY: 6}, {API: 6, DAY: 6}),
    ("two grants nobody used are refunded", [["R", 1, EPOCH, 4, 2]], EMPTY, {API: -4, DAY: -4}, EMPTY),
    (
        "a long exchange moves on", [["P", 1, 1, MINUTE, 10, 20, {"bandwidth": 30}]],
        {row("bandwidth"): 30, row("#in"): 10, row("#out"): 20}, {BYTES: 30}, {BYTES: 30},
    ),
    ("nothing moved", [["P", 1, 1, MINUTE, 0, 0, {"bandwidth": 0}]], EMPTY, EMPTY, EMPTY),
    (
        "one of the three ends", [A3, ["E", 2, 1, MINUTE + 1, "", 2, 15, 0, 5, {"bandwidth": 5}]],
        {row("api"): 6, row("bandwidth", MINUTE + 1): 5, row("#out", MINUTE + 1): 5, row("#2", MINUTE + 1): 1, row("#ms", MINUTE + 1): 15},
        {BYTES: 5}, {API: 6, DAY: 6, BYTES: 5},
    ),
    (
        "one of the three goes back, in the minute it was charged in", [A3, ["E", 2, 1, MINUTE + 1, "5xx", 5, 15, 0, 0, {}]],
        {row("api"): 4, row("^api"): 2, row("#5", MINUTE + 1): 1, row("#ms", MINUTE + 1): 15},
        {API: -2, DAY: -2}, {API: 4, DAY: 4},
    ),
    (
        "two of the three end alike", [A3, ["N", 1, MINUTE + 1, 2, 15, 3, 5, {"bandwidth": 8}, [1, 3]]],
        {
            row("api"): 6, row("bandwidth", MINUTE + 1): 8, row("#in", MINUTE + 1): 3, row("#out", MINUTE + 1): 5,
            row("#2", MINUTE + 1): 2, row("#ms", MINUTE + 1): 15,
        },
        {BYTES: 8}, {API: 6, DAY: 6, BYTES: 8},
    ),
    ("endings alike that nobody saw have no status", [["N", 1, MINUTE, 0, 0, 0, 0, {}, [9]]], EMPTY, EMPTY, EMPTY),
    ("an ending that nobody saw has no status", [["E", 9, 1, MINUTE, "killed", 0, 0, 0, 0, {}]], EMPTY, EMPTY, EMPTY),
]  # fmt: skip


@pytest.mark.parametrize(("records", "ledger", "now", "later"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_record_moves_the_ledger_and_what_admission_did_not_move_of_the_counters(
    records: list[Record], ledger: dict[str, int], now: dict[str, int], later: dict[str, int]
) -> None:
    found = sums(told(*records))
    assert (found.ledger, found.counter_moves(EPOCH), found.counter_moves(EPOCH + 1)) == (ledger, now, later)


def test_an_exchange_that_ends_under_other_facts_gives_back_what_it_was_charged() -> None:
    found = sums(told(["A", 1, EPOCH, 4, 1, 1, MINUTE], ["E", 1, 2, MINUTE + 9, "timeout", 5, 1, 0, 0, {}]))
    assert found.ledger[row("api")] == 0
    assert found.ledger[row("^api")] == 2
    assert found.ledger[row("#5", MINUTE + 9, OTHER)] == 1


def test_an_exchange_ends_once() -> None:
    end: Record = ["E", 1, 1, MINUTE, "5xx", 5, 1, 0, 0, {}]
    assert sums(told(["A", 1, EPOCH, 4, 1, 1, MINUTE], end, end)).ledger[row("api")] == 0


def test_exchanges_are_open_from_their_charge_to_their_end_across_segments() -> None:
    tally = told(A3, ["E", 2, 1, MINUTE, "", 2, 1, 0, 0, {}], ["O", 17, 2, MINUTE - 5])
    assert tally.open == {1: (1, MINUTE), 3: (1, MINUTE), 17: (2, MINUTE - 5)}
    assert tally.next_xid == 18


@pytest.mark.parametrize("record", [["A", 8, EPOCH, 1, 1, 1, MINUTE], ["R", 8, EPOCH, 1, 1], ["P", 1, 8, MINUTE, 0, 0, {}]])
def test_facts_that_were_never_named_are_an_error(record: Record) -> None:
    with pytest.raises(KeyError):
        told(record)


def test_the_expiry_of_every_counter_that_moves_is_known() -> None:
    found = sums(told(A3, ["P", 1, 1, MINUTE, 1, 1, {"bandwidth": 2}]))
    assert found.expires == {API: 1_000, DAY: 500, BYTES: 1_000}


# --- admits that were not answered --------------------------------------------------------------------------------------

RESOLVED: list[tuple[str, list[Record], int, list[list[int]], dict[str, int], dict[str, int], int]] = [
    # passed by rule meanwhile, what admit 4 had charged (tid, calls), moves now, moves later, api in the ledger
    ("it never ran", [F3], EPOCH, [], {API: 6, DAY: 6}, {API: 6, DAY: 6}, 6),
    ("it charged what the rule passed", [F3], EPOCH, [[1, 3]], EMPTY, {API: 6, DAY: 6}, 6),
    ("it charged less", [F3], EPOCH, [[1, 1]], {API: 4, DAY: 4}, {API: 6, DAY: 6}, 6),
    ("it charged more", [F3], EPOCH, [[1, 5]], {API: -4, DAY: -4}, {API: 6, DAY: 6}, 6),
    ("it charged and no call passed", [], EPOCH, [[1, 2]], {API: -4, DAY: -4}, EMPTY, 0),
    ("it charged another group than the one that passed", [F3], EPOCH, [[2, 2]], {API: 4, DAY: 6}, {API: 6, DAY: 6}, 6),
]


@pytest.mark.parametrize(
    ("passed", "epoch", "charged", "now", "later", "billed"), [case[1:] for case in RESOLVED], ids=[case[0] for case in RESOLVED]
)
def test_a_resolved_admit_is_charged_once_whoever_decided(
    passed: list[Record], epoch: int, charged: list[list[int]], now: dict[str, int], later: dict[str, int], billed: int
) -> None:
    tally = told(*passed, ["G", B, 4, epoch, charged])
    found = tally.sums.get(B, Sums())
    assert (found.counter_moves(EPOCH), found.counter_moves(EPOCH + 1)) == (now, later)
    assert sum(q for field, q in found.ledger.items() if "|api|" in field) == billed
    assert tally.by_rule == {}


def test_what_passed_by_rule_is_remembered_until_its_admit_is_resolved() -> None:
    assert told(F3, ["F", 2, EPOCH, 4, 4, 1, MINUTE]).by_rule == {(B, 4): {1: 3, 2: 1}}
    assert told(RULE3).by_rule == {}


@pytest.mark.parametrize(
    ("records", "last"),
    [
        ([A3], 4), ([F3], 4), ([["R", 1, EPOCH, 5, 1]], 5), ([["G", B, 6, EPOCH, []]], 6), ([A3, RULE3], 4),
        ([["B", "w", [[B, 0, 9]]], A3], 9), ([["B", "w", [[B, 2, 3]]], A3], 4),
    ],
)  # fmt: skip
def test_the_last_admit_that_the_journal_speaks_of_is_known(records: list[Record], last: int) -> None:
    assert told(*records).last_n == {B: last}


def test_grace_counts_calls_not_units() -> None:
    assert told(RULE3, ["F", 2, EPOCH, 9, 4, 1, MINUTE]).rule_passed == {API: 4, DAY: 3, BYTES: 3}


# --- cuts ---------------------------------------------------------------------------------------------------------------


def test_a_cut_takes_what_is_before_it_and_leaves_the_bucket_clean() -> None:
    tally, batches = replay(iter([*HEAD, A3, ["C", B, 1], ["R", 1, EPOCH, 5, 1], ["C", B, 2]]))
    assert [(b.bucket, b.seq, b.sums.ledger) for b in batches] == [(B, 1, {row("api"): 6}), (B, 2, {})]
    assert (tally.sums, tally.seqs) == ({}, {B: 2})


def test_an_empty_cut_is_a_batch_too() -> None:
    _, batches = replay(iter([*HEAD, ["C", B, 1]]))
    assert batches == [Batch(B, 1, Sums())]
    assert batches[0].minute == 0


def test_a_batch_tells_the_minute_of_its_first_row() -> None:
    _, batches = replay(iter([*HEAD, A3, ["C", B, 1]]))
    assert batches[0].minute == MINUTE


def test_a_segment_that_begins_carries_the_seqs_of_those_before_it() -> None:
    assert told(["B", "w", [[B, 5, 0], [8, 1, 0]]], ["B", "w", [[B, 4, 0]]]).seqs == {B: 5, 8: 1}


def test_counters_that_end_where_they_began_do_not_move() -> None:
    found = sums(told(["F", 1, EPOCH, 0, 1, 1, MINUTE], ["E", 1, 1, MINUTE, "5xx", 5, 1, 0, 0, {}]))
    assert found.counter_moves(EPOCH) == {}


def test_a_store_that_saw_nothing_moves_by_the_ledger_whatever_epoch_charged_it() -> None:
    records: list[Record] = [A3, ["A", 1, EPOCH + 1, 5, 4, 1, MINUTE], RULE3, ["E", 1, 1, MINUTE, "5xx", 5, 1, 0, 0, {}]]
    found = sums(told(*records))
    assert found.ledger_moves()[API] == found.ledger[row("api")] == 12


def test_a_template_survives_its_record() -> None:
    def facts(t: Template) -> tuple[Any, ...]:
        return t.tid, t.org_id, t.bucket, t.key_id, t.route_id, t.method, t.period_start, t.costs, t.counters

    assert facts(Template.of(T.record())) == facts(T)


def test_dimensions_keep_quantities_apart_and_facts_together_and_survive_the_journal() -> None:
    emea = Template(3, "o", B, 9, 5, "GET", 0, T.costs, T.counters, '{"tenant":"emea"}')
    again = Template.of(emea.record())
    assert (again.record(), again.dimensions) == (emea.record(), emea.dimensions)
    assert len(T.record()) == len(emea.record()) - 1  # what was written before there were dimensions reads the same
    tally = told(emea.record(), A3, ["A", 3, EPOCH, 5, 4, 1, MINUTE], ["E", 4, 3, MINUTE, "", 2, 9, 0, 0, {}])
    assert sums(tally).ledger == {
        row("api"): 6, row("api") + '{"tenant":"emea"}': 2, row("#2"): 1, row("#ms"): 9,
    }  # fmt: skip
