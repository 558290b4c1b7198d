"""The configuration files that ship with the program, copied to where an operator edits them."""

from importlib.resources import files
from pathlib import Path

from config.files import FILES


def write_missing_files(config_dir: Path, *, each: bool = False) -> list[Path]:
    """Copy the shipped files where there are none (`each`: where that one is missing); returns what was written.

    Their JSON Schemas, for editors, go along.
    """
    if not each and any((config_dir / name).exists() for name in FILES):
        return []
    shipped = files("config")
    written = []
    for name in [*FILES, *(f"schema/{entry.name}" for entry in _schemas())]:
        target = config_dir / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(shipped.joinpath(*name.split("/")).read_text("utf-8"), "utf-8")
            written.append(target)
    return written


def _schemas() -> list[Path]:
    folder = files("config") / "schema"
    return [Path(entry.name) for entry in folder.iterdir() if entry.name.endswith(".json")] if folder.is_dir() else []
