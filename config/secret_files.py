"""A secret's place: a variable of the environment, or the file that the variable of the same name with _FILE behind it names.

Read here, and nowhere else; what a file holds is in no message, whatever is wrong with it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

SUFFIX = "_FILE"
MOST_BYTES = 64 * 1024


class SecretUnreadable(ValueError):
    """The file of a secret cannot be used."""


def secret_of(environ: Mapping[str, str], name: str) -> str | None:
    """Its value without the line's end; None where it is not set. Raises SecretUnreadable with a sentence for the operator."""
    value, path = environ.get(name, "").strip(), environ.get(name + SUFFIX, "").strip()
    if not path:
        return value or None
    if value:
        raise SecretUnreadable(f"{name} and {name}{SUFFIX} are both set; keep one")
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{name}{SUFFIX}: {path} is no UTF-8 text") from None
    except OSError as exc:
        raise SecretUnreadable(f"{name}{SUFFIX}: {path} cannot be read: {exc.strerror}") from exc
    if len(content) > MOST_BYTES or "\n" in text or "\0" in text or not text:
        raise SecretUnreadable(f"{name}{SUFFIX}: {path} is to hold one line, the secret")
    return text


def reader(environ: Mapping[str, str]) -> Callable[[str], str | None]:
    """For a process whose configuration names variables as places of secrets."""
    return lambda name: secret_of(environ, name)


def instead(environ: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """`environ` with `found` in place of what it says of these names, files included."""
    return {name: value for name, value in environ.items() if name.removesuffix(SUFFIX) not in found or name in found} | dict(found)
