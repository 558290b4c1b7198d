"""docs/cli.md, made of the command line itself: `python -m weighbridge.cli.reference > docs/cli.md`."""

import argparse
from collections.abc import Iterator

from .main import parser
from .output import say
from .tree import Command, commands

_COMMON = {"--help", "--data-dir", "--config", "--format", "--org"}
_HEAD = """# Command line

Made of the command line itself by `make reference`; a test holds it. `weighbridge COMMAND --help` says the same.

Option names take dashes or underscores, and their values a space or `=`.

## Where a command works

On the server a command works straight on the database: of the running `weighbridge up`, or of `DATABASE_URL`. Anywhere else it works
through control, by a token: `WEIGHBRIDGE_CONTROL_URL=https://… WEIGHBRIDGE_TOKEN=wbt_…`. What it prints is the same. `up`, `serve`, `init`,
`restart`, `config`, `compile`, `flush`, `reconcile`, `journal` and what sends mail or asks Stripe by the server's own keys work on the
server only.

## What most commands take

| option | |
|---|---|
| `--format table\\|json\\|csv` | a table for people, the answer of the REST API for programs, rows for spreadsheets |
| `--org ORG` | the organization, by id or slug; without it `WEIGHBRIDGE_ORG`, or the only one there is |
| `--yes` | do not ask before what cannot be undone; where nobody is there to ask, nothing is asked |
| `--data-dir DIR` | where a running system keeps its data (default: ./.weighbridge) |
| `--config DIR` | where the YAML files are (default: ./config) |

A command that is about all organizations unless one is named (audit, token, mail) is narrowed by `--org` alone.

## Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | refused, or not done: one sentence on stderr says what, where, and what to do. stdout stays empty |
| 2 | the command line cannot be read: usage on stderr |
| 3, 4 | only `reconcile`: something differs; nothing differs, but not all could be looked at |
| 130 | interrupted |

`weighbridge … | head` is no error. Warnings (stored, but the gateways do not know yet) go to stderr and leave the exit code 0.

## Completion

```
eval "$(weighbridge completion bash)"                                     # in ~/.bashrc
weighbridge completion zsh > ~/.zfunc/_weighbridge                        # with ~/.zfunc in $fpath
weighbridge completion fish > ~/.config/fish/completions/weighbridge.fish
```
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for command in commands(parser()) for line in _section(command))])


def _section(command: Command) -> Iterator[str]:
    yield f"## weighbridge {' '.join(command.words)}"
    yield ""
    said = command.parser.description or command.about
    yield _escaped(said[:1].upper() + said[1:].rstrip(".") + ".")
    yield ""
    rows = [row for action in command.parser._actions if (row := _row(action))]
    if rows:
        yield from ("| | |", "|---|---|", *rows, "")
    if command.examples:
        yield from ("```", *(f"$ {example}" for example in command.examples), "```", "")


def _row(action: argparse.Action) -> str | None:
    if isinstance(action, argparse._SubParsersAction) or action.help is argparse.SUPPRESS or _COMMON & set(action.option_strings):
        return None
    value = _value(action)
    name = " ".join([", ".join(action.option_strings), value]).strip() if action.option_strings else value
    needed = " (needed)" if action.required and action.option_strings else ""
    return f"| `{name.replace('|', chr(92) + '|')}` | {_escaped(action.help or '')}{needed} |"


def _value(action: argparse.Action) -> str:
    """What stands behind the option, or for the word itself."""
    if action.nargs == 0:
        return ""
    if action.metavar is None and action.choices is not None:
        return "|".join(map(str, action.choices))
    word = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return f"[{word}]" if action.nargs == "?" else f"[{word} …]" if action.nargs == "*" else f"{word} …" if action.nargs == "+" else word


def _escaped(text: str) -> str:
    return " ".join(text.replace("%%", "%").replace("|", "\\|").replace("<", "&lt;").split())


if __name__ == "__main__":
    say(reference().rstrip())
