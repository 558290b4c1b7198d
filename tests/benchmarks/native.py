"""The small C programs of the benchmarks, compiled where they are needed: Python would be the slow part of what it measures."""

import shutil
import subprocess
from pathlib import Path

from tests.benchmarks.bench import CannotRun

_HERE = Path(__file__).parent


def built(name: str, folder: Path) -> Path:
    """`name`.c as a program in `folder`, or as a library if `name` ends with .so. Raises CannotRun with what is missing."""
    out, source = folder / name, _HERE / f"{name.removesuffix('.so')}.c"
    if out.exists():
        return out
    if shutil.which("gcc") is None:
        raise CannotRun("there is no gcc, which builds the load: apt-get install gcc libc6-dev")
    argv = ["gcc", "-O2", "-o", str(out), str(source), *(["-shared", "-fPIC"] if name.endswith(".so") else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"gcc does not build {source.name}: {done.stderr.strip()[:300]}")
    return out
