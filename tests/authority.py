"""Certificates for tests: an authority, and what it signs."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Client:
    """A certificate and its key, each in a file of its own."""

    certificate: Path
    key: Path
    sha256_hex: str

    def context(self, server: Path) -> ssl.SSLContext:
        """For a connection to a server with this certificate."""
        made = ssl.create_default_context(cafile=str(server))
        made.load_cert_chain(self.certificate, self.key)
        return made


class Authority:
    """Signs clients' certificates; `certificate` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self._sign(name, self._key.public_key(), authority=True).public_bytes(Encoding.PEM))

    def client(self, name: str) -> Client:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(name, key.public_key())
        certificate, key_file = self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key"
        certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Client(certificate, key_file, signed.fingerprint(SHA256()).hex())

    def _sign(self, name: str, public: ec.EllipticCurvePublicKey, *, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(self._name)).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=2))
        return builder.add_extension(x509.BasicConstraints(authority, None), critical=True).sign(self._key, SHA256())
