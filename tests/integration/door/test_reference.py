"""docs/cli.md is what the command line says of itself."""

from pathlib import Path

from weighbridge.cli.reference import reference


def test_the_reference_is_that_of_the_command_line() -> None:
    assert (Path(__file__).parents[3] / "docs" / "cli.md").read_text() == reference().rstrip() + "\n", "docs/cli.md is old: make reference"
