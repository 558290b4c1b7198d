"""Tokens from YAML to Postgres: the examples of docs/units.md in front of services that speak like language models."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.rules.parties import Call, Client, Origin, chunked
from tests.integration.rules.rig import listening

from .conftest import House, Org, housed

pytestmark = pytest.mark.long

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "units.md").read_text()
GATEWAY = """
upstreams:
  app: {{targets: ["http://127.0.0.1:9000"]}}
  model: {{targets: ["http://127.0.0.1:{port}"]}}
defaults:
  on_store_failure: closed
  charge: {{api: 1}}
routes:
{documented}
- path: /*
"""
METERS = """
meters:
  api: {unit: request}
  tokens: {unit: token}
  input_tokens: {unit: token}
  output_tokens: {unit: token}
"""
PLANS = """
plans:
  free:
    price: {usd: "0"}
    quotas: [{meter: tokens, limit: 10_000, mode: hard}]
  wide:
    price: {usd: "0"}
    quotas: [{meter: tokens, limit: 1_000_000_000, mode: hard}]
"""

# as OpenAI's chat completions and Anthropic's messages have it; the texts are ours
CHAT = b'{"object":"chat.completion","choices":[{"index":0}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}'
CHAT_STREAM = (
    b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"Hel"}}],"usage":null}\n\n',
    b'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":25,"total_tokens":34}}\n\n',
    b"data: [DONE]\n\n",
)
RESPONSES_STREAM = (
    b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n',
    b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":3,"total_tokens":8}}}\n\n',
)
MESSAGES = b'{"type":"message","content":[],"usage":{"input_tokens":25,"output_tokens":15}}'
MESSAGES_STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hel"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
ANSWERS: dict[bytes, bytes | tuple[bytes, ...]] = {
    b"/v1/chat/completions": CHAT, b"/v1/chat/completions?stream": CHAT_STREAM, b"/v1/responses?stream": RESPONSES_STREAM,
    b"/v1/messages": MESSAGES, b"/v1/messages?stream": MESSAGES_STREAM,
}  # fmt: skip


async def model(call: Call) -> None:
    said = ANSWERS.get(call.target)
    if said is None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n: \r\n")
        await call.gone()
    elif isinstance(said, bytes):
        call.ok(said, b"Content-Type: application/json")
    else:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*said))


def documented_routes() -> str:
    """The routes of the chapter on language models, sent to `model`."""
    chapter = DOCUMENTED[DOCUMENTED.index("## Language models") :]
    blocks = re.findall(r"```yaml\n(.*?)```", chapter, re.DOTALL)
    return re.sub(r"(?m)^- path: (\S+)$", r"- path: \1\n  upstream: model", "".join(blocks))


@pytest.fixture(scope="module")
def service() -> Iterator[socket.socket]:
    sock = listening()
    yield sock
    sock.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, service: socket.socket) -> Iterator[House]:
    gateway = GATEWAY.format(port=service.getsockname()[1], documented=documented_routes())
    with housed(tmp_path_factory, gateway, METERS, PLANS) as running:
        yield running


@pytest.fixture
async def origin(service: socket.socket) -> AsyncIterator[Origin]:
    behind = Origin(service, answer=model)
    await behind.start()
    yield behind
    await behind.stop()
    assert not behind.faults, behind.faults


async def connect(house: House) -> Client:
    host, port = house.gateway.removeprefix("http://").split(":")
    return Client(*await asyncio.open_connection(host, int(port)))


def request(target: str, org: Org) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {org.api_key}\r\n\r\n".encode()


async def ask(house: House, target: str, org: Org) -> tuple[int, bytes]:
    client = await connect(house)
    answered = await client.ask(request(target, org))
    client.leave()
    return answered.status, answered.body


async def settled(house: House, org: Org, meter: str) -> int:
    """What Postgres has, which the counter must agree with."""
    await house.flush()
    charged, _ = await house.ledger(org, meter)
    assert await house.counter(org, meter) == charged
    return charged


async def test_the_documented_examples_charge_what_models_say(house: House, origin: Origin) -> None:
    org = await house.org("Reader", "wide")
    for target, said in ANSWERS.items():
        status, body = await ask(house, target.decode(), org)
        assert (status, body) == (200, said if isinstance(said, bytes) else b"".join(said))
    assert await settled(house, org, "tokens") == 21 + 34 + 8
    assert await settled(house, org, "input_tokens") == 25 + 25
    assert await settled(house, org, "output_tokens") == 15 + 15
    assert await settled(house, org, "api") == len(ANSWERS)


async def test_explain_and_usage_tell_of_reserve_and_truth(house: House, origin: Origin) -> None:
    org = await house.org("Teller", "free")
    story = await house.run("explain", "--key", org.api_key, "GET", "/v1/chat/completions")
    assert story["charge"]["tokens"] == "4,000 reserved, settled by sse:/usage/total_tokens or json:/usage/total_tokens"
    row = next(row for row in story["limits"] if row["meter"] == "tokens")
    assert (row["cost"], row["limit"], row["used"]) == (4_000, 10_000, 0)
    assert (await ask(house, "/v1/chat/completions?stream", org))[0] == 200
    await until_counted(house, org, 34)
    shown = await asyncio.to_thread(house.cli, "usage", "--org", org.slug)
    assert re.search(r"(?i)tokens\b.*\b34\b", shown.stdout), shown.stdout


async def test_reserves_under_way_hold_a_plans_quota_and_a_killed_worker_gives_them_back(house: House, origin: Origin) -> None:
    org = await house.org("Holder", "free")
    held = [await connect(house) for _ in range(2)]
    for client in held:
        client.send(request("/v1/chat/completions?hang", org))
        assert (await client.head()).status == 200
    status, body = await ask(house, "/v1/chat/completions", org)
    details = json.loads(body)["error"]["details"]
    assert (status, details["service"], details["used"], details["needed"]) == (429, "tokens", 8_000, 4_000)
    explained = await house.run("explain", "--key", org.api_key, "GET", "/v1/chat/completions")
    assert explained["verdict"].startswith("429: tokens-period")
    for pid in house.pids("worker"):
        os.kill(pid, signal.SIGKILL)
    for client in held:
        with contextlib.suppress(ConnectionError):
            await client.rest()
    await until_counted(house, org, 0)
    await house.flush()
    assert await house.ledger(org, "tokens") == (0, 8_000)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if (await ask(house, "/v1/chat/completions", org))[0] == 200:
                    break
            await asyncio.sleep(0.1)
    assert await settled(house, org, "tokens") == 21


async def until_counted(house: House, org: Org, tokens: int) -> None:
    async with asyncio.timeout(20):
        while await house.counter(org, "tokens") != tokens:
            await asyncio.sleep(0.05)
