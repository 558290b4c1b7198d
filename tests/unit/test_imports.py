"""Who may import whom, which packages are declared, who may read clock and environment; and that each of these checks can fail.

The table and the checks are in import_table.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.import_table import Project, dependency_faults, import_faults, key_faults, never_faults, surroundings_faults

ROOT = Path(__file__).parents[2]

# --- the house as it stands ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def product() -> Project:
    return Project(ROOT)


def listed(faults: list[str]) -> str:
    return "\n  ".join(["", *faults])


def test_every_chain_of_imports_stays_in_its_room(product: Project) -> None:
    faults = import_faults(product)
    assert not faults, listed(faults)


def test_a_gateway_never_reaches_billing_the_aggregator_postgres_or_stripe(product: Project) -> None:
    faults = never_faults(product)
    assert not faults, listed(faults)


def test_a_gateway_worker_that_is_loaded_holds_none_of_it_either() -> None:
    code = "import gateway.__main__, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {"billing", "aggregator", "weighbridge", "asyncpg", "stripe"} & set(loaded)


def test_every_declared_package_is_in_use_and_every_used_one_is_declared(product: Project) -> None:
    faults = dependency_faults(product, Project(ROOT, ("tests",)), (ROOT / "pyproject.toml").read_text())
    assert not faults, listed(faults)


def test_the_clock_and_the_environment_are_read_at_the_edge_only(product: Project) -> None:
    faults = surroundings_faults(product)
    assert not faults, listed(faults)


def test_redis_keys_are_spelled_in_one_file(product: Project) -> None:
    faults = key_faults(product)
    assert not faults, listed(faults)


# --- each check can fail ------------------------------------------------------------------------------------------------


def tree(root: Path, **files: str) -> Project:
    """A small project; `gateway__handler="…"` is gateway/handler.py."""
    for name, text in files.items():
        *folders, module = name.split("__")
        folder = root
        for part in folders:
            folder /= part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        (folder / f"{'__init__' if module == 'INIT' else module}.py").write_text(text)
    return Project(root)


BROKEN_IMPORTS = {
    "a package two steps away": (
        {"gateway__handler": "import metering.store.redis.link", "metering__store__redis__link": "import asyncpg"},
        "metering.store.redis.link → asyncpg: metering.store.redis may not use asyncpg",
    ),
    "the same, told for the room that pulls it in": (
        {"gateway__handler": "import metering.store.redis.link", "metering__store__redis__link": "import asyncpg"},
        "gateway.handler → metering.store.redis.link → asyncpg: gateway may not use asyncpg",
    ),
    "an import inside a function": (
        {"metering__model__money": "def f():\n    from orjson import dumps\n    return dumps"},
        "metering.model.money → orjson: metering.model may not use orjson",
    ),
    "a relative import out of the room": (
        {"billing__model__plan": "from ..services import orgs", "billing__services__orgs": ""},
        "billing.model.plan → billing.services: billing.model may not use billing.services",
    ),
    "a package's own __init__": (
        {"billing__services__orgs": "from billing.model import plan", "billing__model__plan": "", "billing__model__INIT": "import stripe"},
        "billing.services.orgs → billing.model → stripe: billing.services may not use stripe",
    ),
    "import_module": (
        {"billing__services__orgs": "import importlib\nimportlib.import_module('billing.store.books')", "billing__store__books": ""},
        "billing.services.orgs → billing.store: billing.services may not use billing.store",
    ),
    "a gateway file that knows plans": (
        {"config__gateway": "from .plans import x", "config__plans": "from billing.model import plan", "billing__model__plan": ""},
        "config.gateway → config.plans → billing.model: config.gateway may not use billing.model",
    ),
    "through somebody's wiring": (
        {"gateway__handler": "from . import wiring", "gateway__wiring": "import asyncpg"},
        "gateway.handler → gateway.wiring → asyncpg: gateway may not use asyncpg",
    ),
}


@pytest.mark.parametrize("name", BROKEN_IMPORTS)
def test_a_chain_out_of_its_room_is_found_and_named(tmp_path: Path, name: str) -> None:
    files, fault = BROKEN_IMPORTS[name]
    assert fault in import_faults(tree(tmp_path, **files))


def test_a_sound_tree_has_no_fault(tmp_path: Path) -> None:
    project = tree(
        tmp_path,
        gateway__handler="import aiohttp, asyncio\nfrom metering.store.redis import link\nfrom config.gateway import Route",
        gateway__wiring="import metering.store.redis.link",
        metering__store__redis__link="import hiredis\nfrom metering.model import keys",
        metering__model__keys="import binascii",
        config__gateway="import yaml",
        weighbridge__up="import asyncpg, gateway.wiring, billing.wiring",
        billing__wiring="import asyncpg",
    )
    assert [*import_faults(project), *never_faults(project), *surroundings_faults(project), *key_faults(project)] == []


def test_a_computed_import_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="whose name is computed"):
        tree(tmp_path, aggregator__flush="import importlib\nimportlib.import_module(f'aggregator.{1}')")


def test_a_gateways_wiring_is_held_to_what_never_may_be_in_its_process(tmp_path: Path) -> None:
    plans = {"config__plans": "import billing.model.plan", "billing__model__plan": ""}
    project = tree(tmp_path, gateway__wiring="import config.load", config__load="import config.plans", **plans)
    assert never_faults(project) == ["gateway.wiring → config.load → config.plans → billing: gateway never reaches billing"]


def test_stripe_has_one_importer(tmp_path: Path) -> None:
    assert never_faults(tree(tmp_path, weighbridge__up="import stripe")) == ["weighbridge.up → stripe: only billing.stripe imports stripe"]


def test_an_unused_and_an_undeclared_package_are_found(tmp_path: Path) -> None:
    declared = '[project]\ndependencies = ["aiohttp>=3", "orjson"]\n[dependency-groups]\ndev = ["hypothesis", "ruff"]'
    product = tree(tmp_path / "a", gateway__handler="import aiohttp, yaml")
    tests = tree(tmp_path / "b", tests__x="")
    assert dependency_faults(product, tests, declared) == [
        "orjson is declared and the product never imports it",
        "hypothesis is declared and the tests never imports it",
        "gateway.handler imports yaml, which pyproject.toml does not declare",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import time\nx = time.time()", "gateway.handler:2 reads the clock (time.time)"),
        ("from time import time_ns as now\nx = now()", "gateway.handler:2 reads the clock (time.time_ns)"),
        ("from datetime import datetime\nx = datetime.now()", "gateway.handler:2 reads the clock (datetime.datetime.now)"),
        ("import datetime as d\nx = d.date.today()", "gateway.handler:2 reads the clock (datetime.date.today)"),
        ("import os\nx = os.environ['HOME']", "gateway.handler:2 reads the environment (os.environ)"),
        ("from os import getenv\nx = getenv('HOME')", "gateway.handler:2 reads the environment (os.getenv)"),
    ],
)
def test_reading_the_surroundings_elsewhere_is_found(tmp_path: Path, text: str, fault: str) -> None:
    assert surroundings_faults(tree(tmp_path, gateway__handler=text, gateway__wiring=text, metering__model__clock="")) == [fault]


@pytest.mark.parametrize("text", ['key = "wb:changed"', 'key = f"wb:{{{1}}}:u"', "def f():\n    return 'wb:' + str(1)"])
def test_a_redis_key_spelled_elsewhere_is_found(tmp_path: Path, text: str) -> None:
    faults = key_faults(tree(tmp_path, gateway__handler='"""Reads wb:changed."""\n' + text, metering__model__keys=text))
    assert len(faults) == 1
    assert faults[0].startswith("gateway.handler:")
