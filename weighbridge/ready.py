"""The ready file: where a running `weighbridge up` says what it started and where. Written whole or not at all, mode 0600.

{"gateway": "http://127.0.0.1:8080", "control": …, "metrics": …, "stripe": …, "database": …, "redis": …,
 "orgs": [{"id", "slug", "plan", "api_key"}], "pids": {"up": 1, "worker": [2, 3], …}, "restarts": 0}
"""

import json
import os
from pathlib import Path
from typing import Any

NAME = "ready.json"


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    fresh.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """What a living `up` wrote, or None: no file, or its process is gone."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        os.kill(int(content["pids"]["up"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content
