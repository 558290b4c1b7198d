"""A worker that is handed another configuration: it takes it whole, or goes on with what it has."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from config.settings import Settings
from gateway import wiring
from gateway.tokens import InvalidToken, Tokens
from gateway.wiring import Start, Worker
from tests.unit.config.samples import GATEWAY, files, gateway_with
from tests.unit.gateway import issuers

FORMER, PRESENT = "f" * 32, "p" * 32
NAMES_A_SECRET = gateway_with(
    "  - {path: /*, request_headers: {add: {X-Upstream-Key: '${UPSTREAM_KEY}'}}}", upstreams='  app: {targets: ["http://127.0.0.1:9001"]}'
)
TAKES_TOKENS = GATEWAY + f"identity:\n  - jwt: {{issuer: {issuers.URL}, audience: api, secret_env: TOKEN_SECRET, algorithms: [HS256]}}\n"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    """A worker that was put together and not started; `secrets` are its environment's."""
    monkeypatch.setattr(wiring, "REGISTRY", CollectorRegistry())

    def made(secrets: dict[str, str], gateway: str = GATEWAY) -> Worker:
        start = Start(socket_fd=-1, control_fd=None, slot=0, workers=1, data_dir=tmp_path, config=written(tmp_path, gateway))
        return Worker(start, Settings.load({"REDIS_URL": "redis://127.0.0.1:1"}, bills=False), secrets.get)

    return made


def written(folder: Path, gateway: str) -> Path:
    path = folder / "handed.json"
    path.write_text(files(gateway).to_json())
    return path


def tokens_of(worker: Worker) -> Tokens:
    found = worker._handler.world.identities._tokens
    assert found is not None
    return found


async def test_a_configuration_that_names_a_secret_which_is_not_set_is_refused_and_changes_nothing(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = make({})
    before = worker._handler.world
    told = worker._reconfigure(written(tmp_path, NAMES_A_SECRET))
    assert (told["ok"], "UPSTREAM_KEY is not set" in told["error"]) == (False, True)
    assert worker._handler.world is before
    assert [target.url for target in worker._pool.targets("app")] == ["http://127.0.0.1:9000"]


async def test_where_the_secret_is_set_it_is_taken(make: Callable[..., Worker], tmp_path: Path) -> None:
    worker = make({"UPSTREAM_KEY": "hush"})
    assert worker._reconfigure(written(tmp_path, NAMES_A_SECRET))["ok"]
    assert [target.url for target in worker._pool.targets("app")] == ["http://127.0.0.1:9001"]


async def test_a_configuration_taken_again_takes_a_tokens_secret_that_was_changed_meanwhile(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    secrets = {"TOKEN_SECRET": FORMER}
    worker = make(secrets, TAKES_TOKENS)
    signed = {secret: issuers.token(issuers.claims(worker.clock.now_ms()), secret, "HS256") for secret in (FORMER, PRESENT)}
    assert (await tokens_of(worker)._verify("one", signed[FORMER], "192.0.2.1")).org == "acme"
    secrets["TOKEN_SECRET"] = PRESENT
    assert worker._reconfigure(written(tmp_path, TAKES_TOKENS))["ok"]
    assert (await tokens_of(worker)._verify("two", signed[PRESENT], "192.0.2.1")).org == "acme"
    with pytest.raises(InvalidToken):
        await tokens_of(worker)._verify("one", signed[FORMER], "192.0.2.1")


async def test_what_was_verified_stays_so_where_neither_issuers_nor_secrets_changed(make: Callable[..., Worker], tmp_path: Path) -> None:
    worker = make({"TOKEN_SECRET": FORMER}, TAKES_TOKENS)
    before = tokens_of(worker)
    assert worker._reconfigure(written(tmp_path, TAKES_TOKENS.replace("/health,", "/well,")))["ok"]
    assert tokens_of(worker) is before
