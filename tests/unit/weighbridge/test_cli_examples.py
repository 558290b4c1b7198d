"""Every command: its example can be typed, and shells complete it."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from billing.operations.registry import OPERATIONS
from weighbridge.cli.completion import script
from weighbridge.cli.main import NOUNS, normalized, parser, run
from weighbridge.cli.tree import Command, commands

COMMANDS = list(commands(parser()))
WHOLE = parser()


def test_every_noun_has_a_command() -> None:
    assert {command.words[0] for command in COMMANDS} == set(NOUNS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_command_says_what_it_does_and_has_an_example_that_can_be_typed(command: Command) -> None:
    assert command.about or command.parser.description
    assert command.examples, f"weighbridge {' '.join(command.words)}: give verb() an example="
    for example in command.examples:
        program, *words = shlex.split(example)
        assert program == "weighbridge"
        assert words[: len(command.words)] == list(command.words)
        options = WHOLE.parse_args(normalized(words))
        assert options.run is command.parser.get_default("run")


ON_THE_SERVER = {  # what makes sense there alone, or is one operation with other words
    "up", "serve", "init", "restart", "compile", "completion", "flush", "reconcile", "explain", "journal replay", "config check",
    "config diff",
    "config apply", "config export", "plan estimate", "stripe import", "stripe cutover", "webhook test", "mail test",
    "subscription downgrade", "usage events", "usage", "quota", "quota alert", "audit", "bypass", "close",
}  # fmt: skip
FED_BY_NOTHING_YET = ("report", "monitoring")


def test_what_a_command_does_can_be_asked_for_over_rest_too() -> None:
    operations = {operation.name.replace(".", " ") for operation in OPERATIONS}
    words = {" ".join(command.words) for command in COMMANDS if command.words[0] not in FED_BY_NOTHING_YET}
    assert words - operations - ON_THE_SERVER == set()


NEED_NOTHING = ("mail preview", "completion")


@pytest.mark.parametrize("words", NEED_NOTHING)
def test_an_example_that_needs_no_system_works_as_it_stands(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = [command for command in COMMANDS if " ".join(command.words) == words]
    for example in command.examples:
        assert run(shlex.split(example)[1:], {}) == 0
        assert capsys.readouterr().out


COMPLETED = [
    ("weighbridge or", "org"),
    ("weighbridge org cr", "create"),
    ("weighbridge org create --pl", "--plan"),
    ("weighbridge key list --format js", "json"),
    ("weighbridge bypass e", "end"),
    ("weighbridge bypass --me", "--meter"),
    ("weighbridge completion z", "zsh"),
]
_TRY = """
try() {
  COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
  _shtab_weighbridge
  echo "${COMPREPLY[*]}"
}
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_nouns_verbs_options_and_their_values(tmp_path: Path) -> None:
    file = tmp_path / "completion.bash"
    file.write_text(script("bash") + _TRY + "".join(f"try '{line}'\n" for line, _ in COMPLETED))
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.splitlines(), done.stderr) == ([word for _, word in COMPLETED], "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_of_every_verb(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert [command.words for command in COMMANDS if not all(word in text for word in command.words)] == []
    if (program := shutil.which(shell)) is not None:
        file = tmp_path / "completion"
        file.write_text(text)
        subprocess.run([program, "-n", str(file)], timeout=60, check=True)
