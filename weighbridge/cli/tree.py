"""The command line as a list of its commands: for completion, for the reference, and for tests of every one of them."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from .verbs import EXAMPLE


@dataclass(frozen=True, slots=True)
class Command:
    """`words` as they are typed behind `weighbridge`; `about` one line."""

    words: tuple[str, ...]
    about: str
    parser: argparse.ArgumentParser

    @property
    def examples(self) -> list[str]:
        """Lines as they are typed."""
        text = self.parser.epilog or ""
        return [line.removeprefix(EXAMPLE) for line in text.splitlines() if line.startswith(EXAMPLE)]


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), about: str = "") -> Iterator[Command]:
    """Every command that does something, a noun before its verbs."""
    if parser.get_default("run") is not None:
        yield Command(words, about, parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                yield from commands(below, (*words, name), told.get(name, ""))
