"""How the command line reads what people type, and prints what programs read."""

import re

import pytest

from metering.model.errors import BadInput
from weighbridge.cli.main import NOUNS, normalized, parser
from weighbridge.cli.output import table
from weighbridge.cli.verbs import one_org
from weighbridge.cli.words import seconds

SPELLINGS = [
    (["up", "--data_dir", "x"], ["up", "--data-dir", "x"]),
    (["up", "--ready_file=a_b"], ["up", "--ready-file=a_b"]),
    (["org", "create", "my_name", "--plan", "free_plan"], ["org", "create", "my_name", "--plan", "free_plan"]),
    (["key", "revoke", "--", "--odd_key"], ["key", "revoke", "--", "--odd_key"]),
]


@pytest.mark.parametrize(("typed", "read"), SPELLINGS)
def test_option_names_take_underscores_and_values_stay(typed: list[str], read: list[str]) -> None:
    assert normalized(typed) == read


SPANS = [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("1d", 86_400)]


@pytest.mark.parametrize(("text", "expected"), SPANS)
def test_a_span_of_time_is_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "d", "-1", "1.5h", "soon", "1w"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no span of time"):
        seconds(text)


def test_two_names_for_one_organization_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_org(parser().parse_args(["key", "list", "acme", "--org", "acme"])) == "acme"
    with pytest.raises(SystemExit, match="2"):
        one_org(parser().parse_args(["key", "import", "keys.txt", "--org", "acme"]))
    assert "keys.txt and acme; name one" in capsys.readouterr().err


def test_a_table_is_aligned_and_has_no_trailing_space() -> None:
    assert table([["a", "1"], ["longer", ""]], ["name", "n"]) == ["name    n", "a       1", "longer"]


def test_every_command_has_a_place_and_a_help_line() -> None:
    help_text = parser().format_help()
    assert [noun for noun in NOUNS if not re.search(rf"\n    {noun}\s+\w", help_text)] == []
