"""`weighbridge init` on an empty database, and `config export`: what was applied, as it was written."""

import shutil
from pathlib import Path
from typing import Any

import pytest

FILES = ("gateway.yaml", "meters.yaml", "plans.yaml")


@pytest.fixture
def ready(home: Any, empty_database: str) -> Any:
    """A command line over an empty database, without a store and without files."""
    shutil.rmtree(home.config)
    home.environ["DATABASE_URL"] = empty_database
    return home


def texts(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_init_makes_schema_files_and_plans_and_again_changes_nothing(ready: Any) -> None:
    first = ready.cli_json("init")
    assert first["migrations"][0] == "0001_billing"
    assert {Path(path).name for path in first["files"]} >= set(FILES)
    assert set(first["plans"].values()) == {"created"}
    assert {"organizations", "installation", "config_sets"} <= set(first["tables"])
    before = texts(ready.config)
    second = ready.cli_json("init")
    assert (second["migrations"], second["files"], set(second["plans"].values())) == ([], [], {"unchanged"})
    assert texts(ready.config) == before
    assert second["tables"] == first["tables"]


def test_init_writes_only_what_is_missing(ready: Any) -> None:
    ready.cli_json("init")
    meters = ready.config / "meters.yaml"
    meters.write_text(meters.read_text() + "# mine\n")
    (ready.config / "plans.yaml").unlink()
    assert [Path(path).name for path in ready.cli_json("init")["files"]] == ["plans.yaml"]
    assert meters.read_text().endswith("# mine\n")


@pytest.mark.long
def test_export_writes_what_was_applied_last_byte_by_byte(ready: Any) -> None:
    refused = ready.cli("config", "export")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no configuration was applied to this database yet" in refused.stderr
    ready.cli_json("init")
    plans = ready.config / "plans.yaml"
    plans.write_bytes(plans.read_bytes() + "# ½ price in May\r\n".encode())
    ready.environ["REDIS_URL"] = "redis://127.0.0.1:1"  # nobody is affected, so nobody need be told
    ready.cli_json("config", "apply")
    applied = texts(ready.config)
    plans.write_text("plans: [half written")
    out = ready.home / "out"
    done = ready.cli("config", "export", "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert texts(out) == applied
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert "# ½ price in May" in ready.cli("config", "export").stdout
    assert ready.cli_json("config", "check", str(out))["faults"] == []


def test_without_a_database_export_writes_what_the_gateway_of_this_folder_accepted(home: Any) -> None:
    refused = home.cli("config", "export")
    assert refused.returncode == 1
    assert "no configuration was accepted yet" in refused.stderr
