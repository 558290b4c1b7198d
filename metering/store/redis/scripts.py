"""Load Lua scripts that lie beside the room that owns them.

A script is sent as EVALSHA; where the server has forgotten it (a restart, SCRIPT FLUSH), the caller sends EVAL once.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """`body` is Lua source, `sha` what EVALSHA takes."""

    name: str
    body: bytes
    sha: bytes


def load(package: str, name: str) -> Script:
    """The script `<package>/lua/<name>.lua`. Raises FileNotFoundError."""
    body = (files(package) / "lua" / f"{name}.lua").read_bytes()
    return Script(name, body, hashlib.sha1(body, usedforsecurity=False).hexdigest().encode())
