"""A tunnel whose caller may call no longer ends, whether or not anything it weighs has a limit."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway import compiled
from gateway.charges import make_charge
from gateway.directory import Caller, Org
from gateway.looks import Lookout
from metering.model.apikey import KeyRecord
from metering.model.entitlement import Entitlement
from metering.model.errors import StoreUnavailable, Unauthorized
from tests.unit.gateway.test_looks import COSTS, NOW_MS, Route

pytestmark = pytest.mark.skipif(compiled.in_use(), reason="a call's stand-in is no compiled call")


def caller_of(expires_at_ms: int | None = None, *, valid: bool = True) -> Caller:
    org = Org(Entitlement(org_id="o", slug="acme", name="Acme", version=3, plan="free", plan_version=1, anchor_ms=0))
    made = Caller("key:x", KeyRecord(key_id=9, org_id="o", expires_at_ms=expires_at_ms), org)
    made.valid = valid
    return made


class Tunnel:
    """A call that has become a tunnel, in a house whose directory answers with `found`."""

    def __init__(self, caller: Caller | None, found: Caller | Exception | None = None, *, answers: bool = True) -> None:
        self.now_ms, self.found, self.looked_up, self.ended = NOW_MS, found, 0, list[str]()
        self.caller, self.over, self.status, self.client = caller, False, 101, self
        self.handler = SimpleNamespace(
            now_ms=lambda: self.now_ms, admission=SimpleNamespace(answers=lambda bucket: answers), renew=self.renew,
            log_refusal=lambda *facts, **more: None,
        )  # fmt: skip
        org = caller.org.entitlement if caller else caller_of().org.entitlement
        self.charge = make_charge(org, Route(id=5, path="/*", upstream="app", charge=COSTS), "GET", KeyRecord(key_id=9, org_id=""), NOW_MS)
        self.lookout = Lookout(cast(Any, self))

    def charge_now(self, now_ms: int) -> Any:
        return self.charge

    def charge_anew(self) -> Any:
        return self.charge

    def run(self, slow: Coroutine[Any, Any, None]) -> None:
        asyncio.get_running_loop().create_task(slow)

    def cut(self, code: int, reason: str) -> None:
        self.ended.append(reason)
        self.over = True

    async def renew(self, call: Any, status: Any) -> bool:
        self.looked_up += 1
        if isinstance(self.found, Exception):
            raise self.found
        self.caller = self.found
        return True

    async def looks(self, times: int = 3) -> list[str]:
        for _ in range(times):
            if not self.over:
                self.lookout.look()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return self.ended


async def test_while_its_key_is_good_nobody_is_asked() -> None:
    tunnel = Tunnel(caller_of(NOW_MS + 1))
    assert (await tunnel.looks(), tunnel.looked_up) == ([], 0)


async def test_with_its_key_a_tunnel_ends() -> None:
    tunnel = Tunnel(caller_of(NOW_MS + 1))
    tunnel.now_ms += 1
    assert await tunnel.looks() == [Unauthorized.code]


async def test_a_key_that_was_withdrawn_ends_it() -> None:
    assert await Tunnel(caller_of(valid=False), Unauthorized("gone")).looks() == [Unauthorized.code]


async def test_whoever_was_only_forgotten_is_looked_up_once_and_goes_on() -> None:
    tunnel = Tunnel(caller_of(valid=False), caller_of())
    assert (await tunnel.looks(), tunnel.looked_up) == ([], 1)


async def test_a_token_whose_caller_is_nowhere_kept_is_not_looked_up_each_second() -> None:
    tunnel = Tunnel(caller_of(valid=False), caller_of(valid=False))
    assert (await tunnel.looks(), tunnel.looked_up) == ([], 1)


async def test_while_the_store_is_away_nobody_is_looked_up_and_it_goes_on() -> None:
    tunnel = Tunnel(caller_of(valid=False), answers=False)
    assert (await tunnel.looks(), tunnel.looked_up) == ([], 0)


async def test_a_store_that_cannot_say_is_asked_again() -> None:
    tunnel = Tunnel(caller_of(valid=False), StoreUnavailable("away"))
    assert (await tunnel.looks(), tunnel.looked_up) == ([], 3)


async def test_a_tunnel_on_an_open_route_has_nobody_to_look_at() -> None:
    assert await Tunnel(None).looks() == []
