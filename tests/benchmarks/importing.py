"""Taking a file of usage in, beside PostgreSQL's own \\copy of the same file.

`python -m tests.benchmarks.importing [--rows N] [--save FILE]` writes the file, copies it into a bare table of its columns and into one
with indexes like the ledger's, imports it, and prints how long each took and how much this process grew. The import checks every row,
works out its period, adds up hours and periods, and moves counters; \\copy does none of it. Wanted: at least 0.3 of \\copy's pace, and
memory that does not grow with the file.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from billing.model.plan import PlanSpec
from billing.services.importing import Progress
from billing.services.use_cases import Billing
from billing.wiring import open_billing
from metering.model.clock import SystemClock
from metering.model.meter import Meter
from metering.store.migrate import migrate
from metering.store.postgres import SERVICE, open_pool
from weighbridge.embedded import start_postgres, start_valkey

METERS = {"api": Meter(name="api", unit="request"), "bandwidth": Meter(name="bandwidth", unit="byte", show="GB", show_size=10**9)}
BARE = "CREATE TABLE bare (at timestamptz, service text, quantity numeric, metadata jsonb)"
LIKE_THE_LEDGER = """
CREATE TABLE indexed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, service text, quantity numeric, metadata jsonb);
CREATE INDEX ON indexed (service, at);
"""
_PIECE = 256 * 1024


def write(path: Path, rows: int) -> None:
    """As RFC 4180 quotes it, so that \\copy reads it too."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
    with path.open("w", encoding="utf-8") as file:
        file.write("timestamp,service,quantity,metadata\n")
        for n in range(rows):
            at = (start + timedelta(seconds=n * 1_700_000 // rows)).strftime("%Y-%m-%dT%H:%M:%SZ")
            if n % 4:
                file.write(f'{at},api,{1 + n % 1000},"{{""endpoint"":""/v1/items/{n % 5000}"",""user_id"":""{n % 977}""}}"\n')
            else:
                file.write(f"{at},bandwidth,0.{n % 999 + 1:03d},\n")


async def copied(connection: asyncpg.Connection, table: str, path: Path) -> float:
    began = time.perf_counter()
    await connection.copy_to_table(
        table, source=path, columns=["at", "service", "quantity", "metadata"], format="csv", header=True, timeout=600
    )
    return time.perf_counter() - began


async def imported(billing: Billing, org_id: str, path: Path) -> tuple[float, Progress]:
    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    began, last = time.perf_counter(), Progress()
    async for each in billing.importing.run(org_id, pieces()):
        if isinstance(each, Progress):
            last = each
    return time.perf_counter() - began, last


async def measure(url: str, store: str, path: Path, rows: int) -> dict[str, float]:
    await migrate(url)
    pool, client = await open_pool(url, application="bench", max_size=4, role=SERVICE), Redis.from_url(store)
    billing = open_billing(pool, client, SystemClock(), meters=METERS)
    await billing.plans.apply({"free": PlanSpec(name="free", title="Free")}, {})
    org = (await billing.orgs.create("Bench", plan="free")).org
    connection = await asyncpg.connect(url)
    await connection.execute(BARE)
    await connection.execute(LIKE_THE_LEDGER)
    bare, indexed = await copied(connection, "bare", path), await copied(connection, "indexed", path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took, done = await imported(billing, org.id, path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (done.accepted, done.rejected) == (rows, 0), done
    await connection.close()
    await client.aclose()
    await pool.close()
    return {
        "rows": rows, "copy_bare_seconds": bare, "copy_indexed_seconds": indexed, "import_seconds": took, "ratio_bare": bare / took,
        "ratio": indexed / took, "rows_a_second": rows / took, "memory_grew_mib": grown / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--save", type=Path, metavar="FILE", help="the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as folder:
        path = Path(folder) / "usage.csv"
        Path(folder).chmod(0o755)
        write(path, options.rows)
        postgres, store = start_postgres(Path(folder) / "postgres", durable=False), start_valkey(Path(folder) / "valkey")
        try:
            figures = asyncio.run(measure(postgres.url, store.url, path, options.rows))
        finally:
            store.stop()
            postgres.stop()
    for name, figure in figures.items():
        sys.stdout.write(f"{name:22} {figure:14,.2f}\n")
    if options.save:
        options.save.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
