"""What a tunnel asks that goes on: the limits that it weighs towards, and nothing else of what a call is asked."""

import pytest

from config.gateway import Cost, Fixed, Messages, Route, Weighed
from gateway.charges import Charge, make_charge
from gateway.looks import charge_of_a_look
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.quota import CLOSED, OPEN, Concurrency, Mode, Per, Quota, Rate, Then, Window

NOW_MS = 1_740_000_000_000
COSTS: dict[str, Cost] = {"api": Fixed(1), "words": Messages("messages"), "bandwidth": Weighed("bytes")}


def charge(*quotas: Quota, rates: tuple[Rate, ...] = (), concurrency: tuple[Concurrency, ...] = ()) -> Charge:
    entitlement = Entitlement(
        org_id="o", slug="acme", name="Acme", version=3, plan="free", plan_version=1, anchor_ms=0,
        quotas=quotas, rates=rates, concurrency=concurrency,
    )  # fmt: skip
    route = Route(id=5, path="/*", upstream="app", charge=COSTS, on_store_failure=CLOSED)
    return make_charge(entitlement, route, "GET", KeyRecord(key_id=9, org_id=""), NOW_MS)


@pytest.mark.parametrize(
    "quotas",
    [
        (),
        (Quota(meter="api", limit=5),),
        (Quota(meter="words", limit=5, mode=Mode.SOFT), Quota(meter="bandwidth", limit=5, shadow=True)),
        (Quota(meter="words", limit=None),),
        (Quota(meter="pages", limit=5),),
    ],
    ids=["no quota", "on what is charged at once", "that refuse nobody", "unlimited", "on a meter that is not weighed here"],
)
def test_nothing_is_asked_where_nothing_weighed_can_be_refused(quotas: tuple[Quota, ...]) -> None:
    assert charge_of_a_look(charge(*quotas)) is None


def test_only_limits_on_what_is_weighed_are_looked_at_and_nothing_is_charged() -> None:
    of = charge(
        Quota(meter="api", limit=5), Quota(meter="words", limit=7, window=Window.DAY, per=Per.KEY), Quota(meter="bandwidth", limit=9),
        rates=(Rate(meter=None, limit=1, per="second"),), concurrency=(Concurrency(limit=1),),
    )  # fmt: skip
    look = charge_of_a_look(of)
    assert look is not None
    assert [(limit.meter, limit.enforced, limit.cost) for limit in look.limits] == [("bandwidth", 9, 0), ("words", 7, 0)]
    assert (look.rates, look.slots, look.weighed, look.counted, look.rule) == ((), (), (), False, OPEN)
    assert (look.version, look.from_ms, look.until_ms, look.bucket) == (of.version, of.from_ms, of.until_ms, of.bucket)


def test_a_throttle_is_looked_at_with_its_slower_quota() -> None:
    then = Then(limit=3, window=Window.DAY)
    look = charge_of_a_look(charge(Quota(meter="api", limit=2), Quota(meter="words", limit=7, mode=Mode.THROTTLE, then=then)))
    assert look is not None
    assert [(limit.meter, limit.enforced, limit.main) for limit in look.limits] == [("words", None, None), ("words", 3, 0)]


def test_equal_tunnels_ask_one_question() -> None:
    of = charge(Quota(meter="words", limit=7))
    assert charge_of_a_look(of) is charge_of_a_look(of)
    assert charge_of_a_look(charge()) is None
