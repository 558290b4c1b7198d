"""docs/guide-commands.md is whole: each command of the script stands there and is read, and each test that it names is there."""

import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.guide import missing, steps
from weighbridge.cli.main import normalized, parser

ROOT = Path(__file__).parents[3]
ROWS = re.findall(r"^\| `([^`]+)` \| (.*?) ?\|$", (ROOT / "docs" / "guide-commands.md").read_text("utf-8"), re.MULTILINE)
NOT_YET = "not yet"


def test_the_table_has_every_command_of_the_guide_once() -> None:
    commands = [command for command, _ in ROWS]
    assert len(commands) == len(set(commands)) == 88


def test_what_the_script_runs_is_in_the_table_and_the_other_way_round() -> None:
    assert {step.guide for step in steps() if step.guide} == {command for command, held in ROWS if held != NOT_YET}


@pytest.mark.parametrize("command", [command for command, held in ROWS if held != NOT_YET])
def test_a_command_is_read_as_the_guide_writes_it(command: str) -> None:
    words = shlex.split(command)
    assert parser(words[0]).parse_args(normalized(words)).run


@pytest.mark.parametrize("test", sorted({held.strip("`") for _, held in ROWS if held not in ("", NOT_YET)}))
def test_a_test_that_is_named_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)


SCRIPT = """
Words before.
# A part
$ payment list
id … default
<visa> … Visa … No
$ payment default <visa>   ## payment default pm_ID
✓ Default is <visa>
$$ cancel
< y
@ card x
"""


def test_the_script_is_read_and_its_lines_are_looked_for_in_their_order() -> None:
    listed, default, cancel, card = steps(SCRIPT)
    assert (default.guide, cancel.guide, cancel.answers, card.outside) == ("payment default pm_ID", None, ["y"], True)
    known: dict[str, str] = {}
    assert missing(listed, ["id    type  default", "pm_1  Visa  No"], known) is None
    assert known == {"visa": "pm_1"}
    assert missing(listed, ["pm_1  Visa  No", "id    default"], {}) == "<visa> … Visa … No"
    assert missing(default, ["✓ Default is pm_2"], known) == "✓ Default is <visa>"
