"""The names and seals of what was asked under an Idempotency-Key. Pure.

Whoever holds the database holds neither the credential nor the key, and so learns from a kept answer nothing: not a token that was shown
once, not whose answer it is. The same key with another credential is another request.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Unsealable(Exception):
    """This was sealed with something else."""


@dataclass(frozen=True, slots=True)
class Seal:
    """`id`: under what it is kept; `fingerprint` of what is asked."""

    id: bytes
    fingerprint: bytes
    _key: bytes

    def close(self, answer: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, answer, self.fingerprint)

    def open(self, sealed: bytes) -> bytes:
        """Raises Unsealable."""
        try:
            return AESGCM(self._key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self.fingerprint)
        except (InvalidTag, ValueError) as exc:
            raise Unsealable from exc


def seal(*, credential: str, key: str, method: str, target: str, body: bytes) -> Seal:
    """`target` is the path with its query."""
    root = hmac.digest(hashlib.sha256(credential.encode()).digest(), key.encode(), "sha256")
    asked = hashlib.sha256(b"\0".join((method.encode(), target.encode(), body))).digest()
    return Seal(
        id=hmac.digest(root, b"weighbridge repeat id", "sha256"),
        fingerprint=hmac.digest(root, b"weighbridge repeat fingerprint" + asked, "sha256"),
        _key=hmac.digest(root, b"weighbridge repeat answer", "sha256"),
    )
