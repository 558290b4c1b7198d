"""Secrets have no place in the files: each is refused with a sentence, and repeated in no message."""

import pytest

from config.faults import Report
from config.files import FileSet
from config.filled import filled
from config.load import parse
from config.secret_words import found_in, without_secrets
from metering.model.errors import ConfigFaulty

from .samples import files, gateway_with

FILES = files().texts

LETTERS = "Zq8" * 12
SECRETS = {
    "a Stripe key": f"sk_live_{LETTERS}",
    "the secret of a Stripe webhook": f"whsec_{LETTERS}",
    "an API key": f"wbk_live_{LETTERS}",
    "a token of the control API": f"wbt_{LETTERS}",
    "a private key": "-----BEGIN EC PRIVATE KEY-----",
    "a signed token": f"eyJhbGciOi.{LETTERS}.{LETTERS}",
    "an address with a password in it": f"postgresql://ann:{LETTERS}@db/wb",
    "a cloud or repository key": f"ghp_{LETTERS}",
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_a_secret_is_known_by_its_form_and_left_out(kind: str, secret: str) -> None:
    assert list(found_in(f"a: 1\nb: {secret} # c")) == [(2, kind)]
    assert LETTERS not in without_secrets(f"b: {secret}") or kind in ("a private key",)


@pytest.mark.parametrize(
    "text", ["sk_test_…", "STRIPE_API_KEY=sk_test_", "https://a.example/b:c@d", "whsec_", "redis://host:6379/0", "a: b@c"]
)
def test_what_only_looks_like_one_passes(text: str) -> None:
    assert list(found_in(text)) == []


@pytest.mark.parametrize("file", ["gateway.yaml", "meters.yaml", "plans.yaml"])
@pytest.mark.parametrize("secret", SECRETS.values())
def test_a_file_with_a_secret_anywhere_in_it_is_refused_in_words_without_it(file: str, secret: str) -> None:
    for line in (f"# {secret}\n", f'"{secret}": 1\n', f'odd: "{secret}"\n'):
        parsed = parse(FileSet(texts={**FILES, file: FILES[file] + "\n" + line}))
        said = "\n".join(map(str, parsed.faults))
        assert parsed.config is None
        assert "stands in no file" in said
        assert (secret in said, LETTERS in said) == (False, False)


def test_a_message_that_quotes_a_value_leaves_secrets_out() -> None:
    report = Report("gateway.yaml")
    report.at(1, f"routes.{SECRETS['an API key']}", f"`{SECRETS['a Stripe key']}` is no path")
    assert LETTERS not in str(report.faults[0])


REFUSED = ["Authorization", "authorization", "Cookie", "X-Api-Key", "X-Service-Token", "X-Secret", "X-Password", "Proxy-Authorization"]


def edited(line: str) -> FileSet:
    return files(gateway=gateway_with(f"  - {{path: /edited, {line}}}"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_credential_for_the_service_is_named_never_written(name: str) -> None:
    said = "\n".join(map(str, parse(edited(f"request_headers: {{add: {{{name}: hunter2}}}}")).faults))
    assert "${" in said
    assert "hunter2" not in said
    named = parse(edited(f'request_headers: {{add: {{{name}: "Bearer ${{SERVICE_TOKEN}}"}}}}'))
    assert named.faults == []
    assert named.config is not None
    route = next(r for r in named.config.gateway.routes if r.path == "/edited")
    assert dict(route.request_headers.add) == {name: "Bearer ${SERVICE_TOKEN}"}


@pytest.mark.parametrize(
    "line",
    ["request_headers: {add: {X-Tier: gold}}", "response_headers: {add: {X-Token-Budget: 5}}", "request_headers: {remove: [Cookie]}"],
)
def test_what_is_no_credential_may_be_written(line: str) -> None:
    assert parse(edited(line)).faults == []


def test_a_response_takes_no_value_from_the_environment() -> None:
    said = "\n".join(map(str, parse(edited('response_headers: {add: {X-A: "${SECRET}"}}')).faults))
    assert "request_headers" in said


def test_a_header_is_filled_from_the_environment_where_it_is_sent() -> None:
    config = parse(edited('request_headers: {add: {Authorization: "Basic ${NAME}:${WORD}", X-A: b}}')).good().gateway
    (route,) = filled(config, {"NAME": "ann", "WORD": "hunter2"}.get).routes
    assert dict(route.request_headers.add) == {"Authorization": "Basic ann:hunter2", "X-A": "b"}
    for values in ({"NAME": "ann"}, {"NAME": "ann", "WORD": "hunter2\r\nX-Admin: 1"}):
        with pytest.raises(ConfigFaulty, match="WORD") as refused:
            filled(config, values.get)
        assert "hunter2" not in str(refused.value)
