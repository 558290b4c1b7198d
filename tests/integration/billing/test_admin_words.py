"""`weighbridge org`, `key`, `token` and what else who runs the system asks for: by a token through control, and beside the database."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from billing.api.server import Parts, application
from billing.model.token import Scope
from billing.model.webhook import read_event
from tests.integration.billing.conftest import Desk, dispatch_of
from weighbridge.cli.main import run


@dataclass
class Line:
    """A command line in a folder of its own, in a thread of its own: it brings its own event loop."""

    environ: dict[str, str]
    said: list[str] = field(default_factory=list)

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it printed; `said` has what it complained of."""
        out, err = io.StringIO(), io.StringIO()

        def work() -> int:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                return run(arguments, self.environ)

        found = await asyncio.to_thread(work)
        self.said.append(err.getvalue())
        assert found == code, (arguments, found, err.getvalue())
        return out.getvalue()

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "--format", "json"))

    async def refused(self, *arguments: str) -> str:
        assert await self(*arguments, code=1) == ""
        assert self.said[-1].count("\n") == 1, self.said[-1]
        return self.said[-1]


@pytest.fixture
async def server(sold: Desk) -> AsyncIterator[TestServer]:
    async def ready() -> dict[str, Any]:
        return {"ready": True}

    parts = Parts(
        dispatch=dispatch_of(sold), readiness=ready, metrics=lambda: b"",
        inbox=lambda: sold.billing.inbox, webhook_came=lambda _outcome: None,
    )  # fmt: skip
    async with TestServer(application(parts)) as server:
        yield server


