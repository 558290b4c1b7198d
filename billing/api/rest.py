"""Operations as routes: a question from path, query and body, the answer as JSON or as a file."""

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from billing.api.doors import CALLER, ORG_NAMED, Endpoint
from billing.operations.dispatch import Dispatch, asked
from billing.operations.operation import Download, Operation
from metering.model.errors import BadInput

PREFIX = "/api/v1/billing"
NO_STORE = {"Cache-Control": "no-store"}
_PIECE = 64 * 1024


class NotJson(BadInput):
    """The body is not a JSON object."""

    code = "not_json"


def endpoint(operation: Operation[Any, Any], dispatch: Dispatch, path: str | None = None) -> Endpoint:
    """`operation` where it says to be, or under another `path` of the same {names}."""

    async def handle(request: web.Request) -> web.StreamResponse:
        body = _pieces(request) if operation.upload else None
        call = await dispatch.open(operation, caller=request[CALLER], org=request[ORG_NAMED], body=body)
        answer = await operation.run(call, asked(operation, {**await _words(operation, request), **request.match_info}))
        if isinstance(answer, Download):
            return await _stream(request, answer)
        return web.Response(
            text=answer.model_dump_json(), status=operation.status, content_type="application/json", charset="utf-8", headers=NO_STORE
        )

    return Endpoint(method=operation.method, path=path or PREFIX + operation.path, handler=handle, need=operation.need)


async def _words(operation: Operation[Any, Any], request: web.Request) -> dict[str, Any]:
    """What was said beside the path: in the query of what reads and of uploads, else in the body. Raises NotJson, BadInput."""
    if operation.method in ("GET", "DELETE") or operation.upload:
        return _query(operation, request)
    text = await request.read()
    if not text:
        return {}
    try:
        words = json.loads(text)
    except ValueError as exc:
        raise NotJson(f"the body is not JSON: {exc}") from None
    if not isinstance(words, dict):
        raise NotJson("the body is not a JSON object")
    return words


def _query(operation: Operation[Any, Any], request: web.Request) -> dict[str, Any]:
    """A name that comes twice is a list, where the question has one."""
    words: dict[str, Any] = {}
    for name in request.query:
        if name == "org":
            continue  # whom it is about; doors.py reads it
        values = request.query.getall(name)
        words[name] = values if len(values) > 1 or _takes_several(operation, name) else values[0]
    return words


def _takes_several(operation: Operation[Any, Any], name: str) -> bool:
    field = operation.ask.model_fields.get(name)
    return field is not None and str(field.annotation).startswith(("tuple[", "list["))


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE):
        yield piece


async def _stream(request: web.Request, file: Download) -> web.StreamResponse:
    """A fault after the first byte ends the connection: what came is not all."""
    response = web.StreamResponse(
        headers={**NO_STORE, "Content-Type": file.content_type, "Content-Disposition": f'attachment; filename="{file.filename}"'}
    )
    await response.prepare(request)
    async for piece in file.pieces:
        await response.write(piece)
    await response.write_eof()
    return response
