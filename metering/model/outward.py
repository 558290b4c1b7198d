"""Where an address that somebody configured may lead. Pure; who connects resolves first, and connects to what was looked at here.

An address inside is how a foreign URL reads a machine's own secrets: the metadata service of a cloud hands out credentials to whoever
asks from the right machine. Names are not judged, only what they resolve to, as a name may say something else next time.
"""

from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from .errors import BadInput

Address = IPv4Address | IPv6Address

_METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_NAT64 = ip_network("64:ff9b::/96")


class Reach(Enum):
    """How far a URL may lead: OPERATOR one that stands in the operator's own files, PUBLIC one that a customer gave."""

    OPERATOR = "operator"
    PUBLIC = "public"


class Forbidden(BadInput):
    """This address may not be asked."""

    code = "address_forbidden"


def check(text: str, reach: Reach) -> None:
    """Raises Forbidden for an address that `reach` does not cover. An address within an address counts as that."""
    try:
        address = _innermost(ip_address(text.partition("%")[0]))
    except ValueError as exc:
        raise Forbidden(f"{text!r} is no address") from exc
    if address in _METADATA or address.is_link_local:
        raise Forbidden(f"{text} is link-local: there a cloud hands out credentials")
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
        raise Forbidden(f"{text} is no host's address")
    if reach is Reach.PUBLIC and (not address.is_global or address.is_private or address.is_loopback):
        raise Forbidden(f"{text} is not on the public internet")


def is_address(host: str) -> bool:
    """Whether a URL's host is an address itself, which nobody resolves."""
    try:
        ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _innermost(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner
    return address
