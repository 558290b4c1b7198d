"""An issuer of tokens for tests: keys, signatures, and the set that a server would give out."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

URL = "https://id.example.com/"
AUDIENCE = "api"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


def jwk(key: PrivateKey, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half."""
    public = key.public_key()
    made = RSAAlgorithm.to_jwk(public, as_dict=True) if isinstance(key, RSAPrivateKey) else ECAlgorithm.to_jwk(public, as_dict=True)  # type: ignore[arg-type]
    return {**made, **({"kid": kid} if kid else {}), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(now_ms: int, **changed: Any) -> dict[str, Any]:
    """Good for an hour; None takes a claim away."""
    now = now_ms // 1000
    found = {"iss": URL, "aud": AUDIENCE, "iat": now, "exp": now + 3600, "org_id": "acme", "sub": "someone", **changed}
    return {name: value for name, value in found.items() if value is not None}


def token(of: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **headers: Any) -> str:
    return jwt.encode(of, key, algorithm=algorithm, headers={**({"kid": kid} if kid else {}), **headers})
