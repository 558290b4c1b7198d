"""Client certificates as callers hold them: what is registered of one."""

from dataclasses import dataclass
from datetime import UTC

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from metering.model.clock import to_ms
from metering.model.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`sha256_hex` is the fingerprint of its DER form; `name` the subject's common name."""

    sha256_hex: str
    name: str
    expires_at_ms: int


def read_certificate(pem: bytes) -> Certificate:
    """The first certificate of a PEM file: the client's own, where its chain stands behind it. Raises BadInput."""
    if b"PRIVATE KEY" in pem:
        raise BadInput("there is a private key in this file; give the certificate alone, the key stays with the caller")
    try:
        found = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as exc:
        raise BadInput("this is no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from exc
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Certificate(
        sha256_hex=found.fingerprint(SHA256()).hex(),
        name=str(names[0].value) if names else found.subject.rfc4514_string(),
        expires_at_ms=to_ms(found.not_valid_after_utc.astimezone(UTC)),
    )
