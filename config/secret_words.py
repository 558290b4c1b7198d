"""What is plainly a secret: refused in files, and never repeated in a message. Pure.

The forms are those of the makers: a text of such a form is taken for what it says to be. A password without a form of its own can
only be known by the name it stands under (config/gateway_file.py).
"""

import re
from collections.abc import Iterator

_FORMS: tuple[tuple[str, str], ...] = (
    ("a Stripe key", r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{8,}"),
    ("the secret of a Stripe webhook", r"\bwhsec_[A-Za-z0-9+/=]{8,}"),
    ("an API key", r"\bwbk_(?:live|test)_[0-9A-Za-z]{20,}"),
    ("a token of the control API", r"\bwbt_[0-9A-Za-z]{20,}"),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("a signed token", r"\beyJ[\w-]{6,}\.[\w-]{8,}\.[\w-]{8,}"),
    ("an address with a password in it", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:'\"]*:[^\s/@'\"]{4,}@"),
    ("a cloud or repository key", r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|xox[abprs]-[A-Za-z0-9-]{10,})"),
)
_ANY = re.compile("|".join(f"({form})" for _, form in _FORMS))
_SHOWN = "[secret]"


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """The line, from 1, and the kind of each secret in a text."""
    for match in _ANY.finditer(text):
        if match.lastindex is not None:
            yield text.count("\n", 0, match.start()) + 1, _FORMS[match.lastindex - 1][0]


def without_secrets(text: str) -> str:
    """The text with what is plainly a secret left out."""
    return _ANY.sub(_SHOWN, text)
