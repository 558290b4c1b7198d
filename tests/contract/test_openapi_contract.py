"""Every operation over HTTP, asked what its description allows and what it does not: no fault of the server, no status and no answer
that the description does not know. `make contract` asks longer (CONTRACT_EXAMPLES an operation)."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing.model.token import Scope
from tests.integration.billing.conftest import Desk

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_the_api_answers_as_it_is_described(sold: Desk, api: web.Application, tmp_path: Path) -> None:
    await sold.billing.orgs.create("Acme", plan="pro", email="billing@acme.test")
    text = (await sold.billing.tokens.create(org_ref=None, scopes=(Scope.ADMIN,), label="", seconds=None, by="contract")).text
    async with TestServer(api) as server:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"), "run", str(server.make_url("/api/v1/openapi.json")),
            "-H", f"X-API-Key: {text}", "--checks", CHECKS, "--max-examples", os.environ.get("CONTRACT_EXAMPLES") or "10",
            "--request-timeout", "30", "--suppress-health-check", "all", "--no-color", "--generation-deterministic",
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode().partition("FAILURES")[2][:8000] or out.decode()[-4000:]
    assert "Tested: " in out.decode()
