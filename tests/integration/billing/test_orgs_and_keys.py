"""Organizations and keys: what Postgres holds afterwards, and what the gateways were told."""

import asyncio
import json
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from billing.model.organization import Grants, ScopeFaulty, SlugFaulty
from billing.model.plan import PlanSpec
from billing.services.keys import KeyFaulty, KeyOver, KeyTaken
from billing.services.lookup import NoSuchKey, NoSuchOrganization
from billing.services.orgs import NoSuchPlan, SlugTaken
from billing.wiring import open_billing
from metering.model import entitlement, keys
from metering.model.apikey import KeyRecord, Kind, checksum_fails, mint, record_from_json, sha256_hex
from metering.model.errors import BadInput
from metering.model.quota import Per, Quota, Rate, Window
from tests.integration.billing.conftest import METERS, Desk


async def told(desk: Desk, org_id: str) -> entitlement.Entitlement | None:
    text = await desk.redis.get(keys.entitlement(org_id))
    return entitlement.from_json(json.loads(text)) if text else None


async def key_works(desk: Desk, api_key: str) -> bool:
    return await desk.redis.exists(keys.api_key(sha256_hex(api_key))) == 1


async def test_a_new_organization_is_known_to_the_gateways_with_its_plan_and_key(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme Corp.", plan="free")
    assert (new.org.slug, new.org.name, new.published) == ("acme-corp", "Acme Corp.", True)
    assert not checksum_fails(new.api_key)
    entry = await told(sold, new.org.id)
    assert entry is not None
    assert (entry.plan, entry.quotas[0].limit, entry.anchor_ms) == ("free", 10_000, sold.clock.now_ms())
    record = record_from_json(await sold.redis.get(keys.api_key(sha256_hex(new.api_key))))
    assert (record.org_id, record.key_id) == (new.org.id, new.key.id)
    assert await sold.redis.hget(keys.versions(keys.bucket_of(new.org.id)), new.org.id) == str(entry.version).encode()


async def test_the_database_holds_no_key(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    dump = str([tuple(row) for row in await sold.pool.fetch("SELECT * FROM billing.api_keys")])
    assert new.api_key not in dump
    assert sha256_hex(new.api_key) in dump


async def test_a_free_organization_queues_nothing_for_stripe(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    assert await sold.outbox() == []


async def test_a_paying_organization_queues_customer_plan_and_subscription_in_this_order(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="pro", email="billing@acme.test")
    assert [kind for kind, _ in await sold.outbox()] == ["ensure_customer", "ensure_plan", "ensure_subscription"]
    payloads = [json.loads(row["payload"]) for row in await sold.pool.fetch("SELECT payload FROM billing.outbox ORDER BY id")]
    assert payloads[0] == {"org_id": new.org.id, "slug": "acme", "name": "Acme", "email": "billing@acme.test"}
    assert payloads[1]["amount_minor"] == 4900
    assert [(m["meter"], m["report"], m["report_size"], m["each"]) for m in payloads[1]["meters"]] == [
        ("api", "request", 1, "0.0003"),
        ("bandwidth", "MB", 10**6, "0.00005"),
    ]
    began = "2026-01-31T12:00:00Z"
    assert payloads[2] == {"org_id": new.org.id, "plan": "pro", "version": 1, "anchor": began, "trial_days": 0, "trial_end": None}


async def test_with_billing_switched_off_a_paying_organization_queues_nothing(sold: Desk) -> None:
    quiet = open_billing(sold.pool, sold.redis, sold.clock, meters=METERS, bills=False)
    await quiet.orgs.create("Acme", plan="pro")
    assert await sold.outbox() == []


async def test_a_subscription_remembers_price_trial_and_anchor(sold: Desk) -> None:
    await sold.billing.plans.put(PlanSpec(name="tried", price={"usd": Decimal(49)}, trial_days=14))
    await sold.billing.orgs.create("Acme", plan="tried")
    subscription = (await sold.billing.orgs.show("acme")).subscription
    assert subscription is not None
    assert (subscription.amount, subscription.trial_days, subscription.state) == (Decimal("49"), 14, "trialing")
    assert subscription.anchor_ms == sold.clock.now_ms() + 14 * 86_400_000  # the end of the trial


async def test_names_that_give_the_same_slug_are_numbered(sold: Desk) -> None:
    news = await asyncio.gather(*(sold.billing.orgs.create("Acme!", plan="free") for _ in range(4)))
    assert sorted(n.org.slug for n in news) == ["acme", "acme-2", "acme-3", "acme-4"]


async def test_a_slug_that_was_asked_for_is_given_or_refused(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free", slug="wanted")
    with pytest.raises(SlugTaken):
        await sold.billing.orgs.create("Other", plan="free", slug="wanted")
    with pytest.raises(SlugFaulty):
        await sold.billing.orgs.create("Other", plan="free", slug="Not A Slug")


async def test_an_unknown_plan_is_refused_with_those_there_are_and_nothing_is_done(sold: Desk) -> None:
    with pytest.raises(NoSuchPlan, match="free, pro"):
        await sold.billing.orgs.create("Acme", plan="gold")
    assert await sold.billing.orgs.all() == []


async def test_an_organization_is_found_by_id_and_by_slug(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    assert (await sold.billing.orgs.show(new.org.id)).org == (await sold.billing.orgs.show("acme")).org
    with pytest.raises(NoSuchOrganization, match="'nobody'"):
        await sold.billing.orgs.show("nobody")


async def test_a_deleted_organization_is_gone_from_the_gateways_and_gives_its_slug_back(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="pro")
    await sold.billing.orgs.delete("acme")
    assert await told(sold, new.org.id) is None
    assert not await key_works(sold, new.api_key)
    assert not await sold.redis.hexists(keys.versions(keys.bucket_of(new.org.id)), new.org.id)
    assert (await sold.outbox())[-1][0] == "cancel_subscription"
    assert (await sold.billing.orgs.create("Acme", plan="free")).org.slug == "acme"


async def test_a_change_while_redis_is_away_is_kept_and_told_later(sold: Desk) -> None:
    away = Redis.from_url("redis://127.0.0.1:1")
    new = await open_billing(sold.pool, away, sold.clock, meters=METERS).orgs.create("Acme", plan="free")
    await away.aclose()
    assert not new.published
    assert await told(sold, new.org.id) is None
    assert await sold.billing.entitlements.publish_due() == 1
    assert await key_works(sold, new.api_key)
    assert await sold.billing.entitlements.publish_due() == 0


async def test_a_revocation_while_redis_is_away_is_made_up_for(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    away = Redis.from_url("redis://127.0.0.1:1")
    await open_billing(sold.pool, away, sold.clock, meters=METERS).keys.revoke(new.api_key)
    await away.aclose()
    assert await key_works(sold, new.api_key)
    await sold.billing.entitlements.publish_due()
    assert not await key_works(sold, new.api_key)


async def test_an_emptied_store_is_filled_again(sold: Desk) -> None:
    news = [await sold.billing.orgs.create(f"Org {i}", plan="free") for i in range(3)]
    await sold.billing.orgs.delete("org-0")
    before = await told(sold, news[1].org.id)
    await sold.redis.flushall()
    await sold.billing.entitlements.publish_all()
    assert await told(sold, news[1].org.id) == before
    assert [await key_works(sold, n.api_key) for n in news] == [False, True, True]


async def test_a_store_that_fell_back_behind_a_revocation_is_corrected(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    record = await sold.redis.get(keys.api_key(sha256_hex(new.api_key)))
    await sold.billing.keys.revoke(new.api_key)
    await sold.redis.set(keys.api_key(sha256_hex(new.api_key)), record)
    await sold.billing.entitlements.publish_all()
    assert not await key_works(sold, new.api_key)


async def test_publications_at_once_leave_the_newest_version(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await asyncio.gather(*(sold.billing.keys.create("acme") for _ in range(12)))
    entry, version = await told(sold, new.org.id), await sold.redis.hget(keys.versions(keys.bucket_of(new.org.id)), new.org.id)
    stored = await sold.pool.fetchval("SELECT ent_version FROM billing.organizations")
    assert (entry.version if entry else None, int(version or 0)) == (stored, stored)


async def test_a_rotated_key_works_beside_the_new_one_until_the_overlap_ends(sold: Desk) -> None:
    first = await sold.billing.orgs.create("Acme", plan="free")
    rotated = await sold.billing.keys.rotate(str(first.key.id), overlap_seconds=60)
    record = record_from_json(await sold.redis.get(keys.api_key(sha256_hex(first.api_key))))
    assert record.expires_at_ms == sold.clock.now_ms() + 60_000
    assert await key_works(sold, rotated.api_key)
    sold.clock.advance(61)
    assert [k.status(sold.clock.now_ms()) for k in await sold.billing.keys.all("acme")] == ["expired", "active"]
    with pytest.raises(KeyOver):
        await sold.billing.keys.rotate(first.api_key)


async def test_a_rotation_without_overlap_ends_the_old_key_at_once(sold: Desk) -> None:
    first = await sold.billing.orgs.create("Acme", plan="free")
    before = await told(sold, first.org.id)
    await sold.billing.keys.rotate(first.api_key, overlap_seconds=0)
    after = await told(sold, first.org.id)
    assert not await key_works(sold, first.api_key)
    assert before is not None
    assert after is not None
    assert after.version > before.version


async def test_a_revoked_key_is_gone_and_the_version_says_so(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    before = await told(sold, new.org.id)
    await sold.billing.keys.revoke(new.api_key)
    after = await told(sold, new.org.id)
    assert not await key_works(sold, new.api_key)
    assert before is not None
    assert after is not None
    assert after.version > before.version
    with pytest.raises(KeyOver):
        await sold.billing.keys.revoke(str(new.key.id))
    with pytest.raises(NoSuchKey):
        await sold.billing.keys.revoke("999999")


async def test_imported_keys_work_as_they_are_and_twice_is_once(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    texts = ["legacy-key-one-0001", "sk_old_two"]
    first = await sold.billing.keys.bring("acme", texts)
    again = await sold.billing.keys.bring("acme", texts)
    assert (len(first.added), len(again.added), len(again.known)) == (2, 0, 2)
    assert [await key_works(sold, text) for text in texts] == [True, True]
    assert [k.hint for k in first.added] == ["…0001", "…"]


async def test_an_import_with_one_bad_key_imports_nothing_and_does_not_repeat_it(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    broken = mint(b"x" * 24)[:-1] + "!"
    with pytest.raises(KeyFaulty, match="key 2 of the list") as caught:
        await sold.billing.keys.bring("acme", ["fine-key-000001", broken])
    assert broken not in str(caught.value)
    assert len(await sold.billing.keys.all("acme")) == 1


async def test_a_key_of_another_organization_is_not_imported(sold: Desk) -> None:
    other = await sold.billing.orgs.create("Other", plan="free")
    await sold.billing.orgs.create("Acme", plan="free")
    with pytest.raises(KeyTaken, match="another organization"):
        await sold.billing.keys.bring("acme", ["fine-key-000001", other.api_key])
    assert len(await sold.billing.keys.all("acme")) == 1


async def test_what_gateways_ask_for_is_written_and_announced(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    gone = await sold.billing.orgs.create("Gone", plan="free")
    await sold.billing.orgs.delete("gone")
    await sold.redis.flushall()
    channel = sold.redis.pubsub()
    await channel.subscribe(keys.CHANGED)
    sha, gone_sha = sha256_hex(new.api_key), sha256_hex(gone.api_key)
    await sold.billing.entitlements.answer([f"key {sha}", f"key {sha}", f"key {gone_sha}", f"org {gone.org.id}", "org not-an-id", "noise"])
    expected = {f"key {sha}", f"nokey {gone_sha}", f"noorg {gone.org.id}", "noorg not-an-id", f"org {new.org.id}"}
    while expected:
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=5)
        if message:
            expected.discard(message["data"].decode())
    await channel.aclose()
    assert await key_works(sold, new.api_key)
    assert await told(sold, new.org.id) is not None


# --- what a key carries -------------------------------------------------------------------------------------------------

GRANTS = Grants(
    scopes=("read", "reports"),
    quotas=(Quota(meter="api", limit=1000, window=Window.DAY, per=Per.KEY, source="key"),),
    rates=(Rate(meter="api", limit=5, per="second", by=Per.KEY, source="key"),),
)


async def record(desk: Desk, sha256: str) -> KeyRecord:
    return record_from_json(await desk.redis.get(keys.api_key(sha256)))


async def test_scopes_and_limits_of_a_key_reach_the_gateways_and_the_list(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    made = await sold.billing.keys.create("acme", grants=GRANTS, test=True, seconds=60)
    told_of = await record(sold, made.key.sha256)
    assert (told_of.scopes, told_of.quotas, told_of.rates) == ({"read", "reports"}, GRANTS.quotas, GRANTS.rates)
    assert (told_of.test, told_of.expires_at_ms) == (True, sold.clock.now_ms() + 60_000)
    assert made.api_key.startswith("wbk_test_")
    assert (await sold.billing.keys.all("acme"))[-1] == made.key


async def test_other_limits_and_scopes_act_under_a_new_version_and_leave_each_other_alone(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    made = await sold.billing.keys.create("acme", grants=GRANTS)
    before = await told(sold, new.org.id)
    key, published = await sold.billing.keys.grant(str(made.key.id), scopes=["write"])
    assert published
    assert (await record(sold, key.sha256)).scopes == {"write"}
    assert (await record(sold, key.sha256)).quotas == GRANTS.quotas
    await sold.billing.keys.grant(str(made.key.id), limits=Grants())
    assert (await record(sold, key.sha256)).quotas == ()
    assert (await record(sold, key.sha256)).scopes == {"write"}
    after = await told(sold, new.org.id)
    assert before is not None
    assert after is not None
    assert after.version == before.version + 2


async def test_a_scope_that_no_header_could_carry_is_refused(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    for scope in ("", "two words", 'a"b', "x" * 65, "ü"):
        with pytest.raises(ScopeFaulty):
            await sold.billing.keys.create("acme", grants=Grants(scopes=(scope,)))


async def test_a_rotated_key_hands_over_what_it_carries_and_says_who_follows(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    old = await sold.billing.keys.create("acme", grants=GRANTS)
    new = await sold.billing.keys.rotate(str(old.key.id), overlap_seconds=86_400)
    assert new.key.grants == GRANTS
    assert (await key_works(sold, old.api_key), await key_works(sold, new.api_key)) == (True, True)
    listed = {key.id: key for key in await sold.billing.keys.all("acme")}
    assert (listed[old.key.id].replaced_by, listed[old.key.id].status(sold.clock.now_ms())) == (new.key.id, "expiring")
    assert listed[new.key.id].replaced_by is None


# --- certificates and slugs ---------------------------------------------------------------------------------------------


async def test_a_certificate_stands_for_its_organization_until_it_expires(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    ends = sold.clock.now_ms() + 3_600_000
    added, published = await sold.billing.keys.add_certificate("acme", "ab" * 32, expires_at_ms=ends, label="robot", grants=GRANTS)
    assert published
    told_of = await record(sold, "ab" * 32)
    assert (told_of.kind, told_of.org_id, told_of.key_id, told_of.expires_at_ms) == (Kind.CERTIFICATE, new.org.id, added.id, ends)
    assert (added.kind, added.hint) == (Kind.CERTIFICATE, "…abababab")
    with pytest.raises(KeyTaken):
        await sold.billing.keys.add_certificate("acme", "ab" * 32, expires_at_ms=ends)
    with pytest.raises(BadInput, match="add-cert"):
        await sold.billing.keys.rotate(str(added.id))
    await sold.billing.keys.revoke(str(added.id))
    assert not await sold.redis.exists(keys.api_key("ab" * 32))


async def test_a_certificate_that_has_expired_is_not_taken(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    with pytest.raises(KeyOver):
        await sold.billing.keys.add_certificate("acme", "ab" * 32, expires_at_ms=sold.clock.now_ms())


async def test_a_slug_leads_to_its_organization_and_goes_with_it(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    assert await sold.redis.get(keys.slug("acme")) == new.org.id.encode()
    await sold.billing.orgs.delete("acme")
    assert await sold.redis.get(keys.slug("acme")) is None


async def test_a_slug_that_another_organization_took_over_stays_its_own(sold: Desk) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    await sold.billing.orgs.delete("acme")
    second = await sold.billing.orgs.create("Acme", plan="free")
    await sold.billing.entitlements.publish_all()  # tells of the deleted one again
    assert await sold.redis.get(keys.slug("acme")) == second.org.id.encode()


async def test_a_store_that_forgot_learns_slugs_and_grants_again(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    made = await sold.billing.keys.create("acme", grants=GRANTS)
    await sold.redis.flushall()
    await sold.billing.republish()
    assert await sold.redis.get(keys.slug("acme")) == new.org.id.encode()
    assert (await record(sold, made.key.sha256)).scopes == {"read", "reports"}


async def test_gateways_that_ask_for_a_slug_are_answered(sold: Desk) -> None:
    new = await sold.billing.orgs.create("Acme", plan="free")
    await sold.redis.delete(keys.slug("acme"))
    channel = sold.redis.pubsub()
    await channel.subscribe(keys.CHANGED)
    await sold.billing.entitlements.answer(["slug acme", "slug nobody", "slug ../x"])
    heard = []
    while len(heard) < 4:
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is not None:
            heard.append(message["data"].decode())
    assert heard == [f"org {new.org.id}", "slug acme", "noslug nobody", "noslug ../x"]
    assert await sold.redis.get(keys.slug("acme")) == new.org.id.encode()
    await channel.aclose()  # type: ignore[no-untyped-call]
