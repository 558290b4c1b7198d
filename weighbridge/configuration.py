"""The configuration a gateway runs on: the files in its folder, or, where they are faulty, the last set that was not.

The accepted set lies in the data folder as JSON; workers are started on that file, and told of the next one.
"""

from dataclasses import dataclass
from pathlib import Path

from config.files import FileSet, load_last_good, read_set, save_last_good
from config.load import Configuration, parse
from metering.model.errors import ConfigFaulty

_OLD_SETS_KEPT = 5  # a worker may just be starting on one


@dataclass(frozen=True, slots=True)
class Accepted:
    """A faultless set, where its JSON lies, and the faults of the newer set it stands in for (none: it is the newest)."""

    config: Configuration
    path: Path
    faults: tuple[str, ...] = ()


class Configurations:
    """Reads `config_dir`, keeps what was accepted under `data_dir`/gateway. `upstream` replaces the default targets."""

    def __init__(self, config_dir: Path, data_dir: Path, upstream: str | None = None) -> None:
        self._config_dir, self._home, self._upstream = config_dir, data_dir / "gateway", upstream

    def first(self) -> Accepted:
        """What to start on. Raises ConfigFaulty, every fault named, if nothing good was ever accepted here."""
        files = read_set(self._config_dir)
        parsed = parse(files)
        if parsed.config is not None:
            return self.accept(files, parsed.config)
        faults = tuple(str(fault) for fault in parsed.faults)
        last, config = self.last_good_files(), self.last_good()
        if last is None or config is None:
            raise ConfigFaulty(faulty(self._config_dir, faults))
        return Accepted(config, self._written(last, config), faults)

    def last_good_files(self) -> FileSet | None:
        """The texts accepted last, or None."""
        return load_last_good(self._home)

    def last_good(self) -> Configuration | None:
        """The set accepted last, or None where there is none that this version can read."""
        files = load_last_good(self._home)
        return parse(files).config if files is not None else None

    def standing(self) -> Configuration:
        """As `first`, and nothing is written. Raises ConfigFaulty."""
        parsed = parse(read_set(self._config_dir))
        config = parsed.config or self.last_good()
        if config is None:
            raise ConfigFaulty(faulty(self._config_dir, tuple(str(fault) for fault in parsed.faults)))
        return config

    def accept(self, files: FileSet, config: Configuration) -> Accepted:
        """Remember `files` as the last good set."""
        self.remember(files)
        return Accepted(config, self._written(files, config))

    def remember(self, files: FileSet) -> None:
        """`files`, known to be faultless, is what a start on faulty ones falls back to."""
        save_last_good(self._home, files)

    def _written(self, files: FileSet, config: Configuration) -> Path:
        path = self._home / f"config-{config.version}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text((files.with_targets(self._upstream) if self._upstream else files).to_json())
        fresh.replace(path)
        old = sorted((p for p in self._home.glob("config-*.json") if p != path), key=lambda p: p.stat().st_mtime)
        for forgotten in old[:-_OLD_SETS_KEPT]:
            forgotten.unlink(missing_ok=True)
        return path


def faulty(config_dir: Path, faults: tuple[str, ...]) -> str:
    """One sentence, then every fault on a line of its own."""
    return "\n  ".join([f"{config_dir} has {len(faults)} fault{'' if len(faults) == 1 else 's'}, and nothing was done:", *faults])
