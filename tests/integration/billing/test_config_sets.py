"""The files that were applied are kept as they were written, a set each time they are others. Real Postgres."""

import json
from pathlib import Path
from typing import Any

from config.load import load_good, read_set
from config.settings import Settings
from metering.model.clock import SystemClock
from tests.integration.billing.conftest import Desk
from tests.integration.billing.test_control import folder, running, settings, until  # noqa: F401 — two are fixtures
from weighbridge import database as prepared


async def sets(desk: Desk) -> list[tuple[str, dict[str, Any]]]:
    rows = await desk.pool.fetch("SELECT version, files FROM billing.config_sets ORDER BY id")
    return [(row["version"], json.loads(row["files"])) for row in rows]


async def test_control_keeps_each_set_that_it_applies(desk: Desk, settings: Settings, folder: Path) -> None:  # noqa: F811
    first = dict(read_set(folder).texts)
    async with running(settings) as control:
        version = control.configuration.version
        (folder / "gateway.yaml").write_text(first["gateway.yaml"] + "# a remark: ½ €\n")
        await until(lambda: control.configuration.version != version)
        second = control.configuration.version
    async with running(settings):
        kept = await sets(desk)
    assert kept == [(version, first), (second, first | {"gateway.yaml": first["gateway.yaml"] + "# a remark: ½ €\n"})]


async def test_a_rehearsal_and_a_faulty_set_are_not_kept(desk: Desk, settings: Settings, folder: Path) -> None:  # noqa: F811
    config = load_good(read_set(folder))
    async with prepared.billing_over(settings, config, desk.pool, settings.redis_url or "", SystemClock()) as billing:
        await prepared.apply(billing, config, dry_run=True)
        assert await sets(desk) == []
        await prepared.apply(billing, config)
    assert [version for version, _ in await sets(desk)] == [config.version]
    async with running(settings) as control:
        (folder / "plans.yaml").write_text("plans: [")
        await until(lambda: bool(control.configuration.faults))
    assert [version for version, _ in await sets(desk)] == [config.version]
    assert await prepared.files_in_force(desk.pool) == config.texts
