"""Compile the hot path (gateway/compiled.py) with mypyc and a C compiler: for this Python, from the sources that lie here.

It is made beside the gateway's own files and moved to its place whole, so that a worker which starts meanwhile finds all or nothing.
Needs mypy and setuptools (`weighbridge[native]`), a C compiler and Python's headers; without them the gateway runs as it is.
"""

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gateway import compiled
from metering.model.errors import DependencyUnavailable, WeighbridgeError

_MYPY = "[mypy]\nignore_missing_imports = True\nplugins = pydantic.mypy\n"
_FLAGS = ("-O2", "-g0", "-fPIC", "-fwrapv", "-fno-strict-aliasing", "-DNDEBUG", "-w")
_ELSE = "the hot path runs as Python, slower and otherwise the same"


class CannotCompile(DependencyUnavailable):
    """The hot path cannot be compiled here."""


class CompilingFailed(WeighbridgeError):
    """The hot path could not be compiled."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """One file to be made: the library with all the code, or one of the small ones that point into it. Paths are relative."""

    name: str
    sources: list[str]
    headers: list[str]


def place(home: Path = compiled.HERE) -> Path:
    """Where what is compiled from these sources belongs."""
    return home / "_compiled" / compiled.digest(home.parent)


def compile_hot_path(say: Callable[[str], None], *, cc: str = "", home: Path = compiled.HERE) -> Path:
    """The folder with what is compiled from these sources, made now unless it is there. `cc` names a compiler other than the usual.

    Raises CannotCompile, CompilingFailed.
    """
    ready = place(home)
    if ready.is_dir():
        say(f"The hot path is compiled from these sources: {ready}")
        return ready
    compiler = find_compiler(cc)
    with tempfile.TemporaryDirectory(prefix="weighbridge-compile-") as temporary:
        work = Path(temporary)
        say("Translating the hot path to C …")
        extensions = translate(home.parent, work)
        say("Compiling it …")
        made = build(compiler, work, extensions)
        _put(made, ready)
    say(f"The hot path is compiled: {ready}")
    return ready


def _put(made: Path, ready: Path) -> None:
    """In its place whole; what was made from sources that are no more goes."""
    ready.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=ready.parent) as beside:
        new = Path(beside) / ready.name
        shutil.copytree(made, new)
        with contextlib.suppress(OSError):  # somebody else was faster
            new.rename(ready)
    for other in ready.parent.iterdir():
        if other != ready and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)


def find_compiler(wanted: str) -> list[str]:
    """The command that compiles C. Raises CannotCompile with what is missing."""
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        raise CannotCompile(f"mypy or setuptools is missing (pip install 'weighbridge[native]'): {_ELSE}")
    for command in (shlex.split(wanted), shlex.split(str(sysconfig.get_config_var("CC") or "")), ["cc"], ["gcc"]):
        if command and shutil.which(command[0]):
            break
    else:
        raise CannotCompile(f"there is no C compiler (apt-get install gcc libc6-dev): {_ELSE}")
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise CannotCompile(f"Python's headers are missing (apt-get install python3-dev): {_ELSE}")
    return command


def translate(root: Path, work: Path) -> list[Extension]:
    """C files in `work`, from copies of the sources. Raises CompilingFailed with what mypyc said."""
    for path in compiled.sources(root):
        copy = work / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (work / "mypy.ini").write_text(_MYPY)
    cache = root / "build" / "mypy-for-compiling" if (root / "pyproject.toml").exists() else Path(os.devnull)
    files = [f"{name.replace('.', '/')}.py" for name in compiled.HOT]
    argv = [sys.executable, "-P", str(Path(__file__).with_name("translating.py")), compiled.GROUP, str(cache), *files]
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, check=False)
    told = work / "extensions.json"
    if done.returncode or not told.exists():
        faults = [line for line in (done.stdout + done.stderr).splitlines() if ": warning:" not in line]
        raise CompilingFailed("mypyc does not take the hot path:\n" + "\n".join(faults[-30:]))
    return [Extension(**each) for each in json.loads(told.read_text())]


def build(compiler: list[str], work: Path, extensions: list[Extension]) -> Path:
    """The folder of the finished files. Raises CompilingFailed with what the compiler said."""
    made = work / "made"
    linker = shlex.split(str(sysconfig.get_config_var("LDSHARED") or ""))[1:] or ["-shared"]
    include = [f"-I{sysconfig.get_paths()['include']}"]

    def compiled_file(job: tuple[str, list[str]]) -> str:
        source, headers = job
        out = f"{source}.o"
        _run([*compiler, *_FLAGS, *include, *(f"-I{each}" for each in headers), "-c", source, "-o", out], work)
        return out

    jobs = {source: extension.headers for extension in extensions for source in extension.sources}
    largest_first = sorted(jobs.items(), key=lambda job: -(work / job[0]).stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compiled_file, largest_first))
        for extension in extensions:
            out = made / f"{extension.name.replace('.', '/')}{compiled.SUFFIX}"
            out.parent.mkdir(parents=True, exist_ok=True)
            _run([*compiler, *linker, *(f"{source}.o" for source in extension.sources), "-o", str(out)], work)
    return made


def _run(argv: list[str], work: Path) -> None:
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompilingFailed(f"the C compiler fails: {done.stderr.strip()[:2000]}")
