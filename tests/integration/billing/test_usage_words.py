"""`weighbridge usage record|import|…` and `export`: what they print, as the guide has it, through control and by a token alone."""

import csv
import json
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from billing.model.token import Scope

from .conftest import Desk
from .test_remote_commands import server, token, typed  # noqa: F401  a fixture

GUIDE = 'timestamp,service,quantity,metadata\n2026-01-29T10:00:00Z,api,1000,{"endpoint":"/api/test"}\n'


async def test_usage_is_recorded_with_the_words_of_the_guide(sold: Desk, server: TestServer) -> None:  # noqa: F811
    await sold.billing.orgs.create("Acme", plan="pro")
    text = await token(sold, Scope.BILLING, org="acme")
    code, shown, said = await typed(server, text, "usage", "record", "api", "1000")
    assert (code, shown.splitlines()[0], said) == (0, "✓ Usage recorded: 1,000 api", "")
    code, shown, _ = await typed(server, text, "usage", "record", "bandwidth", "5.5", "--format", "json")
    assert (code, json.loads(shown)["quantity"], json.loads(shown)["unit"]) == (0, "5.5", "GB")
    metadata = '{"endpoint": "/api/custom", "user_id": "123"}'
    for line in ("✓ Usage recorded: 500 api", "✓ Recorded before: 500 api"):
        code, shown, _ = await typed(server, text, "usage", "record", "api", "500", "--metadata", metadata, "--idempotency-key", "k")
        assert (code, shown.splitlines()[0]) == (0, line)
    code, shown, _ = await typed(server, text, "usage", "events", "--service", "api")
    assert (code, len(shown.splitlines()), '{"user_id": "123", "endpoint": "/api/custom"}' in shown) == (0, 3, True)
    for words, sentence in (
        (("gold", "1"), "there is no service 'gold'"), (("api", "1.5"), "no whole number"), (("api", "1", "--metadata", "["), "not JSON"),
        (("api", "1", "--timestamp", "2041-01-01T00:00:00Z"), "lies in the future"), (("api", "-1"), ""),
    ):  # fmt: skip
        if sentence:
            code, shown, said = await typed(server, text, "usage", "record", *words)
            assert (code, shown, sentence in said, said.count("\n")) == (1, "", True, 1), said


async def test_an_event_is_voided_and_corrected_by_who_may_speak_for_all(sold: Desk, server: TestServer) -> None:  # noqa: F811
    await sold.billing.orgs.create("Acme", plan="pro")
    own, everybody = await token(sold, Scope.BILLING, org="acme"), await token(sold, Scope.BILLING)
    for _ in range(2):
        _, shown, _ = await typed(server, own, "usage", "record", "api", "10", "--format", "json")
    number = str(json.loads(shown)["id"])
    code, _, said = await typed(server, own, "usage", "void", number)
    assert (code, "bound" in said) == (1, True)
    code, shown, _ = await typed(server, everybody, "usage", "correct", number, "4", "--org", "acme", "--reason", "a test")
    assert (code, shown.splitlines()[0]) == (0, f"✓ Event {number} corrected by -6 api")
    code, shown, _ = await typed(server, everybody, "usage", "void", number, "--org", "acme")
    assert (code, shown.splitlines()[0]) == (0, f"✓ Event {number} voided")
    code, _, said = await typed(server, everybody, "usage", "void", number, "--org", "acme")
    assert (code, "voided before" in said) == (1, True)


async def test_a_file_is_imported_once_and_what_will_not_do_is_in_the_rejects_file(
    sold: Desk, server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    await sold.billing.orgs.create("Acme", plan="pro")
    text, file = await token(sold, Scope.BILLING), tmp_path / "usage_data.csv"
    file.write_text(GUIDE)
    code, shown, said = await typed(server, text, "usage", "import", "usage_data.csv", "--org", "acme")
    assert (code, shown, said) == (0, "✓ 1 of 1 rows imported\n", "")
    file.write_text(GUIDE + "2026-01-29T10:00:00Z,=gold,1,\n" + "2026-01-30T10:00:00Z,bandwidth,0.5,\n")
    code, shown, _ = await typed(server, text, "usage", "import", "usage_data.csv", "--org", "acme", "--dry-run")
    assert (code, shown.splitlines()[0]) == (1, "2 of 3 rows would be imported")
    code, shown, _ = await typed(server, text, "usage", "import", "usage_data.csv", "--org", "acme")
    assert (code, shown.splitlines()[:3]) == (
        1, ["✓ 1 of 3 rows imported", "  In before: 1", "  Not taken: 1, in usage_data.csv.rejects.csv"],
    )  # fmt: skip
    (reject,) = csv.DictReader((tmp_path / "usage_data.csv.rejects.csv").open())
    assert (reject["line"], "no service" in reject["reason"], reject["row"]) == ("3", True, "2026-01-29T10:00:00Z,=gold,1,")
    file.write_text("hello\n")
    code, _, said = await typed(server, text, "usage", "import", "usage_data.csv", "--org", "acme")
    assert (code, "no header" in said, said.count("\n")) == (1, True, 1)


async def test_usage_is_exported_as_the_guide_shows_it(
    sold: Desk, server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    org = (await sold.billing.orgs.create("Acme", plan="pro")).org
    text = await token(sold, Scope.BILLING)
    (tmp_path / "in.csv").write_text(GUIDE)
    await typed(server, text, "usage", "import", "in.csv", "--org", "acme")
    row = f'2026-01-29T10:00:00Z,api,1000,{org.id},"{{""endpoint"":""/api/test""}}"'
    code, shown, _ = await typed(server, text, "export", "usage", "--service=api", "--format=csv", "--org=acme")
    assert (code, shown.splitlines()) == (0, ["timestamp,service,quantity,org_id,metadata", row])
    code, shown, said = await typed(server, text, "export", "usage", "--format=json", "--output=out.json", "--all-orgs")
    assert (code, shown, said) == (0, "", f"✓ Usage exported to out.json ({(tmp_path / 'out.json').stat().st_size:,} bytes)\n")
    assert json.loads((tmp_path / "out.json").read_text())[0]["metadata"] == {"endpoint": "/api/test"}
    code, shown, _ = await typed(server, text, "export", "usage", "--start=2026-01-30", "--end=2026-01-31", "--org=acme")
    assert (code, len(shown.splitlines())) == (0, 1)
    code, _, said = await typed(server, text, "export", "usage", "--start=2026-01-30", "--end=2026-01-01", "--org=acme")
    assert (code, "end lies before start" in said) == (1, True)
