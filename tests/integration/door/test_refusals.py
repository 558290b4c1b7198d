"""Bad input at the front door: one clear sentence on stderr, the right exit code, nothing half done."""

from pathlib import Path

import pytest

REFUSALS = {
    "no system and no database": (["org", "list"], {}, "no `weighbridge up` runs on"),
    "a database that is not there": (
        ["org", "list"],
        {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"},
        "Postgres at postgresql://me@127.0.0.1:1/x cannot be reached",
    ),
    "a database URL of another kind": (["init"], {"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
    "up on a database that is not there": (
        ["up", "--port", "0"],
        {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"},
        "Postgres at postgresql://me@127.0.0.1:1/x cannot be reached",
    ),
    "up on a store that is not there": (
        ["up", "--port", "0"],
        {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"},
        "Redis at redis://127.0.0.1:1/0",
    ),
    "a gateway without a store": (["serve", "gateway", "--port", "0"], {}, "REDIS_URL is not set"),
    "restart without a system": (["restart"], {}, "no `weighbridge up` runs on"),
    "a setting that makes no sense": (["up"], {"WEIGHBRIDGE_WORKERS": "many"}, "WEIGHBRIDGE_WORKERS"),
    "a folder without files": (["config", "check", "nowhere"], {}, "there is no folder"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_a_sentence_and_exit_code_1(home, name: str) -> None:
    arguments, environ, sentence = REFUSALS[name]
    home.environ |= environ
    done = home.cli(*arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr + done.stdout
    assert not home.data.exists()


@pytest.mark.long
@pytest.mark.parametrize("arguments", [[], ["upp"], ["up", "--prot", "1"], ["org"], ["org", "delete"], ["key", "rotate"]])
def test_a_wrong_command_is_a_usage_error(home, arguments: list[str]) -> None:
    done = home.cli(*arguments)
    assert done.returncode == 2
    assert done.stderr


def test_every_fault_of_the_files_is_named_at_once_and_nothing_starts(home) -> None:
    plans = home.config / "plans.yaml"
    plans.write_text(plans.read_text().replace("- {meter: api", "- {meter: apy", 1))
    gateway = home.config / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("upstream: app", "upstream: nobody", 1))
    for command in (["config", "check"], ["up", "--port", "0"]):
        done = home.cli(*command)
        assert done.returncode == 1
        assert "plans.yaml:" in done.stdout + done.stderr
        assert "gateway.yaml:" in done.stdout + done.stderr
    assert not home.data.exists()


def test_a_missing_folder_of_files_is_written_by_up_but_a_half_full_one_is_not_touched(home: "object") -> None:
    (home.config / "plans.yaml").unlink()
    done = home.cli("up", "--port", "0")
    assert done.returncode == 1
    assert "plans.yaml" in done.stderr
    assert sorted(path.name for path in Path(home.config).iterdir()) == ["gateway.yaml", "meters.yaml"]
