"""`identity` and `scopes`: what they become, and what is said of what will not do."""

import pytest

from config.gateway import ApiKeyIdentity, ClientCertIdentity, JwtIdentity
from config.gateway_read import parse_gateway
from tests.unit.config.samples import GATEWAY, files


def identity_of(words: str) -> tuple[object, ...]:
    parsed = parse_gateway(files(gateway=f"identity:\n{words}\n{GATEWAY}"))
    assert parsed.config is not None, parsed.faults
    return parsed.config.identity


def faults_of(words: str) -> list[tuple[str, str]]:
    return [(fault.path, fault.message) for fault in parse_gateway(files(gateway=f"identity:\n{words}\n{GATEWAY}")).faults]


def test_ways_come_in_their_order_with_their_defaults_filled_in() -> None:
    found = identity_of(
        "  - client_cert: {header: X-Client-Cert}\n"
        '  - jwt: {issuer: "https://id.example.com/", audience: api}\n'
        "  - api_key: {from: [bearer]}"
    )
    assert found == (
        ClientCertIdentity(header="X-Client-Cert"),
        JwtIdentity(
            issuer="https://id.example.com/",
            audience=("api",),
            org_claim="org_id",
            jwks_url="https://id.example.com/.well-known/jwks.json",
            algorithms=("RS256", "ES256"),
        ),
        ApiKeyIdentity(sources=("bearer",)),
    )


def test_every_word_of_a_token_is_read() -> None:
    (found,) = identity_of(
        "  - jwt: {issuer: me, audience: [a, b], org_claim: 'https://x/org', jwks_url: 'http://127.0.0.1:9/k', algorithms: [PS512, EdDSA],"
        " skew: 2m, tenant_claim: shop, scopes_claim: permissions}"
    )
    assert found == JwtIdentity(
        issuer="me",
        audience=("a", "b"),
        org_claim="https://x/org",
        jwks_url="http://127.0.0.1:9/k",
        algorithms=("PS512", "EdDSA"),
        skew_s=120.0,
        tenant_claim="shop",
        scopes_claim="permissions",
    )


def test_a_secret_is_named_by_its_variable_and_fetches_nothing() -> None:
    (found,) = identity_of("  - jwt: {issuer: me, audience: api, secret_env: JWT_SECRET, skew: 0s}")
    assert found == JwtIdentity(issuer="me", audience=("api",), jwks_url=None, algorithms=("HS256",), secret_env="JWT_SECRET", skew_s=0.0)


GOOD = 'issuer: "https://id.example.com/", audience: api'


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        ("  - jwt: {audience: api}", "jwt", "`issuer` is missing"),
        ('  - jwt: {issuer: "https://x/"}', "jwt", "`audience` is missing"),
        ("  - jwt: {issuer: me, audience: api}", "jwt.issuer", "write jwks_url"),
        ('  - jwt: {issuer: "http://id.example.com/", audience: api}', "jwt.issuer", "write jwks_url"),
        (f'  - jwt: {{{GOOD}, jwks_url: "http://id.example.com/k"}}', "jwt.jwks_url", "plain http"),
        (f'  - jwt: {{{GOOD}, jwks_url: "file:///etc/passwd"}}', "jwt.jwks_url", "no address of keys"),
        (f'  - jwt: {{{GOOD}, jwks_url: "https://u:p@x/k"}}', "jwt.jwks_url", "no address of keys"),
        (f"  - jwt: {{{GOOD}, algorithms: [none]}}", "jwt.algorithms[0]", "proves nothing"),
        (f"  - jwt: {{{GOOD}, algorithms: [rs256]}}", "jwt.algorithms[0]", "none of"),
        (f"  - jwt: {{{GOOD}, algorithms: []}}", "jwt.algorithms", "at least one"),
        (f"  - jwt: {{{GOOD}, algorithms: [RS256, HS256]}}", "jwt.algorithms", "never with a public key"),
        (f"  - jwt: {{{GOOD}, secret_env: S, algorithms: [RS256]}}", "jwt.algorithms", "signed with a secret"),
        (f'  - jwt: {{{GOOD}, secret_env: S, jwks_url: "https://x/k"}}', "jwt.jwks_url", "do not go together"),
        (f"  - jwt: {{{GOOD}, secret_env: 'the secret itself'}}", "jwt.secret_env", "environment variable"),
        (f"  - jwt: {{{GOOD}, secret: abc}}", "jwt.secret", "stands in no file"),
        (f"  - jwt: {{{GOOD}, skew: 1h}}", "jwt.skew", "0s to 5m"),
        (f"  - jwt: {{{GOOD}, audiense: x}}", "jwt.audiense", "did you mean `audience`"),
        ("  - client_cert: {}", "client_cert", "`header` is missing"),
        ("  - client_cert: {header: 'two words'}", "client_cert.header", "no header name"),
        ("  - mtls: {}", "mtls", "write client_cert"),
        ("  - basic: {}", "basic", "not available"),
        ("  - {}", "", "say how callers are known"),
        (f"  - {{api_key: {{}}, jwt: {{{GOOD}}}}}", "jwt", "one way an item"),
        ("  - api_key: {from: ['query:key']}", "api_key.from[0]", "not available"),
    ],
)
def test_what_will_not_do_is_named_with_what_to_do(words: str, path: str, said: str) -> None:
    found = faults_of(words)
    assert [each for each, _ in found] == [f"identity[0].{path}".rstrip(".")], found
    assert said in found[0][1]


def test_two_ways_may_not_contradict_each_other() -> None:
    assert "already" in faults_of(f"  - jwt: {{{GOOD}}}\n  - jwt: {{{GOOD}, org_claim: x}}")[0][1]
    both = "  - api_key: {from: [X-Thing]}\n  - client_cert: {header: x-thing}"
    assert "holds an API key already" in faults_of(both)[0][1]


def routes(words: str) -> str:
    return GATEWAY.replace("routes:\n", f"routes:\n{words}")


def test_scopes_of_a_route_stand_in_place_of_the_defaults() -> None:
    written = "  - {path: /a, scopes: [reports, 'x:y']}\n  - {path: /b, scopes: []}\n  - {path: /c}\n"
    text = routes(written).replace("defaults:\n", "defaults:\n  scopes: [read]\n")
    parsed = parse_gateway(files(gateway=text))
    assert parsed.config is not None, parsed.faults
    found = {route.path: route.scopes for route in parsed.config.routes}
    assert (found["/a"], found["/b"], found["/c"]) == ({"reports", "x:y"}, frozenset(), {"read"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("scopes: ['two words']", "no scope"),
        ("scopes: reports", "a list"),
        ("scopes: [reports], auth: none, charge: none", "knows no caller"),
    ],
)
def test_a_scope_that_could_not_be_asked_for_is_a_fault(words: str, said: str) -> None:
    (fault,) = parse_gateway(files(gateway=routes(f"  - {{path: /a, {words}}}\n"))).faults
    assert said in fault.message
