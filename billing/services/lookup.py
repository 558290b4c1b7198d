"""Find what people type: an organization by id or slug, a key by number or by itself, an invoice by number or id."""

from billing.model.invoice import Invoice, Issuer
from billing.model.organization import ApiKey, Organization
from billing.services.ports import Unit
from metering.model.apikey import sha256_hex
from metering.model.errors import Conflict, NotFound

FINGERPRINT = "sha256:"


class NoSuchOrganization(NotFound):
    """There is no such organization."""

    code = "no_such_organization"


class NoSuchInvoice(NotFound):
    """There is no such invoice."""

    code = "no_such_invoice"


class WrittenByStripe(Conflict):
    """Stripe wrote this invoice: it is changed there."""

    code = "written_by_stripe"


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


async def invoice(unit: Unit, ref: str, *, org_id: str | None = None, lock: bool = False) -> Invoice:
    """By id, number, or Stripe's id; with `org_id`, of that organization alone. Raises NoSuchInvoice."""
    found = await unit.invoices.get(ref, lock=lock)
    if found is None or org_id not in (None, found.org_id):
        raise NoSuchInvoice(f"there is no invoice {ref!r}; give its number or its id (invoice list)", invoice=ref)
    return found


async def own_invoice(unit: Unit, ref: str, *, org_id: str | None = None) -> Invoice:
    """One that is written here, locked: it can be changed. Raises NoSuchInvoice, WrittenByStripe."""
    found = await invoice(unit, ref, org_id=org_id, lock=True)
    if found.issuer is Issuer.STRIPE:
        raise WrittenByStripe(f"invoice {found.number or found.id} was written by Stripe: change it there, its mirror follows")
    return found


async def key(unit: Unit, ref: str, within: str | None = None) -> ApiKey:
    """By its number, by the key itself, or by its fingerprint (sha256:…); `within` an organization, no other's. Raises NoSuchKey, which
    does not repeat what may be a secret."""
    found = await unit.keys.find(sha256=fingerprint(ref))
    if found is None and ref.isascii() and ref.isdigit() and len(ref) <= 18:
        found = await unit.keys.find(key_id=int(ref))
    if found is None or (within is not None and found.org_id != within):
        raise NoSuchKey("there is no such key; give its number (key list) or the key itself")
    return found
