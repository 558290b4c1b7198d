"""When a cap on spending ends overage, and where."""

from decimal import Decimal

import pytest

from billing.model.pricing import PerUnit
from billing.model.spend_cap import Caps, spent, still_stand, stops
from metering.model.meter import Kind, Meter
from metering.model.quota import Mode, Quota

API = Meter(name="api", unit="request", title="API")
STORAGE = Meter(name="storage", unit="byte", title="Storage", kind=Kind.LEVEL)
TOKENS = Meter(name="tokens", unit="token", title="Tokens")
METERS = {m.name: m for m in (API, STORAGE, TOKENS)}
PRICES = {"api": PerUnit(each=Decimal("0.01")), "tokens": PerUnit(each=Decimal("0.001"))}
QUOTAS = (Quota(meter="api", limit=1000, mode=Mode.OVERAGE), Quota(meter="storage", limit=5))

D = Decimal
CAPS = [
    ("none", Caps(), None),
    ("the plan's", Caps(plan=D(500)), D(500)),
    ("the operator's in its place, higher", Caps(plan=D(500), operator=D(900)), D(900)),
    ("the operator's in its place, lower", Caps(plan=D(500), operator=D(90)), D(90)),
    ("the customer's, lower", Caps(plan=D(500), customer=D(20)), D(20)),
    ("the customer's, which was lower once", Caps(plan=D(10), customer=D(20)), D(10)),
    ("the plan's, lifted", Caps(plan=D(500), lifted=True), None),
    ("the customer's, where the plan's is lifted", Caps(plan=D(500), lifted=True, customer=D(700)), D(700)),
    ("nothing at all beyond the plan", Caps(plan=D(500), customer=D(0)), D(0)),
]


@pytest.mark.parametrize(("caps", "effective"), [case[1:] for case in CAPS], ids=[case[0] for case in CAPS])
def test_the_lower_of_what_is_allowed_and_what_is_wanted_holds(caps: Caps, effective: Decimal | None) -> None:
    assert caps.effective == effective


def test_what_is_beyond_the_included_adds_up_over_the_meters() -> None:
    assert spent(PRICES, QUOTAS, {"api": 1500, "tokens": 2000, "storage": 99}, METERS, "usd") == Decimal("7.00")


def test_every_charged_meter_stops_at_what_is_included_or_used() -> None:
    found = stops(PRICES, QUOTAS, {"api": 400, "tokens": 2000})
    assert [(q.meter, q.mode, q.limit, q.stop_at) for q in found] == [
        ("api", Mode.OVERAGE, 1000, 1000),
        ("tokens", Mode.OVERAGE, 0, 2000),
    ]


def test_the_stop_of_a_plan_that_comes_earlier_holds() -> None:
    quotas = (Quota(meter="api", limit=1000, mode=Mode.OVERAGE, stop_at=1200),)
    [found] = stops({"api": PRICES["api"]}, quotas, {"api": 1300})
    assert found.stop_at == 1200


def test_a_stop_changes_no_price() -> None:
    used = {"api": 1500, "tokens": 2000}
    assert spent(PRICES, (*QUOTAS[1:], *stops(PRICES, QUOTAS, used)), used, METERS, "usd") == spent(PRICES, QUOTAS, used, METERS, "usd")


def test_a_stop_that_was_set_stands_while_use_trickles_in() -> None:
    before = stops(PRICES, QUOTAS, {"api": 1500})
    assert still_stand(stops(PRICES, QUOTAS, {"api": 1502}), before)
    assert not still_stand(stops(PRICES, QUOTAS[1:], {"api": 1502}), before)
    assert not still_stand((), before)
