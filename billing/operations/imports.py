"""Usage from files. The answer is told as it happens, a JSON object a line: rows that were not taken, how far it has come, the end."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict

from pydantic import Field

from billing.model.import_file import NoHeader
from billing.model.token import Scope
from billing.operations.operation import About, Call, Download, Model, operation
from billing.services.importing import Progress, Reject
from metering.model.errors import BadInput, WeighbridgeError

MEDIA_TYPE = "application/x-ndjson"


class ImportAsk(Model):
    dry_run: bool = Field(False, description="say what would be taken and what not, and take nothing")


class ImportLine(Model):
    """One line of the answer: `rejected` names a row, `progress` and `done` say how far it is, `failed` that it ended early. What was
    read until then stays; the same file again goes on there."""

    rejected: Reject | None = None
    progress: Progress | None = None
    done: Progress | None = None
    failed: str | None = None


@operation("POST", "/usage/import", name="usage.import", need=Scope.BILLING, unbound=True, upload=True, errors=(NoHeader,))
async def import_usage(call: Call, ask: ImportAsk) -> Download:
    """A file of usage: CSV (timestamp,service,quantity,metadata) or JSON Lines, each row once."""
    return _told(call, call.org, ask)


@operation("POST", "/usage/import-all", name="usage.import_all", about=About.ALL, need=Scope.BILLING, upload=True, errors=(NoHeader,))
async def import_all(call: Call, ask: ImportAsk) -> Download:
    """A file of several organizations' usage: each row says whose it is, in org_id."""
    return _told(call, None, ask)


def _told(call: Call, org_id: str | None, ask: ImportAsk) -> Download:
    if call.body is None:
        raise BadInput("send the file as the body of the request")
    return Download(_lines(call, org_id, call.body, ask), content_type=MEDIA_TYPE, filename="import.ndjson")


async def _lines(call: Call, org_id: str | None, body: AsyncIterator[bytes], ask: ImportAsk) -> AsyncIterator[bytes]:
    last = Progress()
    try:
        async for each in call.billing.importing.run(org_id, body, dry_run=ask.dry_run):
            if isinstance(each, Progress):
                last = each
            yield _line("progress" if isinstance(each, Progress) else "rejected", asdict(each))
    except WeighbridgeError as exc:
        yield _line("failed", str(exc))
    else:
        yield _line("done", asdict(last))


def _line(name: str, value: object) -> bytes:
    return json.dumps({name: value}, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


OPERATIONS = (import_usage, import_all)
