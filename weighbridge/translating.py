"""Translate the sources in the present folder to C with mypyc: the first step of compiling (compiling.py), in a process of its own.

    python -P translating.py GROUP CACHE FILE…

Writes `build/` and `extensions.json`, which says of every extension its name, its sources and where it looks for headers. A process
of its own, since mypyc ends the one it runs in where something is wrong, and reads the folder it stands in.
"""

import json
import sys
from pathlib import Path

from mypyc.build import mypycify

_SLICE = "Py_ssize_t slice_len = endn - startn;"  # mypyc 2.4: below zero for data[4:2], which then raises in place of being empty


def main(group: str, cache: str, *files: str) -> None:
    """mypyc tells what is wrong on stdout, and ends the process."""
    extensions = mypycify(["--config-file=mypy.ini", f"--cache-dir={cache}", *files], multi_file=True, group_name=group)
    for path in {Path(source) for each in extensions for source in each.sources if source.endswith("bytes_ops.c")}:
        path.write_text(path.read_text().replace(_SLICE, f"{_SLICE} if (slice_len < 0) slice_len = 0;"))
    told = [{"name": each.name, "sources": each.sources, "headers": each.include_dirs} for each in extensions]
    Path("extensions.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
