"""A whole run with a secret in every place that takes one: none of them is in a log, an error, a metric, a listing or a file of the run.

And the doors of control as a user meets them: tokens, the audit log, what the database lets a request see.
"""

import base64
import hashlib
import hmac
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import System, get

WORD = "hunter2" * 6
GIVEN = {
    "STRIPE_WEBHOOK_SECRET": f"whsec_{WORD}a", "WEIGHBRIDGE_SIGNING_SECRET": f"signing{WORD}", "JWT_SECRET": f"jwt{WORD}",
    "SERVICE_TOKEN": f"service{WORD}",
}  # fmt: skip
MAY_HOLD = {"ready.json", "demo.env"}  # 0600, for who started it: the keys of the demo organizations, where the database is


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("secrets")
    running = System(home)
    for name, value in GIVEN.items():
        (home / name).write_text(value + "\n")
        running.environ[f"{name}_FILE"] = str(home / name)
    gateway = running.config / "gateway.yaml"
    identity = "identity:\n  - jwt: {issuer: us, audience: api, secret_env: JWT_SECRET, org_claim: org}\n"
    route = 'routes:\n  - {path: /signed, request_headers: {add: {Authorization: "Bearer ${SERVICE_TOKEN}"}}}\n'
    gateway.write_text(gateway.read_text().replace("identity:\n", identity, 1).replace("routes:\n", route, 1))
    running.start()
    yield running
    assert running.interrupt() == 0, running.errors()


def signed(org: str, secret: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'iss': 'us', 'aud': 'api', 'org': org, 'exp': 4_000_000_000})}"
    mac = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def bearer(url: str, text: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {text}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.long
def test_no_secret_of_a_run_is_said_or_left_lying_anywhere(system: System) -> None:
    said: list[str] = []
    secrets = set(GIVEN.values()) | {org["api_key"] for org in system.ready["orgs"]}

    def run(*words: str) -> str:
        done = system.cli(*words)
        said.append(done.stdout + done.stderr)
        return done.stdout

    org = system.cli_json("org", "create", "Acme\x1b[2J\nNobody", "--plan", "free")
    token = system.cli_json("token", "create", "--org", org["slug"], "--scope", "admin", "--label", "=cmd()")
    again = system.cli_json("key", "rotate", org["api_key"], "--overlap", "1h")
    secrets |= {org["api_key"], token["token"], again["api_key"]}
    jwt = signed(org["slug"], GIVEN["JWT_SECRET"])
    secrets.add(jwt)
    wrong = signed(org["slug"], "x" * 40)
    assert [bearer(system.ready["gateway"] + "/hello", text)[0] for text in (jwt, wrong)] == [200, 401]
    assert bearer(system.ready["gateway"] + "/signed", again["api_key"])[0] == 200
    usage = system.ready["control"] + "/api/v1/billing/usage"
    assert bearer(usage, token["token"])[0] == 200
    assert bearer(usage + "?org=demo-pro", token["token"])[0] == 404
    for text in (token["token"][:-1], "wbt_nothing", wrong):
        status, body = bearer(usage, text)
        said.append(body.decode())
        assert status == 401
    run("token", "list")
    run("key", "list", org["slug"])
    run("org", "list")
    run("org", "show", org["slug"])
    run("token", "revoke", token["token"])
    run("key", "revoke", again["api_key"])
    run("key", "revoke", again["api_key"])
    run("explain", "--key", again["api_key"], "GET", "/signed")
    audit = run("audit")
    assert {"org.created", "token.created", "token.revoked", "key.revoked", "config.applied"} <= set(audit.split())
    assert "\x1b" not in audit
    run("audit", "--format", "csv")
    gateway = system.config / "gateway.yaml"
    good = gateway.read_text()
    gateway.write_text(good + f"# {GIVEN['STRIPE_WEBHOOK_SECRET']}\nodd: sk_live_{WORD}\n")
    run("config", "check")
    run("config", "diff")
    system.until(lambda: "config" in system.errors() and "stands in no file" in system.errors(), "the refusal")
    gateway.write_text(good)
    said += [get(system.ready["metrics"])[2].decode(), get(system.ready["control"] + "/metrics")[2].decode()]
    said += [get(system.ready["control"] + "/readyz")[2].decode(), "\n".join(system.output()), system.errors()]
    secrets |= {f"sk_live_{WORD}", WORD}
    for secret in secrets:
        assert [text for text in said if secret in text] == [], "a secret was said"
    assert list(lying_about(system.data, secrets)) == []


def lying_about(folder: Path, secrets: set[str]) -> Iterator[str]:
    """Files of the run that hold a secret, and those that hold keys and may be read by others."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        try:
            content = path.read_bytes()
        except OSError:  # a server's own, gone in the meantime
            continue
        if path.name in MAY_HOLD:
            if path.stat().st_mode & 0o077:
                yield f"{path} is open to others"
        elif any(secret.encode() in content for secret in secrets):
            yield str(path)
