"""Reserve, settle, release: what an exchange is charged on every ending, where it goes back, and what a successor reads."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from config.gateway import Cost, Fixed, Route, Settled, Source, Weighed
from gateway.charges import Charge, make_charge
from gateway.exchange import cause_of_return
from gateway.metrics import GatewayMetrics
from gateway.outcome import Ended, Outcome
from gateway.recorder import Recorder, records
from gateway.reserve import Reserved, taken
from gateway.tally import replay
from metering.model.apikey import KeyRecord
from metering.model.clock import FrozenClock
from metering.model.entitlement import Entitlement
from metering.model.ledger import parse
from metering.model.quota import Mode, Quota, Then, Window

NOW_MS, HOUR_MS = 1_740_000_000_000, 3_600_000
RESERVE = 2_000
TOKENS = Settled(sources=(Source("json", "/n"),), reserve=RESERVE)
ENDINGS: tuple[Ended, ...] = ("complete", "client_gone", "unreachable", "timeout", "upstream_reset", "bad_response")


@dataclass
class Said:
    """What an answer has said so far."""

    found: int | str
    whole: bool = True
    refused: bool = False

    def units(self, cost: Settled) -> int | str:
        return self.found


# --- the rule -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "ended", "otherwise", "units", "reason"),
    [
        (Said(42), "complete", None, 42, ""),
        (Said(0), "complete", None, 0, ""),
        (Said(9_000), "complete", None, 9_000, ""),
        (Said("missing"), "complete", None, RESERVE, "missing"),
        (Said("too_large"), "complete", 0, 0, "too_large"),
        (Said("encoded"), "complete", 7_000, 7_000, "encoded"),
        (Said("missing", refused=True), "complete", None, 0, ""),
        (Said("missing", whole=False, refused=True), "client_gone", None, 0, ""),
        (Said(5, refused=True), "complete", None, 5, ""),
        (Said(42), "client_gone", None, 42, ""),  # all was said: that it left changes nothing
        (Said(42, whole=False), "client_gone", None, RESERVE, "broken_off"),
        (Said(42, whole=False), "client_gone", 10, 42, "broken_off"),
        (Said(9_000, whole=False), "timeout", None, 9_000, "broken_off"),
        (Said("missing", whole=False), "client_gone", None, RESERVE, "broken_off"),
        (Said("negative", whole=False), "upstream_reset", None, RESERVE, "broken_off"),
    ],
)
def test_what_an_exchange_is_charged_that_pays(said: Said, ended: Ended, otherwise: int | None, units: int, reason: str) -> None:
    cost = Settled(sources=TOKENS.sources, reserve=RESERVE, otherwise=otherwise)
    assert taken(cost, said, Outcome(ended=ended)) == (units, reason)  # type: ignore[arg-type] # as much of a reading as is asked


# --- in the ledger and the counters -------------------------------------------------------------------------------------


@dataclass
class House:
    """One admitted exchange over a real recorder; `throttled`: its quota is one of a throttle."""

    directory: Path
    quota: Quota = field(default_factory=lambda: Quota(meter="tokens", limit=10**9, window=Window.HOUR))
    told: list[tuple[str, str, int]] = field(default_factory=list)
    waited_for: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FrozenClock(NOW_MS)
        self.recorder = Recorder(self.directory, "w0-aa", self.clock.now_ms)
        self.registry = CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)
        self.org = Entitlement(
            org_id="o", slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0, quotas=(self.quota,)
        )
        self.route = Route(
            id=5, path="/*", upstream="app", charge={"tokens": TOKENS}, return_on=frozenset(("5xx", "timeout", "unreachable"))
        )

    def admit(self, said: Said, beyond: int = 0, used: tuple[int, ...] = (), **more: Cost) -> Reserved:
        self.route = Route(
            id=5, path="/*", upstream="app", charge={"tokens": TOKENS, **more}, return_on=frozenset(("5xx", "timeout", "unreachable"))
        )
        charge = self.charge()
        xid = self.recorder.granted(charge.template_of(beyond), 1, 1, 1)
        return Reserved(xid, charge, self.recorder, self.metrics, beyond, said, self, used)  # type: ignore[arg-type]

    def charge(self) -> Charge:
        return make_charge(self.org, self.route, "GET", KeyRecord(key_id=9, org_id=""), self.clock.now_ms())

    def end(self, exchange: Reserved, ended: Ended = "complete", status: int | None = 200, *, begun: bool = True) -> None:
        outcome = Outcome(status=status, ended=ended, first_byte_sent=begun)
        exchange.end(self.charge(), outcome, status or 0, 1, cause_of_return(self.route, outcome))

    def units_unsaid(self, outcome: Outcome, meter: str, reason: str, charged: int) -> None:
        self.told.append((meter, reason, charged))

    def ship_soon(self, bucket: int) -> None:
        self.waited_for.append(bucket)

    def billed(self) -> dict[str, int]:
        """Measure -> quantity, facts and zeros left out."""
        total = Counter[str]()
        self.recorder.flush()
        for sums in self.recorder.tally.sums.values():
            for name, quantity in sums.ledger.items():
                total[parse(name).measure] += quantity
        return {measure: quantity for measure, quantity in total.items() if quantity and not measure.startswith("#")}

    def minutes(self) -> dict[int, int]:
        """Minutes from the beginning -> tokens."""
        self.recorder.flush()
        (sums,) = self.recorder.tally.sums.values()
        rows = [(parse(name), quantity) for name, quantity in sums.ledger.items()]
        return {row.minute - NOW_MS // 60_000: quantity for row, quantity in rows if row.measure == "tokens" and quantity}

    def moved(self) -> dict[str, int]:
        """Counter `scope:window:start` -> what the store must add, had it seen nothing of this."""
        self.recorder.flush()
        (sums,) = self.recorder.tally.sums.values()
        return {":".join(key.split(":")[5:]): delta for key, delta in sums.ledger_moves().items() if delta}

    def successor(self) -> tuple[dict[str, int], dict[str, int]]:
        """Ledger and counters as whoever reads the journal has them."""
        self.recorder.flush()
        tally, _ = replay(records(self.directory, "w0-aa"))
        (sums,) = tally.sums.values()
        return {k: v for k, v in sums.ledger.items() if v}, {k: v for k, v in sums.ledger_moves().items() if v}

    def own(self) -> tuple[dict[str, int], dict[str, int]]:
        self.recorder.flush()
        (sums,) = self.recorder.tally.sums.values()
        return {k: v for k, v in sums.ledger.items() if v}, {k: v for k, v in sums.ledger_moves().items() if v}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.recorder.close()


def test_the_reserve_is_drawn_at_admission_and_checked_against_every_limit(house: House) -> None:
    house.admit(Said(42))
    assert house.billed() == {"tokens": RESERVE}
    assert {limit.cost for limit in house.charge().limits if limit.meter == "tokens"} == {RESERVE}


@pytest.mark.parametrize("units", [0, 1, RESERVE - 1, RESERVE, RESERVE + 1, 50_000])
def test_an_exchange_that_completes_is_charged_what_its_answer_said(house: House, units: int) -> None:
    house.end(house.admit(Said(units), api=Fixed(1)))
    assert house.billed() == {"api": 1, **({"tokens": units} if units else {})}
    assert house.own() == house.successor()


@pytest.mark.parametrize("ended", ENDINGS)
def test_every_ending_settles_or_releases(house: House, ended: Ended) -> None:
    house.end(house.admit(Said(42, whole=ended == "complete")), ended, begun=ended not in ("unreachable", "bad_response"))
    expected = {"complete": {"tokens": 42}, "client_gone": {"tokens": RESERVE}}
    assert house.billed() == expected.get(ended, {"^tokens": RESERVE})
    assert house.recorder.tally.open == {}
    assert house.own() == house.successor()


def test_a_service_that_fails_gives_back_the_reserve_whatever_it_said(house: House) -> None:
    house.end(house.admit(Said(9_000)), status=500)
    assert house.billed() == {"^tokens": RESERVE}
    assert house.moved() == {}


def test_a_service_that_refuses_releases_the_reserve_and_that_is_no_fault(house: House) -> None:
    house.end(house.admit(Said("missing", refused=True)), status=400)
    assert (house.billed(), house.told) == ({}, [])


def test_a_worker_that_is_killed_has_its_reserves_given_back_by_its_successor(house: House) -> None:
    house.admit(Said(42))
    house.recorder.flush()
    house.recorder.close()
    successor = Recorder(house.directory, "w0-aa", house.clock.now_ms)
    assert successor.close_open() == 1
    (sums,) = successor.tally.sums.values()
    assert {parse(name).measure: quantity for name, quantity in sums.ledger.items() if quantity} == {"^tokens": RESERVE}
    assert not any(sums.ledger_moves().values())
    successor.close()


def test_what_was_settled_and_what_ended_are_on_disk_together_or_not_at_all(house: House) -> None:
    """Killed before the frame of its end was written, an exchange is still in flight, and all of it goes back."""
    exchange = house.admit(Said(42))
    house.recorder.flush()
    before = len(list(records(house.directory, "w0-aa")))
    house.end(exchange)
    assert len(list(records(house.directory, "w0-aa"))) == before
    house.recorder.flush()
    kind, frame = list(records(house.directory, "w0-aa"))[-1]
    assert (kind, [record[0] for record in frame]) == ("M", ["P", "N"])


def test_what_was_not_used_goes_back_in_the_minute_and_the_window_it_was_drawn_in(house: House) -> None:
    exchange = house.admit(Said(500))
    first = house.moved()
    house.clock.advance(2 * HOUR_MS / 1000)
    house.end(exchange)
    assert house.minutes() == {0: 500}
    assert house.moved() == dict.fromkeys(first, 500)
    assert house.own() == house.successor()


def test_what_is_beyond_the_reserve_is_drawn_in_the_window_it_is_known_in(house: House) -> None:
    exchange = house.admit(Said(5_000))
    house.clock.advance(2 * HOUR_MS / 1000)
    house.end(exchange)
    assert house.minutes() == {0: RESERVE, 120: 3_000}
    assert sorted(house.moved().values()) == [RESERVE, 3_000, 5_000]  # the hour of admission, the hour of the end, the period
    assert house.own() == house.successor()


def test_a_call_beyond_a_throttle_settles_in_both_its_quotas(tmp_path: Path) -> None:
    house = House(tmp_path, Quota(meter="tokens", limit=1, mode=Mode.THROTTLE, then=Then(limit=10**6, window=Window.DAY)))
    house.end(house.admit(Said(500), beyond=1))
    assert set(house.moved().values()) == {500}
    assert len(house.moved()) == 2
    house.recorder.close()


def test_bytes_are_weighed_beside_it(house: House) -> None:
    exchange = house.admit(Said(500), bandwidth=Weighed("bytes"))
    exchange.progress(house.charge(), 10, 90)
    outcome = Outcome(status=200, bytes_in=10, bytes_out=130, first_byte_sent=True)
    exchange.end(house.charge(), outcome, 200, 1, "")
    assert house.billed() == {"tokens": 500, "bandwidth": 140}


def test_the_metrics_tell_what_was_settled_released_and_not_said(house: House) -> None:
    house.end(house.admit(Said(500)))
    house.end(house.admit(Said(2_100)))
    house.end(house.admit(Said("not_json")))
    house.metrics.gather()
    value = house.registry.get_sample_value
    assert value("weighbridge_admitted_units_total", {"meter": "tokens"}) == 3 * RESERVE + 100
    assert value("weighbridge_returned_units_total", {"meter": "tokens", "cause": "unused"}) == 1_500
    assert value("weighbridge_settled_units_total", {"meter": "tokens"}) == 4_600
    assert value("weighbridge_unit_faults_total", {"meter": "tokens", "reason": "not_json"}) == 1
    assert house.told == [("tokens", "not_json", RESERVE)]
    assert house.billed() == {"tokens": 4_600}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.sampled_from(ENDINGS), st.integers(0, 100), st.booleans()), min_size=1, max_size=12))
def test_counters_are_the_ledger_and_no_minute_is_below_zero(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, Ended, int, bool]]
) -> None:
    house = House(tmp_path_factory.mktemp("walk"))
    under_way: list[tuple[Reserved, Ended]] = []
    for units, ended, minutes, at_once in calls:
        under_way.append((house.admit(Said(units, whole=ended == "complete")), ended))
        house.clock.advance(minutes * 60)
        if at_once:
            house.end(*under_way.pop())
    for exchange, ended in under_way:
        house.end(exchange, ended)
    (sums,) = house.recorder.tally.sums.values()
    tokens = {name: quantity for name, quantity in sums.ledger.items() if parse(name).measure == "tokens"}
    assert all(quantity >= 0 for quantity in tokens.values())
    period = [quantity for name, quantity in sums.ledger_moves().items() if name.split(":")[-1].startswith("p")]
    assert sum(period) == sum(tokens.values())
    assert house.own() == house.successor()
    house.recorder.close()


def test_an_exchange_that_was_given_back_meanwhile_settles_nothing(house: House) -> None:
    exchange = house.admit(Said(50_000))
    house.recorder.left_before(exchange.xid)
    house.end(exchange)
    assert house.billed() == {"^tokens": RESERVE}
    assert house.moved() == {}


@pytest.mark.parametrize(("left", "at_once"), [(8 * RESERVE, False), (8 * RESERVE - 1, True), (0, True)])
def test_near_a_hard_limit_what_was_settled_is_shipped_at_once(house: House, left: int, *, at_once: bool) -> None:
    used = tuple((limit.enforced or 0) - left for limit in house.charge().limits)
    house.end(house.admit(Said(500), used=used))
    assert (house.waited_for == [house.charge().bucket]) is at_once
    house.waited_for.clear()
    house.end(house.admit(Said(RESERVE), used=used))
    assert house.waited_for == []  # nothing to settle
