"""Break-glass over a real database and store: who may, what the gateways read, and how it ends."""

import json

import pytest
from redis.asyncio import Redis

from billing.services.bypasses import NoSuchBypass
from billing.services.lookup import NoSuchOrganization
from billing.services.use_cases import Billing
from billing.wiring import open_billing
from metering.model import bypass, keys
from metering.model.errors import BadInput

from .conftest import METERS, Desk

MINUTE_MS = 60_000


async def read(desk: Desk) -> list[tuple[int, str | None, str | None]]:
    value = await desk.redis.get(keys.BYPASS)
    return [(b.id, b.org_id, b.meter) for b in bypass.from_json(value)]


async def begin(desk: Desk, org: str | None = None, meter: str | None = None, minutes: int = 30) -> int:
    row, told = await desk.billing.bypasses.begin(org_ref=org, meter=meter, for_ms=minutes * MINUTE_MS, reason="an outage", by="ann@ops")
    assert told
    return row.id


@pytest.fixture
async def acme(sold: Desk) -> Desk:
    await sold.billing.orgs.create("Acme", plan="free")
    return sold


async def test_the_gateways_read_each_bypass_with_its_scope_and_its_end(acme: Desk) -> None:
    org_id = (await acme.billing.orgs.show("acme")).org.id
    numbers = [await begin(acme, "acme"), await begin(acme, None, "api"), await begin(acme), await begin(acme, "acme", "api")]
    assert await read(acme) == [
        (n, *scope) for n, scope in zip(numbers, [(org_id, None), (None, "api"), (None, None), (org_id, "api")], strict=True)
    ]
    ends = {row["until_ms"] for row in json.loads(await acme.redis.get(keys.BYPASS))}
    assert ends == {acme.clock.now_ms() + 30 * MINUTE_MS}


async def test_a_change_is_said_on_the_channel_and_the_same_again_is_not(acme: Desk) -> None:
    async with acme.redis.pubsub() as channel:
        await channel.subscribe(keys.CHANGED)
        await channel.get_message(timeout=5)
        await begin(acme)
        assert not await acme.billing.bypasses.publish()
        message = await channel.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"bypass"
        assert await channel.get_message(timeout=0.05) is None


async def test_one_that_is_over_leaves_the_list_and_stays_on_record(acme: Desk) -> None:
    short, long = await begin(acme, minutes=1), await begin(acme, minutes=60)
    acme.clock.advance(60)
    assert await acme.billing.bypasses.publish()
    assert [number for number, _, _ in await read(acme)] == [long]
    await acme.billing.bypasses.end(long, by="bob@ops")
    assert await read(acme) == []
    rows = {row.id: row for row in await acme.billing.bypasses.all()}
    assert (rows[short].ended_at_ms, rows[long].ended_by, rows[long].ended_at_ms) == (None, "bob@ops", acme.clock.now_ms())
    assert {(row.created_by, row.reason) for row in rows.values()} == {("ann@ops", "an outage")}


async def test_what_is_over_cannot_be_ended_again(acme: Desk) -> None:
    number = await begin(acme)
    await acme.billing.bypasses.end(number, by="bob@ops")
    for which in (number, number + 1):
        with pytest.raises(NoSuchBypass):
            await acme.billing.bypasses.end(which, by="bob@ops")


async def test_a_store_that_forgot_is_told_again(acme: Desk) -> None:
    number = await begin(acme)
    await acme.redis.flushall()
    await acme.billing.republish()
    assert [n for n, _, _ in await read(acme)] == [number]


async def test_where_the_store_is_away_it_is_kept_and_told_later(acme: Desk) -> None:
    nowhere = Redis.from_url("redis://127.0.0.1:1")
    away: Billing = open_billing(acme.pool, nowhere, acme.clock, meters=METERS)
    row, told = await away.bypasses.begin(org_ref=None, meter=None, for_ms=MINUTE_MS, reason="r", by="ann@ops")
    await nowhere.aclose()
    assert not told
    await acme.billing.bypasses.publish()
    assert [n for n, _, _ in await read(acme)] == [row.id]


@pytest.mark.parametrize(
    ("facts", "error", "said"),
    [
        ({"reason": "  "}, BadInput, "needs a reason"),
        ({"for_ms": 0}, BadInput, "at most 7 days"),
        ({"for_ms": 8 * 86_400_000}, BadInput, "at most 7 days"),
        ({"meter": "llamas"}, BadInput, "there are: api"),
        ({"org_ref": "nobody"}, NoSuchOrganization, "nobody"),
    ],
)
async def test_a_bypass_that_makes_no_sense_is_refused(acme: Desk, facts: dict[str, object], error: type[Exception], said: str) -> None:
    sound: dict[str, object] = {"org_ref": None, "meter": None, "for_ms": MINUTE_MS, "reason": "r", "by": "ann@ops"}
    with pytest.raises(error, match=said):
        await acme.billing.bypasses.begin(**{**sound, **facts})  # type: ignore[arg-type]
    assert await acme.pool.fetchval("SELECT count(*) FROM billing.bypasses") == 0
