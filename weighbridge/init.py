"""The configuration files that ship with the program, copied to where an operator edits them."""

from pathlib import Path

from config import files
from config.files import FILES

_SHIPPED = Path(files.__file__).parent  # asked of a module: an operator's ./config may stand before the package of that name


def write_missing_files(config_dir: Path, *, each: bool = False) -> list[Path]:
    """Copy the shipped files where there are none (`each`: where that one is missing); returns what was written.

    Their JSON Schemas, for editors, go along.
    """
    if not each and any((config_dir / name).exists() for name in FILES):
        return []
    written = []
    for name in [*FILES, *(f"schema/{path.name}" for path in sorted((_SHIPPED / "schema").glob("*.json")))]:
        target = config_dir / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text((_SHIPPED / name).read_text("utf-8"), "utf-8")
            written.append(target)
    return written
