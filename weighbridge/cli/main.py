"""`weighbridge`: one command line, one file per noun. Exit codes: 0 done, 1 refused with a sentence on stderr, 2 usage."""

import argparse
import asyncio
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import asyncpg
from pydantic import ValidationError
from redis.exceptions import RedisError

from billing.operations.dispatch import misasked
from billing.operations.text import storable
from metering.model.errors import WeighbridgeError

from .context import Context

NOUNS: dict[str, Callable[[], ModuleType]] = {
    "up": lambda: importlib.import_module("weighbridge.cli.up"),
    "serve": lambda: importlib.import_module("weighbridge.cli.serve"),
    "init": lambda: importlib.import_module("weighbridge.cli.init"),
    "config": lambda: importlib.import_module("weighbridge.cli.config"),
    "plan": lambda: importlib.import_module("weighbridge.cli.plan"),
    "org": lambda: importlib.import_module("weighbridge.cli.org"),
    "key": lambda: importlib.import_module("weighbridge.cli.key"),
    "token": lambda: importlib.import_module("weighbridge.cli.token"),
    "usage": lambda: importlib.import_module("weighbridge.cli.usage"),
    "export": lambda: importlib.import_module("weighbridge.cli.export"),
    "quota": lambda: importlib.import_module("weighbridge.cli.quota"),
    "subscription": lambda: importlib.import_module("weighbridge.cli.subscription"),
    "trial": lambda: importlib.import_module("weighbridge.cli.trial"),
    "payment": lambda: importlib.import_module("weighbridge.cli.payment"),
    "customer": lambda: importlib.import_module("weighbridge.cli.customer"),
    "coupon": lambda: importlib.import_module("weighbridge.cli.coupon"),
    "credit": lambda: importlib.import_module("weighbridge.cli.credit"),
    "cap": lambda: importlib.import_module("weighbridge.cli.cap"),
    "hook": lambda: importlib.import_module("weighbridge.cli.hook"),
    "webhook": lambda: importlib.import_module("weighbridge.cli.webhook"),
    "stripe": lambda: importlib.import_module("weighbridge.cli.stripe"),
    "outbox": lambda: importlib.import_module("weighbridge.cli.outbox"),
    "flush": lambda: importlib.import_module("weighbridge.cli.flush"),
    "reconcile": lambda: importlib.import_module("weighbridge.cli.reconcile"),
    "journal": lambda: importlib.import_module("weighbridge.cli.journal"),
    "explain": lambda: importlib.import_module("weighbridge.cli.explain"),
    "invoice": lambda: importlib.import_module("weighbridge.cli.invoice"),
    "close": lambda: importlib.import_module("weighbridge.cli.close"),
    "bypass": lambda: importlib.import_module("weighbridge.cli.bypass"),
    "mail": lambda: importlib.import_module("weighbridge.cli.mail"),
    "audit": lambda: importlib.import_module("weighbridge.cli.audit"),
    "report": lambda: importlib.import_module("weighbridge.cli.report"),
    "monitoring": lambda: importlib.import_module("weighbridge.cli.monitoring"),
    "restart": lambda: importlib.import_module("weighbridge.cli.restart"),
    "compile": lambda: importlib.import_module("weighbridge.cli.compile"),
    "completion": lambda: importlib.import_module("weighbridge.cli.completion"),
}


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or, which starts faster, one noun of it."""
    top = argparse.ArgumentParser(
        prog="weighbridge", description="A metering gateway: counts, limits and bills the traffic of an HTTP API."
    )
    nouns = top.add_subparsers(dest="noun", metavar="command", required=True)
    for noun, load in NOUNS.items():
        if only not in NOUNS or noun == only:
            load().add(nouns)
    return top


def normalized(arguments: Sequence[str]) -> list[str]:
    """Option names may be written with underscores: --data_dir=x is --data-dir=x. What follows `--` stays."""
    result: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*result, *arguments[position:]]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = name.replace("_", "-") + equals + value
        result.append(argument)
    return result


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code."""
    if not all(map(storable, arguments)):
        return _refuse("an argument is no text in UTF-8")
    options = parser(next(iter(arguments), None)).parse_args(normalized(arguments))
    try:
        context = Context(environ=environ, options=options)
        outcome = options.run(options, context)
        return int(asyncio.run(outcome) if inspect.iscoroutine(outcome) else outcome)
    except WeighbridgeError as error:
        return _refuse(str(error))
    except ValidationError as error:  # of a question, before it was asked
        return _refuse(str(misasked(error)))
    except RedisError as error:
        return _refuse(f"the store cannot be used: {error}. Is REDIS_URL right?")
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return _refuse(f"Postgres refused: {error}")
    except BrokenPipeError:
        raise
    except OSError as error:  # a file that cannot be read or written
        return _refuse(f"{error.filename or 'the system'}: {error.strerror or error}")


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"weighbridge: {sentence}\n")
    return 1


def main() -> int:
    """Entry point of the `weighbridge` script."""
    logging.getLogger("stripe").setLevel(logging.WARNING)  # the SDK has a line for each call; a command says what came of it
    try:
        return run(sys.argv[1:], os.environ)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `weighbridge … | head` is no error
        return 0
