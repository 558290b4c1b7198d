"""Who an invoice goes to: contact, billing address, tax ids, currency, language. Pure; kept by billing/store/customers.py.

Cards are not here: payment methods live at Stripe.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from billing.model.tax import Place
from metering.model.errors import BadInput

# ISO 3166-1 alpha-2, and XK, which Stripe takes for Kosovo.
_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG "
    "CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL "
    "GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA "
    "LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP "
    "NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
COUNTRIES = frozenset(_CODES.split())
MARKETPLACES = ("aws", "azure", "gcp")
_EMAIL = re.compile(r"[^@\s,;<>()\"\\]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
_CURRENCY = re.compile(r"[a-z]{3}")
_TAX_TYPE = re.compile(r"[a-z]{2}_[a-z_]{1,20}")
_TAX_VALUE = re.compile(r"[A-Za-z0-9 ./&-]{2,40}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST = 200


class CustomerFaulty(BadInput):
    """A field of a customer cannot be what was given."""

    code = "customer_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where invoices go, as Stripe has it; `country` is ISO 3166-1 alpha-2."""

    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """As it stands on an invoice."""
        place = " ".join(part for part in (self.postal_code, self.city, self.state) if part)
        return tuple(line for line in (self.line1, self.line2, place, self.country) if line)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxId:
    """`kind` as Stripe names it: eu_vat, us_ein, gb_vat."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """One for each organization. `user_id` is the user of the application who pays, where one does; `stripe_id` its id there."""

    org_id: str
    name: str
    currency: str
    email: str | None = None
    phone: str | None = None
    address: Address = Address()
    tax_ids: tuple[TaxId, ...] = ()
    language: str | None = None
    user_id: str | None = None
    marketplace: str | None = None
    marketplace_customer_id: str | None = None
    created_at_ms: int = 0
    stripe_id: str | None = None

    @property
    def place(self) -> Place:
        """Where it is taxed."""
        return Place(country=self.address.country, region=self.address.state)

    def checked(self) -> "Customer":
        """Itself. Raises CustomerFaulty, which names the field."""
        if not self.name.strip():
            raise CustomerFaulty("a customer needs a name", field="name")
        address = self.address
        for field, value in (
            ("name", self.name), ("phone", self.phone), ("address", address.line1), ("line2", address.line2), ("city", address.city),
            ("state", address.state), ("postal_code", address.postal_code), ("marketplace_customer_id", self.marketplace_customer_id),
        ):  # fmt: skip
            _check_text(field, value)
        check_email(self.email)
        _check("language", self.language, _LANGUAGE, "a language, like en or de-CH")
        _check("currency", self.currency, _CURRENCY, "a currency, like usd")
        _check("user_id", self.user_id, _UUID, "a user's UUID")
        if address.country is not None and address.country not in COUNTRIES:
            raise CustomerFaulty(f"{address.country!r} is no country: write the two letters of ISO 3166, like US", field="country")
        for tax_id in self.tax_ids:
            _check("tax_id", tax_id.kind, _TAX_TYPE, "the kind of a tax id, like eu_vat")
            _check("tax_id", tax_id.value, _TAX_VALUE, "a tax id")
        if self.marketplace is not None and self.marketplace not in MARKETPLACES:
            raise CustomerFaulty(f"{self.marketplace!r} is no marketplace: {', '.join(MARKETPLACES)}", field="marketplace")
        if (self.marketplace is None) != (self.marketplace_customer_id is None):
            raise CustomerFaulty("a customer of a marketplace has its id there, and no other has one", field="marketplace")
        return self

    def changed(self, **fields: Any) -> "Customer":
        """With these fields in place of what it had; those of the address go by their own names. An empty text takes one away."""
        wanted: dict[str, Any] = {name: (value or None) if isinstance(value, str) else value for name, value in fields.items()}
        where = {name: wanted.pop(name) for name in tuple(wanted) if name in ADDRESS_FIELDS}
        if wanted.get("name", "") is None:
            raise CustomerFaulty("a customer needs a name", field="name")
        return replace(self, address=replace(self.address, **where), **wanted).checked()


ADDRESS_FIELDS = ("line1", "line2", "city", "state", "postal_code", "country")


def tax_ids_from(value: Any) -> tuple[TaxId, ...]:
    """From [{type, value}]."""
    return tuple(TaxId(kind=each["type"], value=each["value"]) for each in value)


def tax_ids_to(tax_ids: tuple[TaxId, ...]) -> list[Mapping[str, str]]:
    """The inverse of `tax_ids_from`."""
    return [{"type": each.kind, "value": each.value} for each in tax_ids]


def check_email(email: str | None) -> None:
    """Raises CustomerFaulty."""
    _check("email", email, _EMAIL, "an e-mail address, like billing@example.com")


def _check_text(field: str, value: str | None) -> None:
    if value is not None and (not value.strip() or len(value) > _LONGEST or not value.isprintable()):
        raise CustomerFaulty(f"{field}: up to {_LONGEST} printable characters, not {value!r}", field=field)


def _check(field: str, value: str | None, pattern: re.Pattern[str], like: str) -> None:
    if value is not None and (len(value) > 254 or not pattern.fullmatch(value)):
        raise CustomerFaulty(f"{field}: {value!r} is not {like}", field=field)
