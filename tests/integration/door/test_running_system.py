"""A running system: the command line beside it, a killed worker, a changed file, a faulty file, a rolling restart."""

import json
import os
import shutil
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest


def _status(system, path: str, key: str) -> int:
    return int(system.call(path, key)[0])


class Callers:
    """Calls without a pause from a few threads; every status, and every connection that failed."""

    def __init__(self, system, path: str, key: str) -> None:
        self.statuses: list[int] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(system, path, key)) for _ in range(3)]

    def _call(self, system, path: str, key: str) -> None:
        while not self._stop.is_set():
            try:
                self.statuses.append(_status(system, path, key))
            except OSError as exc:
                self.failures.append(repr(exc))

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_an_organization_made_on_the_command_line_can_call_until_it_is_deleted(system) -> None:
    made = system.cli_json("org", "create", "Acme Corp", "--plan", "free")
    assert set(made) >= {"id", "slug", "api_key"}
    assert _status(system, "/hello", made["api_key"]) == 200
    assert made["slug"] in [org["slug"] for org in system.cli_json("org", "list")["orgs"]]
    system.cli_json("org", "delete", made["slug"], "--yes")
    assert _status(system, "/hello", made["api_key"]) == 401


@pytest.mark.long
def test_a_rotated_key_stops_and_the_new_one_works(system) -> None:
    made = system.cli_json("org", "create", "Rotor", "--plan=free")
    (key,) = system.cli_json("key", "list", made["slug"])["keys"]
    fresh = system.cli_json("key", "rotate", str(key["id"]), "--overlap=0")
    assert _status(system, "/hello", made["api_key"]) == 401
    assert _status(system, "/hello", fresh["api_key"]) == 200
    system.cli_json("key", "revoke", str(fresh["id"]))
    assert _status(system, "/hello", fresh["api_key"]) == 401


@pytest.mark.long
def test_imported_keys_look_as_they_like(system) -> None:
    made = system.cli_json("org", "create", "Importer", "--plan", "free")
    system.cli_json("key", "import", made["slug"], stdin="legacy-key-0001\nlegacy-key-0002\n")
    assert [_status(system, "/hello", f"legacy-key-000{n}") for n in (1, 2)] == [200, 200]
    again = system.cli_json("key", "import", made["slug"], stdin="legacy-key-0001\n")
    assert (len(again["added"]), len(again["known"])) == (0, 1)


def test_flush_brings_every_charged_call_to_postgres_and_again_changes_nothing(system) -> None:
    made = system.cli_json("org", "create", "Flusher", "--plan", "pro")
    assert [_status(system, "/hello", made["api_key"]) for _ in range(5)] == [200] * 5
    report = system.cli_json("flush")
    assert report["left"] == []
    assert report["rows"] > 0
    (api,) = [use for use in system.cli_json("usage", "--org", made["slug"])["usage"] if use["service"] == "api"]
    assert api["base"]["current_usage"] == 5
    assert system.cli_json("flush")["rows"] == 0


@pytest.mark.long
def test_the_books_of_a_running_system_agree_from_the_counter_to_stripe(system) -> None:
    made = system.cli_json("org", "create", "Auditor", "--plan", "pro")
    assert [_status(system, "/hello", made["api_key"]) for _ in range(3)] == [200] * 3
    report = system.cli_json("reconcile")
    (books,) = [one for one in report["books"] if (one["org"], one["meter"]) == (made["slug"], "api")]
    assert (report["conserved"], report["unseen"]) == (True, [])
    assert (books["admitted"], books["charged"], books["counter"]) == (3, 3, 3)
    table = system.cli("reconcile", "--org", made["slug"])
    assert (table.returncode, "Conserved" in table.stdout) == (0, True)


@pytest.mark.long
def test_an_access_log_is_held_against_the_ledger(system, tmp_path: Path) -> None:
    made = system.cli_json("org", "create", "Witness", "--plan", "pro")
    lines = []
    for path in ("/hello", "/hello?n=1", "/hello", "/other"):
        at = datetime.now(UTC).isoformat()
        status = _status(system, path, made["api_key"])
        lines.append(
            json.dumps({"at": at, "method": "GET", "path": path, "status": status, "org": made["id"], "request": f"r{len(lines)}"})
        )
    log = tmp_path / "access.log"
    log.write_text("\n".join(lines))
    whole = system.cli_json("reconcile", "--org", made["slug"], "--against", str(log))
    assert (whole["conserved"], whole["witness"]["calls"]) == (True, 4)
    log.write_text("\n".join([*lines, lines[-1].replace("r3", "r4"), "not a call"]))
    done = system.cli("reconcile", "--org", made["slug"], "--against", str(log), "--format", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, [(d["place"], d["missing_units"]) for d in report["differences"]]) == (3, [("witness", 1)])
    assert "line 6" in report["unseen"][0]


def test_explain_shows_the_limits_and_charges_nothing(system) -> None:
    made = system.cli_json("org", "create", "Curious", "--plan", "free")
    for _ in range(2):
        story = system.cli_json("explain", "--key", made["api_key"], "GET", "/hello")
        (limit,) = [one for one in story["limits"] if one["quota"] == "api-period"]
        assert (story["verdict"], limit["used"]) == ("admitted", 0)


