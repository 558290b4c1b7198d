"""The command line by a token: through control, with no database at hand, and with the same words as beside the database."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from billing.api.server import Parts, application
from billing.model.token import Scope
from billing.operations import subscriptions
from billing.operations.operation import Nothing
from billing.operations.subscriptions import ChangePlan
from weighbridge.cli.main import run
from weighbridge.desk import RemoteDesk

from .conftest import Desk, dispatch_of


@pytest.fixture
async def server(sold: Desk) -> AsyncIterator[TestServer]:
    async def ready() -> dict[str, Any]:
        return {"ready": True}

    parts = Parts(
        dispatch=dispatch_of(sold),
        readiness=ready,
        metrics=lambda: b"",
        inbox=lambda: sold.billing.inbox,
        webhook_came=lambda _outcome: None,
    )
    async with TestServer(application(parts)) as server:
        yield server


async def token(desk: Desk, *scopes: Scope, org: str | None = None) -> str:
    return (await desk.billing.tokens.create(org_ref=org, scopes=scopes, label="", seconds=None, by="ann")).text


async def typed(server: TestServer, text: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of one command, in a thread of its own: it brings its own event loop."""
    environ |= {"WEIGHBRIDGE_CONTROL_URL": str(server.make_url("/")), "WEIGHBRIDGE_TOKEN": text}
    out, err = io.StringIO(), io.StringIO()

    def work() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return run(arguments, environ)

    return await asyncio.to_thread(work), out.getvalue(), err.getvalue()


async def test_a_command_reads_and_changes_through_control(sold: Desk, server: TestServer) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    text = await token(sold, Scope.BILLING, org="acme")
    code, shown, said = await typed(server, text, "subscription", "show", "--format", "json")
    assert (code, json.loads(shown)["plan"]["name"], said) == (0, "free", "")
    code, shown, said = await typed(server, text, "subscription", "upgrade", "pro", "--org", "acme")
    assert (code, shown.splitlines()[0], said) == (0, "✓ Subscription upgraded to Pro", "")
    (entry,) = await sold.pool.fetch("SELECT actor FROM billing.audit_log WHERE action = 'subscription.changed' ORDER BY id DESC LIMIT 1")
    assert entry["actor"].startswith("token ")


async def test_the_environment_names_an_organization_as_the_option_does(sold: Desk, server: TestServer) -> None:
    for name in ("Acme", "Bolt"):
        await sold.billing.orgs.create(name, plan="free")
        await token(sold, Scope.READ, org=name.lower())
    text = await token(sold, Scope.ADMIN)
    seen = []
    for options, environ in (((), {}), ((), {"WEIGHBRIDGE_ORG": "bolt"}), (("--org", "acme"), {"WEIGHBRIDGE_ORG": "bolt"})):
        _, shown, said = await typed(server, text, "token", "list", "--format", "json", *options, **environ)
        seen.append(({each["covers"] for each in json.loads(shown)["tokens"]}, said))
    assert seen == [({"acme", "bolt", "every organization"}, ""), ({"bolt"}, ""), ({"acme"}, "")]
    code, _, _ = await typed(server, text, "token", "create", "--all", WEIGHBRIDGE_ORG="bolt")
    assert (code, len([each for each in await sold.billing.tokens.all() if each.org_id is None])) == (0, 2)


async def test_a_refusal_is_one_sentence_and_exit_code_1(sold: Desk, server: TestServer) -> None:
    await sold.billing.orgs.create("Acme", plan="free")
    for text, arguments, words in (
        (await token(sold, Scope.READ, org="acme"), ("subscription", "upgrade", "pro"), "scope billing"),
        (await token(sold, Scope.BILLING, org="acme"), ("subscription", "upgrade", "gold"), "plan gold does not exist"),
        (await token(sold, Scope.READ), ("subscription", "show"), "--org"),
        ("wbt_wrong", ("subscription", "show"), "not a valid token"),
    ):
        code, shown, said = await typed(server, text, *arguments)
        assert (code, shown, words in said, said.count("\n")) == (1, "", True, 1), said


async def test_the_answer_is_the_model_that_the_operation_gave(sold: Desk, server: TestServer) -> None:
    await sold.billing.orgs.create("Acme", plan="pro")
    dispatch = dispatch_of(sold)
    text = await token(sold, Scope.ADMIN)
    caller = await dispatch.access.caller(text)
    async with aiohttp.ClientSession() as session:
        desk = RemoteDesk(session, str(server.make_url("/")), text)
        for operation, ask in (
            (subscriptions.show, Nothing()),
            (subscriptions.upgrade, ChangePlan(plan="free", at_end=True, preview=True)),
        ):
            assert await desk.call(operation, ask, org="acme") == await dispatch.perform(operation, ask, caller=caller, org="acme")


async def test_a_control_that_is_not_there_is_a_sentence_with_what_to_look_at(unused_tcp_port: int) -> None:
    err, url = io.StringIO(), f"http://127.0.0.1:{unused_tcp_port}"
    with contextlib.redirect_stderr(err):
        assert await asyncio.to_thread(run, ("org", "show"), {"WEIGHBRIDGE_CONTROL_URL": url, "WEIGHBRIDGE_TOKEN": "wbt_any"}) == 1
    said = f"weighbridge: control at {url} cannot be used: Connection refused. Is WEIGHBRIDGE_CONTROL_URL right?\n"
    assert err.getvalue() == said