@pytest.fixture
async def line(sold: Desk, server: TestServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """A command line with a token: for all, or for one organization."""
    monkeypatch.chdir(tmp_path)

    async def made(org: str | None = None, scope: Scope = Scope.ADMIN) -> Line:
        text = (await sold.billing.tokens.create(org_ref=org, scopes=[scope], label="", seconds=None, by="ann")).text
        return Line({"WEIGHBRIDGE_CONTROL_URL": str(server.make_url("/")), "WEIGHBRIDGE_TOKEN": text})

    return made


async def test_an_organization_from_its_making_to_its_end(line: Callable[..., Any]) -> None:
    all_ = await line()
    made = await all_.json("org", "create", "Acme Corp", "--plan", "pro")
    assert (made["slug"], made["plan"], made["api_key"][:9], made["told_gateways"]) == ("acme-corp", "pro", "wbk_live_", True)
    lines = (await all_("org", "create", "Bolt")).splitlines()
    assert (lines[0], lines[2].startswith("  api key  wbk_live_")) == ("Organization bolt on plan free", True)
    assert [row.split()[0] for row in (await all_("org", "list")).splitlines()] == ["slug", "acme-corp", "bolt"]
    assert (await all_("org", "list", "--format", "csv")).splitlines()[1].startswith("acme-corp,Acme Corp,pro,active,2026-01-31T12:00:00Z,")
    shown = (await all_("org", "show", "acme-corp")).splitlines()
    assert shown[0] == "slug          acme-corp"
    assert "key           1  " in shown[8]
    assert (await all_("org", "delete", "bolt")) == "Deleted bolt; its keys are refused from now on\n"
    assert "there is no organization 'bolt'" in await all_.refused("org", "show", "bolt")
    assert "cannot be a slug" in await all_.refused("org", "create", "Acme", "--slug", "A B")
    assert "name: String should have at least 1 character" in await all_.refused("org", "create", "")
    assert "is not an e-mail address" in await all_.refused("org", "create", "Acme", "--email", "nobody")
    assert "no text in UTF-8" in await all_.refused("org", "create", "Acme \udcff")


async def test_a_key_from_its_making_to_its_end(sold: Desk, line: Callable[..., Any], tmp_path: Path) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    all_ = await line()
    made = await all_.json("key", "create", "acme", "--label", "ci", "--scope", "reports", "--limit", "api=5/day", "--expires", "1d")
    assert (made["scopes"], made["limits"], made["expires"]) == (["reports"], ["api=5/day"], "2026-02-01T12:00:00Z")
    assert "carries api=7/day from now on" in await all_("key", "grant", str(made["id"]), "--no-scopes", "--limit", "api=7/day")
    fresh = await all_.json("key", "rotate", made["api_key"], "--overlap", "0")
    assert (fresh["old"]["status"], fresh["old"]["replaced_by"], fresh["limits"]) == ("revoked", fresh["id"], ["api=7/day"])
    assert "is refused from now on" in await all_("key", "revoke", fresh["api_key"])
    assert "was revoked before" in await all_.refused("key", "revoke", str(fresh["id"]))
    assert "is no limit" in await all_.refused("key", "create", "acme", "--limit", "api=5")
    assert "200 printable characters" in await all_.refused("key", "create", "acme", "--label", "x" * 201)
    file = tmp_path / "keys.txt"
    file.write_text("legacy-key-0001\n\nlegacy-key-0002\n")
    assert (await all_("key", "import", "acme", "--file", str(file))).startswith("Imported 2, known before 0;")
    assert (await all_("key", "import", "acme", "--file", str(file))).startswith("Imported 0, known before 2;")
    rows = (await all_("key", "list", "acme")).splitlines()
    assert (rows[0].split()[:5], len(rows)) == (["id", "kind", "hint", "label", "status"], 6)


async def test_a_token_of_one_organization_reaches_no_key_or_token_of_another(sold: Desk, line: Callable[..., Any]) -> None:
    acme, bolt = [await sold.billing.orgs.create(name, plan="pro") for name in ("Acme", "Bolt")]
    other = await sold.billing.tokens.create(org_ref="bolt", scopes=[Scope.READ], label="", seconds=None, by="ann")
    own = await line("acme")
    for verb in ("rotate", "revoke"):
        for ref in (str(bolt.key.id), bolt.api_key):
            assert "there is no such key" in await own.refused("key", verb, ref)
    assert "there is no such key" in await own.refused("key", "grant", str(bolt.key.id), "--no-limits")
    for ref in (str(other.token.id), other.text):
        assert "there is no such token" in await own.refused("token", "revoke", ref)
    assert "for every organization; yours is bound to one" in await own.refused("key", "create", "--scope", "root")
    assert "for every organization; yours is bound to one" in await own.refused("key", "create", "--test")
    for words in (("org", "list"), ("org", "create", "Third"), ("org", "delete", "acme"), ("org", "delete", "bolt")):
        assert "this takes a token for every organization" in (await own.refused(*words)).lower()
    assert "not both" in await own.refused("token", "create", "--all")
    assert (await own.json("token", "list"))["tokens"][0]["covers"] == "acme"
    assert {row["id"] for row in (await own.json("key", "list"))["keys"]} == {acme.key.id}
    assert "scope admin" in await (await line("acme", Scope.BILLING)).refused("key", "list")


async def test_a_token_is_made_listed_and_ended(sold: Desk, line: Callable[..., Any]) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    all_ = await line()
    lines = (await all_("token", "create", "--org", "acme", "--label", "dash")).splitlines()
    assert lines[1] == "  acme, scopes read, until 2026-05-01T12:00:00Z"
    text = lines[0].split()[2]
    made = await all_.json("token", "create", "--all", "--scope", "billing", "--expires", "never")
    assert (made["covers"], made["scopes"], made["expires"]) == ("every organization", ["billing"], None)
    assert [row["covers"] for row in (await all_.json("token", "list"))["tokens"]] == ["every organization", "acme", "every organization"]
    assert [row["covers"] for row in (await all_.json("token", "list", "--org", "acme"))["tokens"]] == ["acme"]
    assert "is refused from now on" in await all_("token", "revoke", text)
    assert "was revoked before" in await all_.refused("token", "revoke", text)
    assert text not in all_.said[-1]
    assert "say whom the token is for" in await all_.refused("token", "create")


async def test_beside_the_database_no_store_is_needed(sold: Desk, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    monkeypatch.chdir(tmp_path)
    here = Line({"DATABASE_URL": database, "WEIGHBRIDGE_CONFIG": str(Path(__file__).parents[3] / "config")})
    made = await here.json("token", "create", "--org", "acme")
    assert "@" in made["by"]
    assert [row["id"] for row in (await here.json("token", "list"))["tokens"]] == [made["id"]]
    key = await here.json("key", "create")
    assert key["told_gateways"] is False
    assert "control tells the gateways once it is" in here.said[-1]


async def test_lists_come_in_pages_and_are_printed_whole(sold: Desk, line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        await sold.billing.orgs.create(f"Org {number}", plan="free")
        await sold.billing.tokens.create(org_ref=None, scopes=[Scope.READ], label=str(number), seconds=None, by="ann")
    all_ = await line()
    monkeypatch.setattr("weighbridge.cli.pages.LARGEST_PAGE", 2)
    assert [org["slug"] for org in (await all_.json("org", "list"))["orgs"]] == [f"org-{number}" for number in range(5)]
    assert [row["label"] for row in (await all_.json("token", "list"))["tokens"]] == ["", "4", "3", "2", "1", "0"]
    found = (await all_.json("audit", "--limit", "3"))["entries"]
    assert [entry["action"] for entry in found] == ["key.created", "token.created", "token.created"]
    assert [entry["id"] for entry in found] == sorted(entry["id"] for entry in found)


async def test_the_audit_log_says_who_changed_what_and_of_whom(sold: Desk, line: Callable[..., Any]) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="pro")
    all_ = await line()
    org_id = (await all_.json("org", "show", "acme"))["id"]
    await all_("key", "create", "acme", "--label", "ci")
    rows = (await all_("audit", "--org", "acme")).splitlines()
    assert rows[0].split() == ["id", "at", "actor", "action", "org", "subject", "change"]
    assert rows[-1].split()[2:6] == ["token", rows[-1].split()[3], "key.created", "acme"]
    assert "label ci" in rows[-1]
    assert "bolt" not in "".join(rows)
    own = await (await line("acme")).json("audit")
    assert {entry["org"] for entry in own["entries"]} == {"acme"}
    assert (await all_("audit", "--org", "acme", "--format", "csv")).startswith("id,at,actor,login,program,action,org,org_id,subject,")
    await all_("org", "delete", "acme")
    gone = (await all_.json("audit", "--org", org_id))["entries"]
    assert (gone[-1]["org_id"], "org.deleted" in {entry["action"] for entry in gone}) == (org_id, True)
    assert "there is no organization" in await (await line("bolt")).refused("audit", "--org", org_id)


async def test_a_bypass_is_for_who_runs_the_system(sold: Desk, line: Callable[..., Any]) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    all_ = await line()
    lines = (await all_("bypass", "--org", "acme", "--for", "30m", "--reason", "a launch")).splitlines()
    assert lines == [
        "Bypass 1: acme, every limit until 2026-01-31T12:30:00Z. Nobody is refused; everything is counted and billed.",
        "End it before: weighbridge bypass end 1",
    ]
    made = await all_.json("bypass", "--meter", "api", "--for", "1h", "--reason", "a race")
    assert (made["org"], made["covers"], made["told_gateways"]) == (None, "limits on api", True)
    assert await all_("bypass", "end", "1") == "Bypass 1 is over: limits hold again\n"
    assert "no bypass 1 is in force" in await all_.refused("bypass", "end", "1")
    assert [(b["id"], b["state"]) for b in (await all_.json("bypass", "list"))["bypasses"]] == [(2, "in force"), (1, "ended")]
    assert "at most 7 days" in await all_.refused("bypass", "--all", "--for", "30d", "--reason", "x")
    assert "say what to bypass" in await all_.refused("bypass", "--for", "1h", "--reason", "x")
    assert "yours is bound to one" in await (await line("acme")).refused("bypass", "--org", "acme", "--for", "1h", "--reason", "x")


async def test_what_stripe_sent_and_is_told_is_listed_by_a_token(sold: Desk, line: Callable[..., Any]) -> None:
    event = {"id": "evt_1", "object": "event", "type": "customer.updated", "created": 1_769_860_000, "livemode": False}
    body = json.dumps({**event, "data": {"object": {"id": "cus_1", "object": "customer", "email": "a@b.test"}}}).encode()
    await sold.billing.inbox.take_in([read_event(body)])
    await sold.billing.orgs.create("Acme", plan="pro")
    all_ = await line()
    rows = (await all_("webhook", "list")).splitlines()
    assert (rows[0].split(), rows[1].split()[:3]) == (
        ["event_id", "type", "status", "received_at"],
        ["evt_1", "customer.updated", "received"],
    )
    shown = (await all_("webhook", "show", "evt_1")).splitlines()
    assert shown[:4] == ["Event: evt_1", "Type: customer.updated", "Status: received", "Received: 2026-01-31 12:00:00"]
    assert '  "customer": {' in shown
    assert "holds no event evt_2" in await all_.refused("webhook", "show", "evt_2")
    waiting = (await all_.json("outbox", "list"))["rows"]
    assert {row["org"] for row in waiting} == {"acme"}
    assert "Payload:" in await all_("outbox", "show", waiting[0]["identifier"])
    assert "there is no Stripe to tell" in await all_.refused("outbox", "retry", str(waiting[0]["id"]))
    assert await all_("mail", "list") == "No mails.\n"
    preview = await all_("mail", "preview", "payment_failed", "--language", "de")
    assert preview.startswith("Subject: [Weighbridge] Zahlung fehlgeschlagen")
    own = await line("acme")
    for words in (("webhook", "list"), ("outbox", "list"), ("mail", "list")):
        assert "yours is bound to one" in await own.refused(*words)
