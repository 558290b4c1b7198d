"""Small files that other programs read: the ready file, the demo's keys; and the ports chosen before anything starts."""

import os
import socket
import stat
from pathlib import Path

import pytest

from metering.model.apikey import mint
from weighbridge import demo, ready
from weighbridge.sockets import PortTaken, check_free, free_port, listen


def test_a_ready_file_is_read_while_its_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ready.json"
    ready.write(path, {"pids": {"up": os.getpid()}, "gateway": "http://x"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ready.read(path) == {"pids": {"up": os.getpid()}, "gateway": "http://x"}
    ready.write(path, {"pids": {"up": 2**22 + 1}})  # above the largest pid
    assert ready.read(path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pids": {}}'])
def test_a_torn_or_foreign_ready_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "ready.json").write_text(text)
    assert ready.read(tmp_path / "ready.json") is None


def test_demo_keys_are_found_again_and_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    keys = {"PRO": mint(b"p" * 18), "FREE": mint(b"f" * 18)}
    demo.write_env(tmp_path / "demo.env", keys)
    assert stat.S_IMODE((tmp_path / "demo.env").stat().st_mode) == 0o600
    assert demo.read_env(tmp_path / "demo.env") == keys
    demo.write_env(tmp_path / "demo.env", keys | {"PRO": keys["PRO"][:-1] + "_"})
    assert demo.read_env(tmp_path / "demo.env") == {"FREE": keys["FREE"]}


def test_worker_sockets_share_one_port_that_nobody_else_is_given() -> None:
    sockets = listen("127.0.0.1", 0, 3)
    try:
        (port,) = {each.getsockname()[1] for each in sockets}
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken"):
            listen("127.0.0.1", port, 1)
        assert free_port("127.0.0.1", port) != port
    finally:
        for each in sockets:
            each.close()
    check_free("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_a_sentence() -> None:
    with pytest.raises(PortTaken, match=r"port 8080 on 192\.0\.2\.1 cannot be used"):
        check_free("192.0.2.1", 8080)


def test_a_closed_connection_does_not_keep_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    check_free("127.0.0.1", port)
