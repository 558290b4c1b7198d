"""The name under which this host's gateways stand in Via: drawn once, kept in the data folder, the same for all workers.

RFC 9110 §7.6.3 lets a gateway go by a pseudonym. It tells this installation from others of its kind, which requests may well pass.
"""

import os
import secrets
from pathlib import Path

from gateway.headers import VIA

_DIGITS = 8
_HEX = frozenset("0123456789abcdef")


def via(folder: Path) -> bytes:
    """`1.1 weighbridge-` and eight hex digits. Raises OSError where `folder` takes no file."""
    file = folder / "pseudonym"
    while not (name := _read(file)):
        if name is not None:
            file.unlink(missing_ok=True)
        _draw(file)
    return VIA + b"-" + name.encode()


def _draw(file: Path) -> None:
    """Whole or not at all; the first of several workers wins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"pseudonym.{secrets.token_hex(4)}")
    fresh.write_text(secrets.token_hex(_DIGITS // 2), encoding="ascii")
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)


def _read(file: Path) -> str | None:
    """None where there is no file, empty where what stands in it could not stand in a header field."""
    try:
        name = file.read_bytes().decode("latin-1").strip()
    except FileNotFoundError:
        return None
    return name if len(name) == _DIGITS and set(name) <= _HEX else ""
