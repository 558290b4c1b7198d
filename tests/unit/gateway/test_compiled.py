"""Which modules a worker runs: compiled ones of the very sources that lie here, or Python. And what may be compiled at all."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import compiled
from tests.unit.import_table import PACKAGES, Project, imported_names

ROOT = Path(__file__).parents[3]
PROJECT = Project(ROOT, PACKAGES)
COMPILABLE_BASES = {
    "object", "Exception", "ValueError", "Protocol", "NamedTuple", "StrEnum", "Enum", "TypedDict", "WeighbridgeError",
    "Generic", "dict", "BadInput", "Histogram",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A gateway's folder beside the other packages."""
    for package in compiled.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text("x = 1\n")
    return tmp_path / "gateway"


@pytest.fixture(autouse=True)
def _finders_stay() -> Iterator[None]:
    before = list(sys.meta_path)
    yield
    sys.meta_path[:] = before


def compiled_here(home: Path) -> Path:
    folder = home / "_compiled" / compiled.digest(home.parent)
    folder.mkdir(parents=True)
    return folder


def test_compiled_modules_are_found_before_their_sources(home: Path) -> None:
    folder = compiled_here(home)
    assert compiled.use(home=home) == "compiled"
    spec = sys.meta_path[0].find_spec("gateway.call", None)  # type: ignore[call-arg]
    assert spec is not None
    assert spec.origin == str(folder / f"gateway/call{compiled.SUFFIX}")
    assert sys.meta_path[0].find_spec("gateway.wiring", None) is None  # type: ignore[call-arg]


@pytest.mark.parametrize("package", compiled.PACKAGES)
def test_after_an_edit_the_sources_run(home: Path, package: str) -> None:
    compiled_here(home)
    before = list(sys.meta_path)
    (home.parent / package / "module.py").write_text("x = 2\n")
    assert "compiled from other sources" in compiled.use(home=home)
    assert sys.meta_path == before


def test_a_source_more_or_under_another_name_is_another_digest(home: Path) -> None:
    first = compiled.digest(home.parent)
    (home / "module.py").rename(home / "renamed.py")
    second = compiled.digest(home.parent)
    (home / "more.py").write_text("")
    assert len({first, second, compiled.digest(home.parent)}) == 3


def test_where_nothing_is_compiled_that_is_said(home: Path) -> None:
    assert "is not compiled" in compiled.use(home=home)


def test_compiled_modules_can_be_left_alone(home: Path) -> None:
    compiled_here(home)
    assert compiled.use("no", home=home) == "as Python, as WEIGHBRIDGE_COMPILED=no asks"


def test_who_asks_for_nothing_else_is_told_that_there_are_none(home: Path) -> None:
    with pytest.raises(compiled.NotCompiled, match="is not compiled"):
        compiled.use("yes", home=home)


def test_a_worker_that_may_not_run_as_python_does_not_start(tmp_path: Path) -> None:
    for package in compiled.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("_compiled", "__pycache__"))
    argv = [sys.executable, "-m", "gateway", "--socket-fd=0", "--data-dir=.", "--config=."]
    environ = {"WEIGHBRIDGE_COMPILED": "yes", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "WEIGHBRIDGE_COMPILED=yes, but the hot path would run as Python: it is not compiled (`weighbridge compile`)",
    )


# --- what may be compiled -----------------------------------------------------------------------------------------------


def classes(name: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(PROJECT.modules[name].tree) if isinstance(node, ast.ClassDef)]


def bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).partition("[")[0] for base in node.bases]


COMPILED_CLASSES = {node.name: name for name in compiled.HOT for node in classes(name)}


def test_every_compiled_module_is_there_and_in_a_package_whose_sources_count() -> None:
    assert [name for name in compiled.HOT if name not in PROJECT.modules] == []
    assert {name.partition(".")[0] for name in compiled.HOT} <= set(compiled.PACKAGES)


@pytest.mark.parametrize("name", compiled.HOT)
def test_a_compiled_class_has_bases_that_can_be_compiled(name: str) -> None:
    """asyncio.Protocol can not: its methods are enough for a loop. Errors with facts of their own are in gateway/errors.py."""
    foreign = {f"{node.name}({base})" for node in classes(name) for base in bases(node)
               if base not in COMPILABLE_BASES and base not in COMPILED_CLASSES}  # fmt: skip
    assert foreign == set()


@pytest.mark.parametrize("name", compiled.HOT)
def test_a_compiled_class_assigns_one_name_at_a_time(name: str) -> None:
    several = [f"{node.name}:{each.lineno}" for node in classes(name) for each in node.body
               if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Tuple)]  # fmt: skip
    assert several == []


@pytest.mark.parametrize("name", compiled.HOT)
def test_a_compiled_dataclass_names_no_class_that_is_not_there_yet(name: str) -> None:
    """mypyc gives a dataclass its fields' classes as it is made; one of a module that is imported later is not there."""
    later = [f"{node.name}.{ast.unparse(each.target)}" for node in classes(name) for each in node.body
             if isinstance(each, ast.AnnAssign) and isinstance(each.annotation, ast.Constant)
             and str(each.annotation.value).isidentifier() and any("dataclass" in ast.unparse(d) for d in node.decorator_list)]  # fmt: skip
    assert [field for field in later if field != "Template._rows"] == []


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    heirs = []
    for name, source in PROJECT.modules.items():
        reached = set(imported_names(source))
        for node in classes(name) if name not in compiled.HOT else []:
            heirs += [f"{name}.{node.name}({base})" for base in bases(node) if f"{COMPILED_CLASSES.get(base, '')}.{base}" in reached]
    assert heirs == []
