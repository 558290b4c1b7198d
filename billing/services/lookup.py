"""Find what people type: an organization by id or slug, a key by number or by itself."""

from billing.model.organization import ApiKey, Organization
from billing.services.ports import Unit
from metering.model.apikey import sha256_hex
from metering.model.errors import NotFound

FINGERPRINT = "sha256:"


class NoSuchOrganization(NotFound):
    """There is no such organization."""

    code = "no_such_organization"


class NoSuchKey(NotFound):
    """There is no such key."""

    code = "no_such_key"


def fingerprint(ref: str) -> str:
    """The hash by which a key or token is kept: of the text itself, or as it was given (sha256:…), so that no address carries a secret."""
    return ref.removeprefix(FINGERPRINT) if ref.startswith(FINGERPRINT) else sha256_hex(ref)


async def organization(unit: Unit, ref: str, *, lock: bool = False) -> Organization:
    """By id or slug; not the deleted. Raises NoSuchOrganization."""
    org = await unit.orgs.find(ref, lock=lock)
    if org is None:
        raise NoSuchOrganization(f"there is no organization {ref!r}", org=ref)
    return org


async def customer(unit: Unit, ref: str) -> Organization:
    """By the organization's id or slug, or by its customer's id at Stripe (cus_…). Raises NoSuchOrganization."""
    if ref.startswith("cus_"):
        org_id = await unit.customers.at_stripe(ref)
        if org_id is None:
            raise NoSuchOrganization(f"no organization is the customer {ref} at Stripe", org=ref)
        return await organization(unit, org_id)
    return await organization(unit, ref)


async def key(unit: Unit, ref: str, within: str | None = None) -> ApiKey:
    """By its number, by the key itself, or by its fingerprint (sha256:…); `within` an organization, no other's. Raises NoSuchKey, which
    does not repeat what may be a secret."""
    found = await unit.keys.find(sha256=fingerprint(ref))
    if found is None and ref.isascii() and ref.isdigit() and len(ref) <= 18:
        found = await unit.keys.find(key_id=int(ref))
    if found is None or (within is not None and found.org_id != within):
        raise NoSuchKey("there is no such key; give its number (key list) or the key itself")
    return found
