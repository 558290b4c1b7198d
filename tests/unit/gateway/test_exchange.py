"""How an exchange is weighed and how it ends: every ending pays, or returns."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from config.gateway import Cost, Failure, Fixed, FromHeader, Messages, Route, Weighed
from gateway.charges import Charge, make_charge
from gateway.exchange import Metered, cause_of_return, header_units
from gateway.frames import Frames
from gateway.metrics import GatewayMetrics
from gateway.outcome import Ended, Outcome
from gateway.recorder import LEFT_BEFORE, Recorder
from metering.model.apikey import KeyRecord
from metering.model.clock import FrozenClock
from metering.model.entitlement import Entitlement
from metering.model.ledger import parse
from metering.model.quota import Quota, Window

NOW_MS, HOUR_MS = 1_740_000_000_000, 3_600_000
ALL: frozenset[Failure] = frozenset({"unreachable", "5xx", "timeout"})
ACME = Entitlement(
    org_id="o", slug="acme", name="Acme", version=1, plan="free", plan_version=1, anchor_ms=0,
    quotas=(Quota(meter="bandwidth", limit=10**9, window=Window.HOUR),),
)  # fmt: skip


def route(return_on: frozenset[Failure] = ALL, **costs: Cost) -> Route:
    return Route(id=5, path="/*", upstream="app", charge=costs or {"api": Fixed(1)}, return_on=return_on)


# --- why units go back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "status", "cause"),
    [
        ("complete", 200, ""), ("complete", 404, ""), ("complete", 429, ""), ("complete", 499, ""), ("complete", 500, "5xx"),
        ("complete", 503, "5xx"), ("complete", None, ""), ("client_gone", None, ""), ("client_gone", 200, ""), ("client_gone", 500, ""),
        ("unreachable", None, "unreachable"), ("timeout", None, "timeout"), ("timeout", 200, "timeout"), ("upstream_reset", None, "5xx"),
        ("upstream_reset", 200, "5xx"), ("bad_response", None, "5xx"), ("cut", 101, ""),
    ],
)  # fmt: skip
def test_the_services_faults_go_back_and_the_clients_do_not(ended: Ended, status: int | None, cause: str) -> None:
    outcome = Outcome(status=status, ended=ended)
    assert cause_of_return(route(), outcome) == cause
    assert cause_of_return(route(frozenset()), outcome) == ""


@pytest.mark.parametrize("returns", [ALL, frozenset[Failure]()])
def test_a_call_that_no_service_was_sent_is_given_back_whatever_the_route_returns(returns: frozenset[Failure]) -> None:
    assert cause_of_return(route(returns), Outcome(ended="client_gone", unsent=True)) == LEFT_BEFORE


@pytest.mark.parametrize("kind", sorted(ALL))
def test_a_route_returns_for_the_causes_it_names_and_no_other(kind: Failure) -> None:
    outcomes = {
        "unreachable": Outcome(ended="unreachable"), "timeout": Outcome(ended="timeout"), "5xx": Outcome(status=502),
    }  # fmt: skip
    only = route(frozenset({kind}))
    assert {name: cause_of_return(only, outcome) for name, outcome in outcomes.items()} == {
        name: name if name == kind else "" for name in outcomes
    }


# --- what the answer says it costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (b"7", 7), (b" 7 ", 7), (b"0", 0), (b"007", 7), (b"-7", 0), (b"+7", 0), (b"7.5", 0), (b"1e3", 0), (b"", 0), (b"7, 8", 0),
        (b"1000000000000", 10**12), (b"1000000000001", 0), (b"9999999999999999", 0), ("٧".encode(), 0), (b"7\x00", 0), (b"1_000", 0),
    ],
)  # fmt: skip
def test_a_cost_from_a_header_is_a_whole_number_or_nothing(value: bytes, units: int) -> None:
    assert header_units(FromHeader("X-Pages"), [(b"Content-Type", b"3"), (b"x-pages", value)]) == units


def test_no_header_and_no_answer_cost_nothing() -> None:
    assert header_units(FromHeader("X-Pages"), [(b"X-Page", b"3")]) == 0
    assert header_units(FromHeader("X-Pages"), None) == 0


def test_of_a_header_that_is_repeated_the_first_counts() -> None:
    assert header_units(FromHeader("X-Pages"), [(b"X-Pages", b"3"), (b"X-Pages", b"9")]) == 3


# --- messages of a tunnel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "units"), [("messages", 5), ("request_messages", 2), ("response_messages", 3)])
def test_messages_are_written_down_once_as_a_tunnel_goes_on(source: str, units: int, house: "House") -> None:
    exchange = house.admit(words=Messages(source), bandwidth=Weighed("bytes"))  # type: ignore[arg-type]
    inwards, outwards = exchange.count_messages()
    inwards.messages, outwards.messages = 1, 2
    exchange.progress(10, 20)
    exchange.progress(10, 20)
    inwards.messages, outwards.messages = 2, 3
    exchange.end(outcome(101, moved=(15, 25)), 101, 9, "")
    assert {name: house.billed()[name] for name in ("words", "bandwidth")} == {"words": units, "bandwidth": 40}


def test_what_is_no_tunnel_has_no_messages(house: "House") -> None:
    house.admit(words=Messages("messages"), bandwidth=Weighed("bytes")).end(outcome(moved=(3, 4)), 200, 1, "")
    assert "words" not in house.billed()


# --- one exchange -------------------------------------------------------------------------------------------------------


class House:
    """One admitted exchange over a real recorder."""

    def __init__(self, directory: Path) -> None:
        self.clock = FrozenClock(NOW_MS)
        self.recorder = Recorder(directory, "w0-aa", self.clock.now_ms)
        self.registry = CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)
        self.charge: Charge

    def admit(self, **costs: Cost) -> "Exchange":
        of = route(**costs)
        self.charge = self._made(of)
        xid = self.recorder.granted(self.charge.template, 1, 1, 1)
        return Exchange(self, of, Metered(xid, self.charge, self.recorder, self.metrics))

    def _made(self, of: Route) -> Charge:
        return make_charge(ACME, of, "GET", KeyRecord(key_id=9, org_id=""), self.clock.now_ms())

    def now(self, of: Route) -> Charge:
        if not self.charge.holds(self.clock.now_ms()):
            self.charge = self._made(of)
        return self.charge

    def billed(self) -> dict[str, int]:
        """Measure -> quantity; zeros left out."""
        total = Counter[str]()
        self.recorder.flush()
        for sums in self.recorder.tally.sums.values():
            for field, quantity in sums.ledger.items():
                total[parse(field).measure] += quantity
        return {measure: quantity for measure, quantity in total.items() if quantity}

    def moved(self) -> dict[str, int]:
        """Counter `meter:window` -> what the store must add, had it seen nothing of this."""
        self.recorder.flush()
        (sums,) = self.recorder.tally.sums.values()
        return {":".join(key.split(":")[4::2]): delta for key, delta in sums.ledger_moves().items() if delta}


class Exchange:
    """One exchange; each of its records is written under the charge that holds then."""

    def __init__(self, house: House, of: Route, metered: Metered) -> None:
        self._house, self._of, self._metered = house, of, metered

    def count_messages(self) -> tuple[Frames, Frames]:
        frames = Frames(from_client=True), Frames(from_client=False)
        self._metered.count(frames)
        return frames

    def progress(self, bytes_in: int, bytes_out: int) -> None:
        self._metered.progress(self._house.now(self._of), bytes_in, bytes_out)

    def end(self, outcome: Outcome, status: int, ms: int, cause: str) -> None:
        self._metered.end(self._house.now(self._of), outcome, status, ms, cause)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.recorder.close()


def outcome(status: int | None = 200, ended: Ended = "complete", moved: tuple[int, int] = (0, 0), *, begun: bool = True) -> Outcome:
    return Outcome(status=status, ended=ended, bytes_in=moved[0], bytes_out=moved[1], first_byte_sent=begun)


BOTH: dict[str, Cost] = {"api": Fixed(2), "bandwidth": Weighed("bytes")}


def test_an_exchange_that_ends_well_pays_its_units_and_its_bytes(house: House) -> None:
    house.admit(**BOTH).end(outcome(moved=(10, 30)), 200, 12, "")
    assert house.billed() == {"api": 2, "bandwidth": 40, "#2": 1, "#ms": 12, "#in": 10, "#out": 30}
    assert house.recorder.tally.open == {}


@pytest.mark.parametrize(("source", "units"), [("bytes", 40), ("request_bytes", 10), ("response_bytes", 30)])
def test_bytes_are_weighed_in_the_direction_that_is_charged(house: House, source: str, units: int) -> None:
    house.admit(bandwidth=Weighed(source)).end(outcome(moved=(10, 30)), 200, 1, "")  # type: ignore[arg-type]
    assert house.billed()["bandwidth"] == units


def test_each_byte_of_a_long_exchange_is_written_down_once(house: House) -> None:
    metered = house.admit(**BOTH)
    for moved in ((5, 0), (5, 100), (8, 100)):
        metered.progress(*moved)
    metered.end(outcome(moved=(8, 250)), 200, 3_000, "")
    assert house.billed() == {"api": 2, "bandwidth": 258, "#2": 1, "#ms": 3_000, "#in": 8, "#out": 250}


def test_the_bytes_of_a_long_exchange_belong_to_the_window_they_moved_in(house: House) -> None:
    metered = house.admit(bandwidth=Weighed("bytes"))
    first = house.charge.limits[-1].counter
    metered.progress(0, 100)
    house.clock.advance(HOUR_MS / 1000)
    metered.progress(0, 130)
    metered.end(outcome(moved=(0, 135)), 200, 1, "")
    second = house.charge.limits[-1].counter
    house.recorder.flush()
    (sums,) = house.recorder.tally.sums.values()
    assert (sums.moves[first], sums.moves[second]) == (100, 35)


def test_a_cost_from_the_answer_is_counted_once_however_long_it_took(house: House) -> None:
    metered = house.admit(pages=FromHeader("X-Pages"))
    metered.progress(0, 10)
    ended = outcome(moved=(0, 20))
    ended.response_headers = [(b"X-Pages", b"3")]
    metered.end(ended, 200, 1, "")
    assert house.billed()["pages"] == 3


def test_a_fault_before_the_first_byte_gives_back_everything(house: House) -> None:
    house.admit(**BOTH).end(outcome(None, "unreachable", (10, 0), begun=False), 502, 1, "unreachable")
    assert house.billed() == {"^api": 2, "#5": 1, "#ms": 1, "#in": 10}


def test_a_fault_after_the_first_byte_gives_back_the_admissions_units_alone(house: House) -> None:
    house.admit(**BOTH).end(outcome(200, "upstream_reset", (0, 30)), 200, 1, "5xx")
    assert house.billed() == {"^api": 2, "bandwidth": 30, "#2": 1, "#ms": 1, "#out": 30}


def test_a_long_upload_that_the_service_fails_gives_back_the_bytes_it_had_weighed(house: House) -> None:
    metered = house.admit(**BOTH)
    metered.progress(100, 0)
    house.clock.advance(HOUR_MS / 1000)
    metered.progress(250, 0)
    metered.end(outcome(None, "timeout", (300, 0), begun=False), 504, 1, "timeout")
    assert house.billed() == {"^api": 2, "#5": 1, "#ms": 1, "#in": 300}
    assert house.moved() == {}


def test_an_upload_whose_answer_had_begun_keeps_its_weight(house: House) -> None:
    metered = house.admit(**BOTH)
    metered.progress(100, 0)
    metered.progress(100, 7)
    metered.end(outcome(200, "upstream_reset", (100, 7)), 200, 1, "5xx")
    assert house.billed()["bandwidth"] == 107


def test_a_client_that_leaves_pays_for_what_moved(house: House) -> None:
    house.admit(**BOTH).end(outcome(None, "client_gone", (10, 0), begun=False), 0, 1, "")
    assert house.billed() == {"api": 2, "bandwidth": 10, "#in": 10}


def test_the_metrics_tell_units_admitted_weighed_and_returned(house: House) -> None:
    house.admit(**BOTH).end(outcome(500, moved=(0, 30)), 500, 1, "5xx")
    house.metrics.gather()
    value = house.registry.get_sample_value
    admitted = [value("weighbridge_admitted_units_total", {"meter": meter}) for meter in ("api", "bandwidth")]
    assert admitted == [2, 30]
    assert value("weighbridge_returned_units_total", {"meter": "api", "cause": "5xx"}) == 2
