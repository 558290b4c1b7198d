"""Organizations and their API keys, as nouns. Pure; kept by billing/store/orgs.py and keys.py."""

import re
import unicodedata
import uuid
from dataclasses import dataclass

from metering.model.apikey import Kind, is_scope
from metering.model.errors import BadInput
from metering.model.quota import Quota, Rate

_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST = 63
LONGEST_LABEL = 200


class SlugFaulty(BadInput):
    """A slug is 1 to 63 lower-case letters, digits and inner dashes, and not a UUID."""

    code = "slug_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """Who is billed. `version` counts every change of what it may do."""

    id: str  # canonical UUID
    slug: str
    name: str
    version: int = 1
    created_at_ms: int = 0


class ScopeFaulty(BadInput):
    """A scope is up to 64 visible ASCII characters, without quotes and backslashes."""

    code = "scope_faulty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What one key carries: scopes that routes ask for, and limits of its own, beside its organization's."""

    scopes: tuple[str, ...] = ()
    quotas: tuple[Quota, ...] = ()
    rates: tuple[Rate, ...] = ()

    def checked(self) -> "Grants":
        """Itself. Raises ScopeFaulty."""
        for scope in self.scopes:
            if not is_scope(scope):
                raise ScopeFaulty(f"{scope!r} cannot be a scope: up to 64 visible ASCII characters, without spaces, quotes and backslashes")
        return self


def limit_words(grants: Grants) -> list[str]:
    """As they are typed, in base units."""
    quotas = [f"{quota.meter}={quota.limit}/{quota.window}" for quota in grants.quotas]
    return quotas + [f"{rate.meter + '=' if rate.meter else ''}{rate.limit}/{rate.per}" for rate in grants.rates]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key, or of a client certificate that serves as one; never the key itself."""

    id: int
    org_id: str
    sha256: str
    hint: str
    label: str = ""
    test: bool = False
    imported: bool = False
    created_at_ms: int = 0
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    kind: Kind = Kind.KEY
    grants: Grants = Grants()
    replaced_by: int | None = None

    def status(self, now_ms: int) -> str:
        """active, expiring (it ends at a known time), expired or revoked."""
        if self.revoked_at_ms is not None:
            return "revoked"
        if self.expires_at_ms is None:
            return "active"
        return "expiring" if now_ms < self.expires_at_ms else "expired"


def check_label(label: str) -> str:
    """`label` itself, of a key or a token. Raises BadInput."""
    if len(label) > LONGEST_LABEL or not (label.isprintable() or not label):
        raise BadInput(f"a label is at most {LONGEST_LABEL} printable characters")
    return label


def is_uuid(text: str) -> bool:
    """True for any spelling of a UUID: `--org` takes one or a slug, so no slug may look like one."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def check_slug(slug: str) -> str:
    """`slug` itself. Raises SlugFaulty."""
    if not _SLUG.fullmatch(slug) or is_uuid(slug):
        raise SlugFaulty(f"{slug!r} cannot be a slug: 1 to 63 lower-case letters, digits and inner dashes, and not a UUID")
    return slug


def slugify(name: str) -> str:
    """A slug out of a name: "Acme Corp." is acme-corp. A name without a single Latin letter or digit is "org"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-")
    return f"org-{slug}" if is_uuid(slug) else slug or "org"


def numbered(slug: str, number: int) -> str:
    """The slug to try when the first `number` - 1 are taken: acme, acme-2, acme-3."""
    return slug if number == 1 else f"{slug[: _LONGEST - len(str(number)) - 1].rstrip('-')}-{number}"
