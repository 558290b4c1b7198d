"""The client as a distribution of its own: what it declares is what it imports, and nothing of the server is among it."""

import tomllib
from pathlib import Path

from tests.unit.import_table import PACKAGES, Project, import_names, is_standard, normal

ROOT = Path(__file__).parents[3] / "clients" / "python"
COMES_WITH = {"starlette": "fastapi", "asgiref": "django"}
FRAMEWORKS = ("aiohttp", "fastapi", "django")


def test_it_imports_what_it_declares_and_a_framework_in_its_own_file_alone() -> None:
    project = Project(ROOT / "src", ("weighbridge_client",))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = {name for each in declared["dependencies"] for name in import_names(normal(each))}
    assert {*declared["optional-dependencies"]} == {*FRAMEWORKS}
    for module in project.modules:
        foreign = {name for name in project.imports(module) if name not in project.modules and not is_standard(name)}
        own = module.rpartition(".")[2] if module.rpartition(".")[2] in FRAMEWORKS else None
        assert {COMES_WITH.get(name, name) for name in foreign} - always <= {own}, module
        assert not foreign & {*PACKAGES}


def test_what_is_exported_is_there() -> None:
    import weighbridge_client

    assert [name for name in weighbridge_client.__all__ if not hasattr(weighbridge_client, name)] == []
