"""Two workers in front of a scripted service whose answers say how many tokens they took; a fresh organization for every test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.rules.parties import Origin, Way, serving
from tests.integration.rules.rig import Payer, Rig, start_rig, way_to

METERS = "  tokens: {unit: token}\n  pages: {unit: page}\n"
QUOTAS = """
      - {meter: tokens, limit: 10_000, window: period, mode: hard}
      - {meter: pages, limit: 1_000_000, window: period, mode: soft}
"""
BODY = "body:/usage/total_tokens"
ROUTES = f"""
  - {{path: /chat, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}"}}}}}}
  - {{path: /small, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}", within: 1 kB}}}}}}
  - {{path: /free, charge: {{tokens: {{settle: "{BODY}"}}}}}}
  - {{path: /lenient, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}", otherwise: 7}}}}}}
  - {{path: /kept, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}"}}}}, return_on: none, timeouts: {{connect: 1s, idle: 300ms}}}}
  - {{path: /slow, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}"}}}}, timeouts: {{connect: 1s, idle: 300ms}}}}
  - {{path: /silent-units, charge: {{tokens: {{reserve: 2_000, settle: "{BODY}"}}}}, upstream: gone}}
  - path: /cut
    charge: {{tokens: {{reserve: 2_000, settle: "{BODY}"}}}}
    quotas: [{{meter: bandwidth, limit: 1_000 B, window: day, mode: hard, at_limit: cut}}]
  - {{path: /fields, charge: {{tokens: {{reserve: 5, settle: "header:X-Tokens"}}, pages: "trailer:X-Pages"}}}}
"""


def start_units(folder, **environ: str) -> Rig:
    return start_rig(folder, routes=ROUTES, meters=METERS, quotas=QUOTAS, **{"WEIGHBRIDGE_WORKERS": "2", **environ})


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = start_units(tmp_path_factory.mktemp("units"))
    yield running
    running.stop()


@pytest.fixture
async def origin(rig: Rig) -> AsyncIterator[Origin]:
    async with serving(rig.service) as found:
        yield found


@pytest.fixture
async def way(rig: Rig) -> AsyncIterator[Way]:
    async with way_to(rig, "direct") as found:
        yield found


@pytest.fixture
def payer(rig: Rig) -> Payer:
    return rig.payer()
