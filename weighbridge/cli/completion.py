"""`weighbridge completion`: a script that lets a shell complete commands, options and files."""

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from .output import say
from .tree import commands
from .verbs import typed

_FILES, _FOLDERS = ("FILE", "CERT.PEM"), ("DIR", "FOLDER")


def add(nouns: Any) -> None:
    text = "a script that completes commands and options: bash, zsh, fish"
    parser = nouns.add_parser(
        "completion", help=text,
        description='A script for a shell to read when it starts: eval "$(weighbridge completion bash)" in ~/.bashrc; for zsh a file '
        "_weighbridge in a folder of $fpath; for fish ~/.config/fish/completions/weighbridge.fish.",
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    typed(parser, "weighbridge completion bash")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, _context: Any) -> int:
    say(script(options.shell).rstrip())
    return 0


def script(shell: str) -> str:
    from .main import parser

    top = parser()
    for action in _options(top):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return shtab.complete(top, shell=shell)


def _options(top: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for command in commands(top):
        yield from command.parser._actions
