"""Which credential a request carries, and which request leaves that open."""

import base64
import hashlib
from urllib.parse import quote

import pytest

from config.gateway import ApiKeyIdentity, ClientCertIdentity, Identity, JwtIdentity
from gateway.credentials import AmbiguousCredentials, ApiKey, Certificate, Credential, Credentials, Token, fingerprint

KEYS = ApiKeyIdentity()
TOKENS = JwtIdentity(issuer="https://id.example.com", audience=("api",), jwks_url="https://id.example.com/k")
CERTS = ClientCertIdentity(header="X-Client-Cert")
SUM = "ab" * 32
DER = b"0\x82\x01\x0a a certificate, or nearly"
PEM = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(DER) + b"-----END CERTIFICATE-----\n"


class Head:
    """A request head with these fields."""

    def __init__(self, *fields: tuple[str, bytes]) -> None:
        self.names = [name.lower().encode() for name, _ in fields]
        self._values = [value for _, value in fields]

    def header(self, lower_name: bytes) -> bytes | None:
        return self._values[self.names.index(lower_name)] if lower_name in self.names else None


def found(head: Head, *ways: Identity, trusted: bool = False) -> Credential | None:
    return Credentials(ways or (KEYS,)).of(head, trusted)


def key(value: bytes) -> tuple[str, bytes]:
    return ("X-API-Key", value)


def bearer(value: bytes) -> tuple[str, bytes]:
    return ("Authorization", b"Bearer " + value)


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (Head(), None),
        (Head(key(b"abc")), "abc"),
        (Head(key(b"  abc ")), "abc"),
        (Head(bearer(b"abc")), "abc"),
        (Head(("authorization", b"bEARER   abc ")), "abc"),
        (Head(("Authorization", b"Basic YTpi")), None),
        (Head(("Authorization", b"Bearerabc")), None),
        (Head(("Authorization", b"")), None),
        (Head(key(b"abc"), bearer(b"xyz")), "abc"),
        (Head(key(b""), bearer(b"xyz")), ""),  # a bad one never falls through
        (Head(key(b"\xff\xfe")), "\u00ff\u00fe"),
        (Head(bearer(b"a.b.c")), "a.b.c"),  # where no tokens are taken, three parts are a key like any other
    ],
)
def test_the_first_key_present_decides(head: Head, text: str | None) -> None:
    assert found(head) == (None if text is None else ApiKey(text))


def test_sources_are_looked_at_in_the_configured_order() -> None:
    head = Head(key(b"first"), ("X-Other", b"second"), bearer(b"third"))
    assert found(head, ApiKeyIdentity(sources=("bearer", "X-API-Key"))) == ApiKey("third")
    ways = [ApiKeyIdentity(sources=(name,)) for name in ("X-Missing", "X-Other", "X-API-Key")]
    assert found(head, *ways) == ApiKey("second")


@pytest.mark.parametrize("ways", [(KEYS, TOKENS), (TOKENS, KEYS)])
def test_a_bearer_of_three_dotted_parts_is_a_token_and_any_other_a_key(ways: tuple[Identity, ...]) -> None:
    assert found(Head(bearer(b"a.b.c")), *ways) == Token("a.b.c")
    assert found(Head(bearer(b"..")), *ways) == Token("..")
    for text in ("abc", "a.b", "a.b.c.d"):
        assert found(Head(bearer(text.encode())), *ways) == ApiKey(text)


def test_the_order_decides_between_a_key_and_a_token() -> None:
    head = Head(key(b"abc"), bearer(b"a.b.c"))
    assert found(head, KEYS, TOKENS) == ApiKey("abc")
    assert found(head, TOKENS, KEYS) == Token("a.b.c")


def test_a_bearer_that_is_no_token_is_none_where_only_tokens_are_taken() -> None:
    assert found(Head(bearer(b"abc")), TOKENS) is None


@pytest.mark.parametrize("second", [b"abc", b"other"])
@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
def test_a_credential_field_that_comes_twice_is_refused_whatever_it_says(name: str, second: bytes) -> None:
    with pytest.raises(AmbiguousCredentials, match=name.lower()):
        found(Head((name, b"Bearer abc"), (name.upper(), second)))


def test_other_fields_may_come_twice() -> None:
    assert found(Head(("X-Other", b"a"), key(b"abc"), ("X-Other", b"b"))) == ApiKey("abc")


def test_a_certificate_is_believed_from_trusted_proxies_only() -> None:
    head = Head(("X-Client-Cert", SUM.encode()), key(b"abc"))
    assert found(head, CERTS, KEYS, trusted=True) == Certificate(SUM)
    assert found(head, CERTS, KEYS, trusted=False) == ApiKey("abc")
    assert found(Head(("X-Client-Cert", SUM.encode())), CERTS, trusted=False) is None


def test_an_empty_certificate_field_is_a_client_without_a_certificate() -> None:
    assert found(Head(("X-Client-Cert", b" "), key(b"abc")), CERTS, KEYS, trusted=True) == ApiKey("abc")


def test_a_certificate_that_cannot_be_read_does_not_fall_through() -> None:
    assert found(Head(("X-Client-Cert", b"nonsense"), key(b"abc")), CERTS, KEYS, trusted=True) == Certificate("")


def test_two_certificates_are_ambiguous_from_a_trusted_proxy_and_nothing_from_anybody_else() -> None:
    head = Head(("X-Client-Cert", SUM.encode()), ("X-Client-Cert", SUM.encode()))
    with pytest.raises(AmbiguousCredentials):
        found(head, CERTS, trusted=True)
    assert found(head, CERTS, trusted=False) is None


@pytest.mark.parametrize(
    "value",
    [
        SUM.encode(),
        SUM.upper().encode(),
        ":".join(SUM[i : i + 2] for i in range(0, 64, 2)).encode(),
    ],
)
def test_a_fingerprint_may_be_written_in_the_usual_ways(value: bytes) -> None:
    assert fingerprint(value) == SUM


@pytest.mark.parametrize(
    "value",
    [
        quote(PEM).encode(),  # nginx: $ssl_client_escaped_cert
        PEM.strip().replace(b"\n", b"\t"),  # nginx: $ssl_client_cert
        PEM.replace(b"\n", b" "),
    ],
)
def test_a_certificate_as_pem_is_known_by_the_hash_of_its_der_form(value: bytes) -> None:
    assert fingerprint(value) == hashlib.sha256(DER).hexdigest()


@pytest.mark.parametrize(
    "value",
    [b"", b"ab", b"g" * 64, SUM.encode() + b"0", b"-----BEGIN CERTIFICATE-----", PEM + PEM, quote(b"x" + PEM).encode(),
     PEM.replace(b"CERTIFICATE", b"PRIVATE KEY"), b"-----BEGIN CERTIFICATE-----\n====\n-----END CERTIFICATE-----\n"],
)  # fmt: skip
def test_anything_else_is_no_fingerprint(value: bytes) -> None:
    assert fingerprint(value) == ""


def test_it_says_what_is_wanted_and_in_which_fields() -> None:
    every = Credentials((CERTS, TOKENS, ApiKeyIdentity(sources=("X-Key", "bearer"))))
    assert every.wanted == "a client certificate, a token or an API key"
    assert (every.headers, every.proxied) == (["authorization", "x-key", "x-client-cert"], ["x-client-cert"])
    assert Credentials((KEYS,)).wanted == "an API key"
