"""Who is calling: what is asked of the store, how often, and what is said when it does not know or does not answer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import hiredis
import pytest

from gateway import directory as directories
from gateway.directory import Caller, Directory
from gateway.strangers import LOOKS_AT_ONCE, MISS_BURST, MISSES_PER_SECOND, TooManyUnknownKeys
from metering.model import apikey, entitlement, keys
from metering.model.apikey import KeyRecord, Kind, record_to_json
from metering.model.clock import FrozenClock
from metering.model.entitlement import Entitlement
from metering.model.errors import StoreUnavailable, Unauthorized
from metering.store.redis.errors import LinkLost
from metering.store.redis.link import Link, Server

ORG = "5f0c1a52-7d43-4f0e-9c57-0f6f0f2b9a11"
KEY, SECOND = apikey.mint(b"a" * 18), apikey.mint(b"b" * 18)
SHA = apikey.sha256_hex(KEY)
HERE, THERE = "203.0.113.1", "203.0.113.2"


class Store:
    """A scripted store behind a link: what it holds, what it was asked, and how it fails."""

    def __init__(self) -> None:
        self.server: Server | None = Server("run-1", "9.0.0")
        self.values: dict[str, str] = {keys.epoch(bucket): "1 run-1" for bucket in range(keys.BUCKETS)}
        self.asked: list[str] = []
        self.commands: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.regains = False
        self.on_question: Callable[[str], None] = lambda question: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def regained(self, seconds: float) -> bool:
        """Whether the connection is there again: then what had failed goes well."""
        if self.regains:
            self.failure = None
        return self.regains

    async def execute(self, *args: Any) -> bytes | int | None:
        self.commands.append(args)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if args[0] == "GET":
            value = self.values.get(args[1])
            return value.encode() if value is not None else None
        if args[0] == "RPUSH":
            self.asked.append(args[2])
            self.on_question(args[2])
        return 1

    def publish(self, *credentials: str, version: int = 1, expires_at_ms: int | None = None, slug: str = "acme") -> None:
        made = Entitlement(org_id=ORG, slug=slug, name="Acme", version=version, plan="free", plan_version=1, anchor_ms=0)
        self.values[keys.entitlement(ORG)] = json.dumps(entitlement.to_json(made))
        self.values[keys.slug(slug)] = ORG
        for credential in credentials:
            record = KeyRecord(key_id=9, org_id=ORG, expires_at_ms=expires_at_ms)
            self.values[keys.api_key(apikey.sha256_hex(credential))] = record_to_json(record)

    def withdraw(self, *names: str) -> None:
        for name in names:
            self.values.pop(name, None)

    def reads(self, name: str) -> int:
        return self.commands.count(("GET", name))


class Desk:
    """A directory over such a store, and a clock."""

    def __init__(self, most: int = 100) -> None:
        self.store, self.clock = Store(), FrozenClock(1_740_000_000_000)
        link = cast(Link, self.store)
        self.directory = Directory(link, now_ms=self.clock.now_ms, monotonic=self.clock.monotonic, most=most)

    async def ask(self, credential: str = KEY, address: str = HERE) -> Caller:
        return await self.directory.caller(credential, address)


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(directories, "MISS_WAIT_SECONDS", 0.01)
    return Desk()


# --- known --------------------------------------------------------------------------------------------------------------


async def test_a_key_is_asked_after_once_and_known_from_then_on(desk: Desk) -> None:
    desk.store.publish(KEY)
    assert desk.directory.known(KEY) is None
    caller = await desk.ask()
    assert (caller.key.key_id, caller.org.entitlement.slug) == (9, "acme")
    before = len(desk.store.commands)
    assert await desk.ask() is desk.directory.known(KEY) is caller
    assert len(desk.store.commands) == before


async def test_two_keys_of_an_organization_share_what_is_known_of_it(desk: Desk) -> None:
    desk.store.publish(KEY, SECOND)
    assert (await desk.ask(KEY)).org is (await desk.ask(SECOND)).org
    assert desk.store.reads(keys.entitlement(ORG)) == 1


async def test_many_calls_with_a_new_key_ask_once(desk: Desk) -> None:
    desk.store.publish(KEY)
    callers = await asyncio.gather(*(desk.ask() for _ in range(50)))
    assert len(set(map(id, callers))) == 1
    assert desk.store.reads(keys.api_key(SHA)) == 1


async def test_a_client_that_leaves_does_not_take_the_others_answer_along(desk: Desk) -> None:
    desk.store.publish(KEY)
    desk.store.gate.clear()
    first, second = asyncio.ensure_future(desk.ask()), asyncio.ensure_future(desk.ask())
    await asyncio.sleep(0)
    first.cancel()
    desk.store.gate.set()
    assert (await second).key.key_id == 9
    assert first.cancelled()


async def test_the_keys_used_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(most=2)
    third = apikey.mint(b"c" * 18)
    desk.store.publish(KEY, SECOND, third)
    for credential in (KEY, SECOND, KEY, third):
        await desk.ask(credential)
    assert [desk.directory.known(c) is not None for c in (KEY, SECOND, third)] == [True, False, True]


async def test_many_callers_in_use_make_room_for_a_new_one_all_the_same() -> None:
    desk = Desk(most=3)
    credentials = [apikey.mint(bytes([number]) * 18) for number in range(8)]
    desk.store.publish(*credentials)
    for credential in credentials:
        caller = await desk.ask(credential)
        desk.directory.touch(caller)
        assert desk.directory.known(credential) is caller
    assert sum(desk.directory.known(c) is not None for c in credentials) == 3


# --- valid --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [("org", ORG), ("noorg", ORG), ("key", SHA), ("nokey", SHA)])
async def test_a_caller_is_valid_until_control_says_that_it_changed(desk: Desk, message: tuple[str, str]) -> None:
    desk.store.publish(KEY)
    caller = await desk.ask()
    assert caller.valid
    desk.directory.heard(*message)
    assert not caller.valid


async def test_no_caller_is_valid_after_a_gap_in_what_control_said(desk: Desk) -> None:
    desk.store.publish(KEY, SECOND)
    callers = [await desk.ask(credential) for credential in (KEY, SECOND)]
    desk.directory.forget_all()
    assert [caller.valid for caller in callers] == [False, False]


async def test_a_caller_that_was_forgotten_to_make_room_is_not_valid() -> None:
    desk = Desk(most=1)
    desk.store.publish(KEY, SECOND)
    first, second = await desk.ask(KEY), await desk.ask(SECOND)
    assert (first.valid, second.valid) == (False, True)


async def test_an_organization_keeps_nobody_in_memory_who_was_forgotten_to_make_room() -> None:
    desk = Desk(most=1)
    desk.store.publish(KEY, SECOND)
    first = await desk.ask(KEY)
    first.org.latest_of = first  # as Handler.charge_of leaves it
    await desk.ask(SECOND)
    assert (first.org.latest, first.org.latest_of) == (None, None)


async def test_a_refreshed_caller_is_valid_and_the_stale_one_is_not(desk: Desk) -> None:
    desk.store.publish(KEY, SECOND)
    stale, other = await desk.ask(), await desk.ask(SECOND)
    fresh = await desk.directory.refresh(stale)
    assert (stale.valid, other.valid, fresh.valid) == (False, False, True)


async def test_an_organization_that_changes_while_its_key_is_read_is_not_remembered_as_it_was(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    desk.directory.heard("nokey", SHA)
    desk.store.gate.clear()
    asked = asyncio.ensure_future(desk.ask())
    await asyncio.sleep(0)
    desk.store.publish(version=2)
    desk.directory.heard("org", ORG)
    desk.store.gate.set()
    assert (await asked).org.entitlement.version == 2


# --- unknown ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["", "wbk_live_short", KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), "x" * 513])
async def test_a_malformed_key_is_refused_without_asking_anyone(desk: Desk, credential: str) -> None:
    with pytest.raises(Unauthorized, match="malformed"):
        await desk.ask(credential)
    assert desk.store.commands == []


async def test_an_unknown_key_is_asked_of_control_and_then_refused(desk: Desk) -> None:
    with pytest.raises(Unauthorized, match="unknown"):
        await desk.ask()
    assert desk.store.asked == [f"key {SHA}"]
    assert ("LTRIM", keys.ASKED, -directories.ASKED_AT_MOST, -1) in desk.store.commands


async def test_what_control_publishes_on_being_asked_is_used_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MISS_WAIT_SECONDS", 60.0)

    def answer(question: str) -> None:
        desk.store.publish(KEY)
        desk.directory.heard(*question.split(" "))

    desk.store.on_question = answer
    assert (await desk.ask()).key.key_id == 9


async def test_a_no_of_control_ends_the_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MISS_WAIT_SECONDS", 60.0)
    desk.store.on_question = lambda question: desk.directory.heard("no" + question.split(" ")[0], question.split(" ")[1])
    with pytest.raises(Unauthorized):
        await desk.ask()


async def test_an_unknown_key_stays_unknown_for_a_while_and_is_asked_after_again_then(desk: Desk) -> None:
    with pytest.raises(Unauthorized):
        await desk.ask()
    before = len(desk.store.commands)
    desk.clock.advance(directories.NEGATIVE_SECONDS - 0.1)
    with pytest.raises(Unauthorized):
        await desk.ask()
    assert len(desk.store.commands) == before
    desk.clock.advance(0.2)
    desk.store.publish(KEY)
    assert (await desk.ask()).key.key_id == 9


async def test_a_key_that_is_made_after_it_was_refused_works_at_once(desk: Desk) -> None:
    with pytest.raises(Unauthorized):
        await desk.ask()
    desk.store.publish(KEY)
    desk.directory.heard("key", SHA)
    assert (await desk.ask()).key.key_id == 9


async def test_a_key_without_its_organization_is_refused(desk: Desk) -> None:
    desk.store.publish(KEY)
    desk.store.withdraw(keys.entitlement(ORG))
    with pytest.raises(Unauthorized, match="no longer exists"):
        await desk.ask()
    assert desk.store.asked == [f"org {ORG}"]


# --- floods -------------------------------------------------------------------------------------------------------------


def strangers(count: int) -> list[str]:
    return [f"stranger-{number}" for number in range(count)]


async def refused(desk: Desk, credential: str, address: str = HERE) -> str:
    with pytest.raises((Unauthorized, TooManyUnknownKeys)) as caught:
        await desk.ask(credential, address)
    return caught.value.code  # type: ignore[attr-defined,no-any-return]


async def test_an_address_that_tries_key_after_key_is_refused_before_it_costs_the_store_anything(desk: Desk) -> None:
    burst = int(MISS_BURST)
    codes = [await refused(desk, credential) for credential in strangers(burst)]
    assert codes == ["unauthorized"] * burst
    before = len(desk.store.commands)
    assert await refused(desk, "one more") == "too_many_unknown_keys"
    assert len(desk.store.commands) == before


async def test_the_allowance_grows_again_and_every_address_has_its_own(desk: Desk) -> None:
    for credential in strangers(int(MISS_BURST)):
        await refused(desk, credential)
    assert await refused(desk, "other address", THERE) == "unauthorized"
    desk.clock.advance(1.1 / MISSES_PER_SECOND)
    assert await refused(desk, "one more") == "unauthorized"
    assert await refused(desk, "and another") == "too_many_unknown_keys"


async def test_a_key_that_is_known_passes_from_an_address_that_floods(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    for credential in strangers(int(MISS_BURST)):
        await refused(desk, credential)
    assert (await desk.ask()).key.key_id == 9


async def test_first_sight_of_good_keys_costs_no_allowance(desk: Desk) -> None:
    good = [apikey.mint(bytes([number]) * 18) for number in range(int(MISS_BURST) + 5)]
    desk.store.publish(*good)
    for credential in good:
        assert (await desk.ask(credential)).key.key_id == 9


async def test_malformed_keys_are_held_down_too_and_hurt_nobody_who_is_new_at_that_address(desk: Desk) -> None:
    desk.store.publish(KEY)
    codes = [await refused(desk, "wbk_live_nonsense") for _ in range(int(MISS_BURST) + 1)]
    assert codes == ["unauthorized"] * int(MISS_BURST) + ["too_many_unknown_keys"]
    assert (await desk.ask()).key.key_id == 9


async def test_a_key_that_is_tried_again_and_again_is_held_down_without_asking_the_store_again(desk: Desk) -> None:
    codes = [await refused(desk, "one and the same") for _ in range(int(MISS_BURST) + 1)]
    assert codes == ["unauthorized"] * int(MISS_BURST) + ["too_many_unknown_keys"]
    assert len(desk.store.asked) == 1


async def test_the_addresses_of_one_ipv6_network_share_an_allowance(desk: Desk) -> None:
    for number, credential in enumerate(strangers(int(MISS_BURST))):
        await refused(desk, credential, f"2001:db8:1:2::{number:x}")
    assert await refused(desk, "one more", "2001:db8:1:2:ffff::1") == "too_many_unknown_keys"
    assert await refused(desk, "a neighbour", "2001:db8:1:3::1") == "unauthorized"


async def test_a_flood_at_once_costs_the_store_no_more_than_one_that_comes_in_turn(desk: Desk) -> None:
    desk.store.gate.clear()
    asked = [asyncio.ensure_future(refused(desk, credential)) for credential in strangers(200)]
    await asyncio.sleep(0.01)
    assert len(desk.store.commands) == LOOKS_AT_ONCE
    desk.store.gate.set()
    codes = await asyncio.gather(*asked)
    assert codes.count("unauthorized") <= int(MISS_BURST) + LOOKS_AT_ONCE
    assert len(desk.store.asked) == codes.count("unauthorized")


async def test_who_leaves_before_the_answer_is_counted_all_the_same(desk: Desk) -> None:
    for credential in strangers(int(MISS_BURST)):
        asked = asyncio.ensure_future(desk.ask(credential))
        await asyncio.sleep(0)
        asked.cancel()
    while desk.directory._fetching:
        await asyncio.sleep(0.005)
    assert await refused(desk, "one more") == "too_many_unknown_keys"


async def test_unknown_keys_are_remembered_within_bounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "UNKNOWN_REMEMBERED", 5)
    for number, credential in enumerate(strangers(20)):
        await refused(desk, credential, f"198.51.100.{number}")
    assert len(desk.directory._unknown) == 5


# --- certificates -------------------------------------------------------------------------------------------------------


async def test_a_certificate_is_known_by_its_fingerprint(desk: Desk) -> None:
    desk.store.publish()
    desk.store.values[keys.api_key("ab" * 32)] = record_to_json(KeyRecord(key_id=4, org_id=ORG, kind=Kind.CERTIFICATE))
    caller = await desk.directory.certificate("ab" * 32, HERE)
    assert caller.key.key_id == 4
    assert desk.directory.known_certificate("ab" * 32) is caller
    desk.directory.heard("nokey", "ab" * 32)
    assert not caller.valid


async def test_a_key_is_no_certificate_and_a_certificate_no_key(desk: Desk) -> None:
    desk.store.publish(KEY, SECOND)
    desk.store.values[keys.api_key(apikey.sha256_hex(SECOND))] = record_to_json(KeyRecord(key_id=4, org_id=ORG, kind=Kind.CERTIFICATE))
    with pytest.raises(Unauthorized, match="certificate is unknown"):
        await desk.directory.certificate(SHA, HERE)
    with pytest.raises(Unauthorized, match="API key is unknown"):
        await desk.ask(SECOND)
    assert (await desk.ask(KEY)).key.key_id == 9


# --- organizations that a token names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", [ORG, "acme"])
async def test_an_organization_is_found_by_id_and_by_slug_and_asked_after_once(desk: Desk, ref: str) -> None:
    desk.store.publish()
    org = await desk.directory.member(ref, HERE)
    before = len(desk.store.commands)
    assert [await desk.directory.member(each, HERE) for each in (ORG, "acme")] == [org, org]
    assert len(desk.store.commands) == before


async def test_a_slug_that_is_missing_in_the_store_is_asked_of_control(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MISS_WAIT_SECONDS", 60.0)

    def answer(question: str) -> None:
        desk.store.publish()
        desk.directory.heard(*question.split(" "))

    desk.store.on_question = answer
    assert (await desk.directory.member("acme", HERE)).entitlement.org_id == ORG
    assert desk.store.asked == ["slug acme"]


async def test_a_slug_that_was_left_behind_is_nobodys(desk: Desk) -> None:
    desk.store.publish(slug="other")
    desk.store.values[keys.slug("acme")] = ORG
    with pytest.raises(Unauthorized):
        await desk.directory.member("acme", HERE)


async def test_an_organization_that_nobody_knows_is_asked_after_once_in_a_while(desk: Desk) -> None:
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await desk.directory.member("nobody", HERE)
    assert desk.store.asked == ["slug nobody"]
    desk.store.publish(slug="nobody")
    desk.directory.heard("slug", "nobody")
    assert (await desk.directory.member("nobody", HERE)).entitlement.slug == "nobody"


# --- expiry -------------------------------------------------------------------------------------------------------------


async def test_a_key_is_good_until_the_instant_it_expires_and_not_at_it(desk: Desk) -> None:
    desk.store.publish(KEY, expires_at_ms=desk.clock.now_ms() + 1_000)
    await desk.ask()
    desk.clock.advance(0.999)
    assert desk.directory.known(KEY) is not None
    desk.clock.advance(0.001)
    with pytest.raises(Unauthorized, match="expired"):
        desk.directory.known(KEY)


async def test_a_key_that_has_expired_before_it_is_first_seen_is_refused(desk: Desk) -> None:
    desk.store.publish(KEY, expires_at_ms=desk.clock.now_ms())
    with pytest.raises(Unauthorized, match="expired"):
        await desk.ask()


# --- what control says --------------------------------------------------------------------------------------------------


async def test_a_changed_organization_is_read_again_for_every_key_of_it(desk: Desk) -> None:
    desk.store.publish(KEY, SECOND)
    for credential in (KEY, SECOND):
        await desk.ask(credential)
    desk.store.publish(version=2)
    desk.directory.heard("org", ORG)
    assert [desk.directory.known(credential) for credential in (KEY, SECOND)] == [None, None]
    assert [(await desk.ask(credential)).org.entitlement.version for credential in (KEY, SECOND)] == [2, 2]


async def test_a_deleted_organization_is_forgotten_with_its_keys(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    desk.store.withdraw(keys.api_key(SHA), keys.entitlement(ORG))
    desk.directory.heard("noorg", ORG)
    with pytest.raises(Unauthorized):
        await desk.ask()


async def test_a_revoked_key_is_forgotten(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    desk.store.withdraw(keys.api_key(SHA))
    desk.directory.heard("nokey", SHA)
    with pytest.raises(Unauthorized):
        await desk.ask()


async def test_after_a_gap_everything_is_asked_for_again(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    desk.store.publish(version=2)
    desk.directory.forget_all()
    assert (await desk.ask()).org.entitlement.version == 2


async def test_new_routes_forget_charges_and_keep_callers(desk: Desk) -> None:
    desk.store.publish(KEY)
    caller = await desk.ask()
    caller.org.charges[(1, "GET", 9)] = cast(Any, object())
    desk.directory.forget_charges()
    assert caller.org.charges == {}
    assert desk.directory.known(KEY) is caller


async def test_a_refresh_reads_key_and_organization_again(desk: Desk) -> None:
    desk.store.publish(KEY)
    stale = await desk.ask()
    desk.store.publish(version=2)
    fresh = await desk.directory.refresh(stale)
    assert fresh.org.entitlement.version == 2
    assert desk.directory.known(KEY) is fresh


async def test_a_refresh_of_a_revoked_key_is_refused(desk: Desk) -> None:
    desk.store.publish(KEY)
    stale = await desk.ask()
    desk.store.withdraw(keys.api_key(SHA))
    with pytest.raises(Unauthorized):
        await desk.directory.refresh(stale)
    assert desk.directory.known(KEY) is None


# --- the store is away, or not whole ------------------------------------------------------------------------------------


async def test_a_new_key_waits_for_a_store_that_was_lost_for_a_moment(desk: Desk) -> None:
    desk.store.publish(KEY)
    desk.store.failure, desk.store.regains = LinkLost("gone"), True
    assert (await desk.ask()).key.org_id == ORG


@pytest.mark.parametrize("failure", [LinkLost("gone"), hiredis.ReplyError("OOM command not allowed"), hiredis.ReplyError("LOADING")])
async def test_a_new_key_cannot_be_judged_while_the_store_does_not_answer(desk: Desk, failure: Exception) -> None:
    desk.store.publish(KEY)
    desk.store.failure = failure
    with pytest.raises(StoreUnavailable):
        await desk.ask()
    desk.store.failure = None
    assert (await desk.ask()).key.key_id == 9


async def test_a_known_key_needs_no_store(desk: Desk) -> None:
    desk.store.publish(KEY)
    await desk.ask()
    desk.store.failure = LinkLost("gone")
    assert (await desk.ask()).key.key_id == 9


@pytest.mark.parametrize("epoch", [None, "", "1", "1 run-0", "garbage"])
async def test_a_miss_in_a_store_that_is_not_whole_is_no_refusal(desk: Desk, epoch: str | None) -> None:
    """Emptied, restored from a copy, another server: the key may well exist."""
    desk.store.withdraw(keys.epoch(0))
    if epoch is not None:
        desk.store.values[keys.epoch(0)] = epoch
    with pytest.raises(StoreUnavailable, match="restored"):
        await desk.ask()
    desk.store.publish(KEY)
    desk.store.values[keys.epoch(0)] = "2 run-1"
    assert (await desk.ask()).key.key_id == 9


async def test_a_missing_organization_is_judged_by_the_epoch_of_its_own_bucket(desk: Desk) -> None:
    desk.store.publish(KEY)
    desk.store.withdraw(keys.entitlement(ORG), keys.epoch(keys.bucket_of(ORG)))
    with pytest.raises(StoreUnavailable):
        await desk.ask()


async def test_a_bucket_that_waits_to_be_opened_holds_all_keys_already(desk: Desk) -> None:
    desk.store.values[keys.epoch(0)] = "2 run-1 wait"
    with pytest.raises(Unauthorized):
        await desk.ask()


async def test_a_miss_that_nobody_could_judge_costs_no_allowance(desk: Desk) -> None:
    desk.store.failure = LinkLost("gone")
    for credential in strangers(int(MISS_BURST) + 5):
        with pytest.raises(StoreUnavailable):
            await desk.ask(credential)
