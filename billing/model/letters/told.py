"""The facts of a mail, as a letter asks for them: cleaned, and worded in its language. Pure.

Whatever a customer could have written (a name, a reason) is made one line without control characters, so that it can forge
neither a paragraph nor a header; escaping for HTML is html.py's.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.model.letters.letter import House, Reader
from billing.model.wording import Wording, wording
from metering.model.errors import BadInput

_LONGEST = 200


class FactMissing(BadInput):
    """The facts of a mail lack something that it tells."""

    code = "fact_missing"


def clean(text: str) -> str:
    """One line of visible characters, not longer than a name is."""
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Zs") else c for c in text if _shows(c))
    line = " ".join(visible.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _shows(character: str) -> bool:
    """Not what only changes how others are shown (a right-to-left override), nor half a character."""
    return unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    facts: Mapping[str, Any]
    reader: Reader
    house: House
    language: str

    @property
    def wording(self) -> Wording:
        return wording(self.language)

    @property
    def product(self) -> str:
        return clean(self.house.product)

    @property
    def organization(self) -> str:
        return clean(self.reader.organization)

    @property
    def name(self) -> str:
        return clean(self.reader.name or self.reader.organization)

    def has(self, key: str) -> bool:
        """True where it is there, and not null, false or empty."""
        return bool(self.facts.get(key))

    def fact(self, key: str) -> Any:
        if self.facts.get(key) is None:
            raise FactMissing(f"the mail lacks {key}, which its text tells")
        return self.facts[key]

    def text(self, key: str) -> str:
        return clean(str(self.fact(key)))

    def reason(self, words: Mapping[str, str]) -> str:
        """Why a payment failed: in our words where we have some, else in those of whoever refused."""
        said = self.text("reason")
        return words.get(said) or said.replace("_", " ").capitalize()

    def whole(self, key: str) -> int:
        return int(self.fact(key))

    def decimal(self, key: str) -> Decimal:
        return Decimal(str(self.fact(key)))

    def money(self, key: str = "amount") -> str:
        return self.wording.money(self.decimal(key), str(self.fact("currency")))

    def number(self, key: str) -> str:
        return self.wording.number(self.decimal(key))

    def share(self, key: str) -> str:
        return self.wording.share(self.decimal(key))

    def date(self, key: str) -> str:
        return self.wording.date(datetime.fromisoformat(self.fact(key)))

    def instant(self, key: str) -> str:
        return self.wording.instant(datetime.fromisoformat(self.fact(key)))

    def lost(self, *, per_month: str, unlimited: str, shrinks: str, goes: str) -> tuple[str, ...]:
        """`losses`, one line each: `shrinks` with {title}, {before}, {after}, {per}; `goes` with {feature}."""
        losses = self.facts.get("losses") or {}
        lines = []
        for quota in losses.get("quotas", ()):
            before, after = (self._limit(quota, key, unlimited) for key in ("before", "after"))
            per = per_month if quota.get("window") in ("period", "month") else ""
            lines.append(shrinks.format(title=clean(quota["title"]), before=before, after=after, per=per))
        return (*lines, *(goes.format(feature=clean(feature)) for feature in losses.get("features", ())))

    def _limit(self, quota: Mapping[str, Any], key: str, unlimited: str) -> str:
        if quota.get(key) is None:
            return unlimited
        return f"{self.wording.number(Decimal(quota[key]))} {clean(quota.get('unit') or '')}".rstrip()
