"""Every operation over HTTP, asked what its description allows and what it does not: no fault of the server, no status and no answer
that the description does not know. `make contract` asks longer (CONTRACT_EXAMPLES, 100 an operation)."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from billing.api.server import application
from billing.model.token import Scope
from tests.integration.billing.conftest import Desk
from tests.integration.billing.test_tokens import parts_of

pytest_plugins = ["tests.integration.billing.conftest"]

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def asked(sold: Desk, folder: Path, *options: str, examples: int) -> None:
    """Raises AssertionError with what schemathesis says."""
    await sold.billing.orgs.create("Acme", plan="pro", email="billing@acme.test")
    text = (await sold.billing.tokens.create(org_ref=None, scopes=(Scope.ADMIN,), label="", seconds=None, by="contract")).text
    async with TestServer(application(parts_of(sold))) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", str(server.make_url("/api/v1/openapi.json")),
            "-H", f"X-API-Key: {text}", "--checks", CHECKS, "--max-examples", str(examples), "--request-timeout", "30",
            "--suppress-health-check", "all", "--no-color", "--generation-deterministic", *options,
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "SCHEMATHESIS_HOOKS": ""},
        )  # fmt: skip
        out, _ = await process.communicate()
    (folder / "report.txt").write_bytes(out)
    assert process.returncode == 0, out.decode().partition("FAILURES")[2][:8000]


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_the_api_answers_as_it_is_described(sold: Desk, tmp_path: Path) -> None:
    examples = int(os.environ.get("CONTRACT_EXAMPLES") or 20)
    await asked(sold, tmp_path, examples=examples)
