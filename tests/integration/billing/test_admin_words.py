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
