"""The lock files: in step with pyproject.toml, whole, with a hash for everything, and without the name of any server."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = {"core.lock": (), "embedded.lock": ("embedded",)}


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def locked(file: str) -> dict[str, Requirement]:
    text = (ROOT / "requirements" / file).read_text().replace("\\\n", " ")
    lines = [line.partition("--hash")[0].strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


@pytest.mark.parametrize("file", EXTRAS)
def test_what_pyproject_asks_for_is_pinned_to_a_version_that_it_allows(file: str) -> None:
    said, pins = project(), locked(file)
    asked = [*said["dependencies"], *(r for extra in EXTRAS[file] for r in said["optional-dependencies"][extra])]  # type: ignore[index,misc]
    for requirement in map(Requirement, asked):
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{requirement} is locked at {pin.version}: make lock"


@pytest.mark.parametrize("file", EXTRAS)
def test_what_a_pinned_package_needs_is_pinned_too(file: str) -> None:
    pins = locked(file)
    missing = {}
    for name in pins:
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # for another platform or Python than this
            continue
        wanted = {canonicalize_name(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
        if left := wanted - set(pins):
            missing[name] = left
    assert missing == {}


@pytest.mark.parametrize("file", EXTRAS)
def test_everything_is_pinned_exactly_with_hashes_and_no_server_is_named(file: str) -> None:
    text = (ROOT / "requirements" / file).read_text()
    assert re.findall(r"://|@|--(?!hash=sha256:[0-9a-f]{64}\b)[a-z-]+", text) == []
    for block in re.split(r"\n(?=\S)", text.strip()):
        if not block.startswith("#"):
            assert re.match(r"[a-z0-9._-]+==[^ ]+", block), block.splitlines()[0]
            assert "--hash=sha256:" in block


def test_the_image_installs_what_is_pinned() -> None:
    assert "pip install --only-binary :all: --require-hashes -r core.lock" in (ROOT / "Dockerfile").read_text()
