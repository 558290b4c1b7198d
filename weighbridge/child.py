"""What a child process gets before it runs: a signal when its parent dies, and a user who is not root if need be.

Linux keeps the promise with PR_SET_PDEATHSIG; elsewhere a child that outlives its parent is met by the lock on its folder.
The functions made here run between fork and exec: they only make system calls.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2  # capabilities outlive setuid, and access(2), which initdb asks, regards them
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def unprivileged_user() -> tuple[int, int]:
    """The uid and gid for a server that refuses to run as root: `postgres` where the machine has one, else `nobody`."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid
    return 65534, 65534


def reachable_by_others(path: Path) -> bool:
    """Whether a foreign user may walk down to `path`; into a clone under /root one may not."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def before_exec(*, death_signal: signal.Signals, user: tuple[int, int] | None = None, override_access: bool = False) -> Callable[[], None]:
    """A `preexec_fn`: drop to `user` (with `override_access` it may still walk folders closed to others), then tie
    the child to the life of the thread that starts it. Start children from the main thread."""
    parent = os.getpid()
    linux = sys.platform == "linux"

    def prepare() -> None:
        if user is not None:
            _become(user, keep_access=override_access and linux)
        if linux:
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # the parent died before the line above
                os.kill(os.getpid(), death_signal)

    return prepare


def _become(user: tuple[int, int], *, keep_access: bool) -> None:
    if keep_access:
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(user[1])
    os.setuid(user[0])
    if keep_access:
        mask = 1 << _CAP_DAC_OVERRIDE
        header = _CapHeader(_CAPABILITY_VERSION_3, 0)
        data = (_CapData * 2)(_CapData(mask, mask, mask), _CapData(0, 0, 0))
        _libc.capset(ctypes.byref(header), ctypes.byref(data))
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
