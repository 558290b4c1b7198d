"""Compiling the hot path: what is missing is said, and nothing is left half made. That it compiles at all: `make test-native`."""

import sysconfig
from pathlib import Path

import pytest

from gateway import compiled
from weighbridge import compiling
from weighbridge.cli.main import run

SOURCES = {"gateway/module.py": "x = 1\n", "metering/module.py": "", "config/module.py": ""}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return tmp_path / "gateway"


def ignore(sentence: str) -> None:
    """Nobody reads what it does meanwhile."""


def test_what_is_compiled_already_is_not_compiled_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling.place(home).mkdir(parents=True)
    monkeypatch.setenv("PATH", "")
    assert compiling.compile_hot_path(ignore, home=home) == compiling.place(home)


def test_without_a_compiler_it_is_said_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(compiling.CannotCompile, match=r"no C compiler .*gcc.*: the hot path runs as Python, slower and otherwise the same"):
        compiling.compile_hot_path(ignore, home=home)
    assert not (home / "_compiled").exists()


def test_without_pythons_headers_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(compiling.CannotCompile, match="python3-dev"):
        compiling.find_compiler("sh")


def test_what_mypyc_does_not_take_is_told_in_its_words(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(compiling.CompilingFailed, match="No such file"):
        compiling.translate(home.parent, tmp_path_factory.mktemp("work"))


def test_what_the_compiler_does_not_take_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "faulty.c").write_text("int main( {")
    with pytest.raises(compiling.CompilingFailed, match="faulty\\.c"):
        compiling.build(["cc"], tmp_path, [compiling.Extension(name="x", sources=["faulty.c"], headers=[])])


def test_a_library_of_sources_that_are_no_more_goes(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = home / "_compiled" / "old"
    old.mkdir(parents=True)
    made = tmp_path_factory.mktemp("made")
    (made / "library.so").write_bytes(b"")
    compiling._put(made, compiling.place(home))
    assert [path.name for path in (home / "_compiled").iterdir()] == [compiled.digest(home.parent)]


def test_the_command_refuses_with_the_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compiling, "place", lambda home: Path("/nowhere"))
    monkeypatch.setenv("PATH", "")
    assert run(["compile"], {}) == 1
    assert capsys.readouterr().err.startswith("weighbridge: there is no C compiler (apt-get install gcc libc6-dev): ")
