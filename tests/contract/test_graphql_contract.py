"""GraphQL, asked what its schema allows: no fault of the server. `make contract` asks longer (CONTRACT_EXAMPLES a field)."""

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


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_no_document_that_the_schema_allows_is_a_fault_of_the_server(
    sold: Desk, api: web.Application, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a field refuses is an error of the answer; a fault is a status of 500, or an error that nobody foresaw."""
    await sold.billing.orgs.create("Acme", plan="pro", email="billing@acme.test")
    text = (await sold.billing.tokens.create(org_ref=None, scopes=(Scope.ADMIN,), label="", seconds=None, by="contract")).text
    async with TestServer(api) as server:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"), "run", str(server.make_url("/graphql?org=acme")),
            "-H", f"X-API-Key: {text}", "--checks", "status_code_conformance",
            "--max-examples", os.environ.get("CONTRACT_EXAMPLES") or "10",
            "--request-timeout", "30", "--suppress-health-check", "all", "--no-color", "--generation-deterministic",
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
    assert "Tested: " in out.decode(), out.decode()[-4000:]
    assert [record.getMessage() for record in caplog.records if "nobody foresaw" in record.getMessage()] == [], caplog.text[-4000:]
    assert process.returncode == 0, out.decode()[-4000:]
