"""`weighbridge journal`: what gateways wrote down before they acted on it."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .context import Context, add_folders
from .output import add_format, show
from .verbs import typed


def add(nouns: Any) -> None:
    parser = nouns.add_parser("journal", help="journals of gateways: replay those of a host that died")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)
    verb = verbs.add_parser(
        "replay", help="bring a dead host's journals to Postgres, once, however often they are handed in",
        description="Reads a copy of the folder `journal` of a host that died. Nothing in it is changed.",
    )  # fmt: skip
    verb.add_argument("folder", metavar="DIR", type=Path, help="the folder that holds w….000001.log and its like")
    add_folders(verb)
    add_format(verb)
    typed(verb, "weighbridge journal replay /mnt/dead-host/journal")
    verb.set_defaults(run=run)


async def run(options: argparse.Namespace, context: Context) -> int:
    from weighbridge.handed_in import replay_folder

    async with context.database() as pool, context.redis() as client:
        handed = await replay_folder(pool, client, context.redis_url, options.folder, context.settings.data_dir, context.clock)
    lines = [
        f"{one.worker}: {one.records:,} records in {one.segments} segments; {one.batches:,} batches, {one.known:,} of them known before;"
        f" {one.in_flight:,} calls were in flight"
        for one in handed
    ]
    show({"journals": [one.to_json() for one in handed]}, options, lines=[*lines, "All of it is in Postgres, once."])
    for one in handed:
        if one.torn_bytes:
            sys.stderr.write(
                f"weighbridge: the last {one.torn_bytes:,} bytes of {one.worker}'s journal are no whole record: "
                "its host died as it wrote; they are dropped, and no call of that moment had gone on\n"
            )
    return 0
