"""What is registered of a client certificate."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.credentials import fingerprint
from metering.model.clock import to_ms
from metering.model.errors import BadInput
from weighbridge.certificates import read_certificate

KEY = ec.generate_private_key(ec.SECP256R1())
ENDS = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def pem(name: str | None = "robot") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key()).serial_number(5)
    made = builder.not_valid_before(ENDS - timedelta(days=9)).not_valid_after(ENDS).sign(KEY, hashes.SHA256())
    return made.public_bytes(Encoding.PEM)


def test_the_fingerprint_is_the_one_that_the_gateway_makes_of_the_same_certificate() -> None:
    text = pem()
    found = read_certificate(text)
    assert found.sha256_hex == fingerprint(text)
    assert (found.name, found.expires_at_ms) == ("robot", to_ms(ENDS))


def test_the_first_of_a_chain_is_the_clients_own() -> None:
    assert read_certificate(pem("robot") + pem("authority")).name == "robot"


def test_a_private_key_is_not_taken() -> None:
    secret = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadInput, match="private key"):
        read_certificate(pem() + secret)


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(text: bytes) -> None:
    with pytest.raises(BadInput, match="no certificate"):
        read_certificate(text)
