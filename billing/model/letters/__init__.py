"""What mails say, in each language: facts in, a Letter out. Pure. Text and HTML are both made from the Letter (text.py, html.py).

To add a language: its file with a LETTERS table of every MailKind, its line in LANGUAGES here, its Wording in ../wording.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

from billing.model.letters import english, german
from billing.model.letters.letter import House, Letter, Reader
from billing.model.letters.told import Told, clean
from billing.model.mail import MailKind
from billing.model.wording import language_of

LANGUAGES: Mapping[str, Mapping[MailKind, Callable[[Told], Letter]]] = {"en": english.LETTERS, "de": german.LETTERS}


def write(kind: MailKind, facts: Mapping[str, Any], reader: Reader, house: House) -> Letter:
    """Raises FactMissing where the facts lack what this kind tells."""
    language = language_of(reader.language)
    return LANGUAGES[language][kind](Told(facts=facts, reader=reader, house=house, language=language))


__all__ = ["LANGUAGES", "House", "Letter", "Reader", "clean", "write"]
