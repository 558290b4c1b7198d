"""`weighbridge hook`, by a token of one organization and beside the database for the whole installation."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from billing.model.token import Scope
from weighbridge.cli.context import Context
from weighbridge.cli.main import run

from .conftest import Desk
from .test_remote_commands import server, token, typed

__all__ = ["server"]
ROOT = Path(__file__).parents[3]


async def test_a_customer_looks_after_its_own_endpoints_by_a_token(sold: Desk, server: TestServer) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    text = await token(sold, Scope.BILLING, org="acme")

    async def hook(*words: str, code: int = 0) -> str:
        ended, out, err = await typed(server, text, "hook", *words)
        assert ended == code, err
        return out if code == 0 else err

    made = json.loads(await hook("create", "https://example.com/in", "--event", "invoice.*", "--event", "hook.test", "--format", "json"))
    assert made["secret"].startswith("whsec_")
    listed = await hook("list")
    assert (made["id"] in listed, "invoice.* hook.test" in listed, "whsec_" in listed) == (True, True, False)
    assert "Status: disabled" in await hook("update", made["id"], "--disable")
    assert "enable it first" in await hook("test", made["id"], code=1)
    await hook("update", made["id"], "--enable")
    assert "is on its way" in await hook("test", made["id"])
    assert "hook.test" in await hook("deliveries", made["id"], "--status", "waiting")
    assert "the old one signs for 2 hours" in await hook("rotate", made["id"], "--overlap-hours", "2")
    events = json.loads(await hook("events", "--format", "json", "--limit", "1"))
    assert [event["org"] for event in events["events"]] == ["acme"]
    older = json.loads(await hook("events", "--format", "json", "--after", events["next"]))
    assert ([event["type"] for event in older["events"]], older["next"]) == (["subscription.created"], None)
    assert "✓ 1 event is on the way" in await hook("replay", made["id"], older["events"][0]["id"])
    assert "say what to replay" in await hook("replay", made["id"], code=1)
    assert "every organization" in await hook("list", "--all", code=1)
    assert "Nothing is sent to https://example.com/in" in await hook("delete", made["id"])
    assert "subscription.renewed" in await hook("types")


async def test_an_api_key_reads_no_event_which_may_tell_of_invoices_and_cards(sold: Desk, server: TestServer) -> None:
    acme = await sold.billing.orgs.create("Acme", plan="free")
    async with aiohttp.ClientSession(headers={"X-API-Key": acme.api_key}) as session:
        for path, status in (("hooks/types", 200), ("hooks", 403), ("hooks/events", 403), ("hooks/hook_1/deliveries", 403)):
            async with session.get(server.make_url(f"/api/v1/billing/{path}")) as answer:
                assert answer.status == status, path


async def test_the_operators_own_endpoints_get_what_happens_to_anybody(
    sold: Desk, database: str, redis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Context, "clock", sold.clock)
    environ = {
        "DATABASE_URL": database, "REDIS_URL": redis, "WEIGHBRIDGE_CONFIG": str(ROOT / "config"),
        "WEIGHBRIDGE_DATA_DIR": str(tmp_path / "data"), "WEIGHBRIDGE_HOOKS_INSIDE": "true",
    }  # fmt: skip

    async def hook(*words: str) -> str:
        assert await asyncio.to_thread(run, ("hook", *words), environ) == 0
        return capsys.readouterr().out

    made = json.loads(await hook("create", "http://10.0.0.5/in", "--all", "--format", "json"))
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
    rows = (await hook("deliveries", made["id"], "--all")).splitlines()
    assert [row.split()[2] for row in rows[1:]] == ["bolt", "acme"]
    assert "events are sent nowhere" in await hook("list", "--org", "acme")
    assert (await hook("show", made["id"], "--all")).splitlines()[1] == "  URL: http://10.0.0.5/in"