@pytest.mark.long
def test_a_bypass_lets_calls_pass_counted_until_it_is_ended(system) -> None:
    key = system.key("demo-free")
    system.until(lambda: _status(system, "/hello", key) == 429, "the end of three an hour")
    made = system.cli_json("bypass", "--org", "demo-free", "--for", "30m", "--reason", "the launch went well")
    system.until(lambda: _status(system, "/hello", key) == 200, "the workers to hear of it")
    assert [_status(system, "/hello", key) for _ in range(6)] == [200] * 6
    (limit,) = [one for one in system.cli_json("explain", "--key", key, "GET", "/hello")["limits"] if one["quota"] == "api-hourly"]
    assert (limit["bypassed_until"][:19], limit["used"] > 3) == (made["until"][:19], True)
    system.until(lambda: system.metric("weighbridge_bypass_active") == 1, "the metric")
    assert [(row["id"], row["state"]) for row in system.cli_json("bypass", "list")["bypasses"]] == [(made["id"], "in force")]
    system.cli_json("bypass", "end", str(made["id"]))
    system.until(lambda: _status(system, "/hello", key) == 429, "the limit again")
    assert [row["state"] for row in system.cli_json("bypass", "list")["bypasses"]] == ["ended"]


@pytest.mark.long
def test_a_bypass_says_what_it_needs(system) -> None:
    for words, said in (
        (("--for", "1h", "--reason", "r"), "say what to bypass"),
        (("--all", "--org", "demo-pro", "--for", "1h", "--reason", "r"), "say what to bypass"),
        (("--all", "--reason", "r"), "how long and why"),
        (("--all", "--for", "1h"), "how long and why"),
        (("--all", "--for", "30d", "--reason", "r"), "at most 7 days"),
    ):
        done = system.cli("bypass", *words)
        assert (done.returncode, said in done.stderr) == (1, True)


def test_a_killed_worker_is_replaced_and_its_port_never_refuses(system) -> None:
    key, restarts = system.key("demo-pro"), system.metric("weighbridge_worker_restarts_total")
    pid = system.ready["pids"]["worker"][0]
    with Callers(system, "/hello", key) as callers:
        os.kill(pid, signal.SIGKILL)
        system.until(lambda: system.metric("weighbridge_worker_restarts_total") == restarts + 1, "the restart")
        ready = system.ready["metrics"].replace("/metrics", "/readyz")
        system.until(lambda: system.get(ready)[0] == 200, "all workers ready again")
    assert not [failure for failure in callers.failures if "refused" in failure]
    assert set(callers.statuses) == {200}


def test_a_changed_file_acts_and_a_faulty_one_changes_nothing(system) -> None:
    key, file = system.key("demo-pro"), Path(system.config / "gateway.yaml")
    text = file.read_text()
    with Callers(system, "/hello", key) as callers:
        file.write_text(text.replace("routes:\n", "routes:\n  - {path: /open, auth: none, charge: none}\n", 1))
        system.until(lambda: _status(system, "/open", "") == 200, "the new route")
        file.write_text(text.replace("upstream: app", "upstream: nobody", 1))
        system.until(lambda: system.metric("weighbridge_config_last_apply_success") == 0, "the fault is told")
        assert _status(system, "/open", "") == 200
        file.write_text(text)
        system.until(lambda: _status(system, "/open", "") == 401, "the old file again")
    system.until(lambda: system.metric("weighbridge_config_last_apply_success") == 1, "the success is told")
    assert callers.failures == []
    assert set(callers.statuses) == {200}


@pytest.mark.long
def test_a_restart_replaces_every_process_and_drops_no_call(system) -> None:
    with Callers(system, "/hello", system.key("demo-pro")) as callers:
        done = system.cli("restart")
    assert done.returncode == 0, done.stderr
    assert callers.failures == []
    assert set(callers.statuses) == {200}


@pytest.mark.long
def test_a_journal_is_refused_while_its_worker_lives_and_adds_nothing_to_what_has_arrived(system, tmp_path: Path) -> None:
    made = system.cli_json("org", "create", "Rescued", "--plan", "pro")
    assert [_status(system, "/hello", made["api_key"]) for _ in range(5)] == [200] * 5
    shutil.copytree(system.data / "journal", tmp_path / "journal")
    refused = system.cli("journal", "replay", str(tmp_path / "journal"))
    assert (refused.returncode, "its own gateway ships its journal" in refused.stderr) == (1, True)
    assert system.cli("restart").returncode == 0
    system.cli_json("flush")
    handed = system.cli_json("journal", "replay", str(tmp_path / "journal"))
    assert handed["journals"]
    (books,) = [one for one in system.cli_json("reconcile", "--org", made["slug"])["books"] if one["meter"] == "api"]
    assert (books["charged"], books["counter"]) == (5, 5)


@pytest.mark.long
def test_a_second_up_on_the_same_data_is_refused_by_name(system) -> None:
    done = system.cli("up", "--port", "0")
    assert done.returncode == 1
    assert f"another `weighbridge up` (pid {system.process.pid}) runs on" in done.stderr


@pytest.mark.long
def test_a_taken_port_is_named_and_nothing_is_started(system, tmp_path: Path) -> None:
    port = system.ready["gateway"].rpartition(":")[2]
    done = system.cli("up", "--port", port, "--data-dir", str(tmp_path / "other"))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken by another program" in done.stderr
    assert not (tmp_path / "other").exists()
