"""Who calls, as the gateway says it and signs it (WEIGHBRIDGE_SIGNING_SECRET): for services that can be reached past the gateway."""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import NotSigned

TOLERANCE_SECONDS = 300
_SIGNED = ("x-org-id", "x-org-slug", "x-org-plan", "x-key-id", "x-org-tenant", "x-org-features", "x-org-test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`tenant` is the organization's own customer, where the call names one; `test`: by a test key, which never bills."""

    org_id: str
    slug: str
    plan: str
    key_id: str
    tenant: str | None
    features: str
    test: bool


class Signed:
    """`prefix` is what the gateway's route strips off the path (strip_prefix): the signature is over the target as the client sent it."""

    def __init__(self, secret: str, *, prefix: str = "", now: Callable[[], float] = time.time) -> None:
        self._secret, self._prefix, self._now = secret.encode(), prefix.rstrip("/"), now

    def identity(self, method: str, target: str, headers: Mapping[str, str]) -> Identity:
        """`target` is the path with its query, as it came: not decoded. Header names are lower-case, or the mapping does not mind.

        Raises NotSigned.
        """
        parts = dict(part.partition("=")[::2] for part in headers.get("x-weighbridge-signature", "").split(","))
        seconds, given = parts.get("t", ""), parts.get("v1", "")
        if not (seconds.isascii() and seconds.isdigit()) or abs(self._now() - int(seconds)) > TOLERANCE_SECONDS:
            raise NotSigned("the call carries no signature of the gateway's, or an old one")
        told = [headers.get(name, "") for name in _SIGNED]
        lines = [seconds, headers.get("x-request-id", ""), f"{method} {self._prefix}{target}", *told]
        expected = hmac.new(self._secret, "\n".join(lines).encode(errors="surrogateescape"), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(given.encode(errors="replace"), expected.encode()) or any("\n" in line for line in lines):
            raise NotSigned("the call does not carry the gateway's signature")
        org_id, slug, plan, key_id, tenant, features, test = told
        return Identity(org_id=org_id, slug=slug, plan=plan, key_id=key_id, tenant=tenant or None, features=features, test=test == "true")

    def org(self, method: str, target: str, headers: Mapping[str, str]) -> str | None:
        """The organization's id, or None where the call is not the gateway's: for a gate's `org`."""
        try:
            return self.identity(method, target, headers).org_id or None
        except NotSigned:
            return None
