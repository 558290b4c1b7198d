"""Operations as routes: a question from path, query and body, the answer as JSON or as a file."""

from typing import Any

from aiohttp import web

from billing.api import bodies
from billing.api.doors import CALLER, ORG_NAMED, Endpoint, credential
from billing.api.negotiation import (
    JSON,
    IdempotencyKeyFaulty,
    check_accept,
    check_encoding,
    check_json,
    check_no_tag,
    etag,
    idempotency_key,
    is_known,
)
from billing.api.repeated import Answer, once
from billing.api.sealing import seal
from billing.operations.dispatch import Dispatch, asked
from billing.operations.operation import Call, Download, Operation

PREFIX = "/api/v1/billing"
NO_STORE = {"Cache-Control": "no-store"}
_ASK_AGAIN = {"Cache-Control": "private, no-cache", "Vary": "Authorization, X-API-Key"}  # kept by who asked, and asked for anew each time


def endpoint(operation: Operation[Any, Any], dispatch: Dispatch, path: str | None = None) -> Endpoint:
    """`operation` where it says to be, or under another `path` of the same {names}."""
    handler = _read(operation, dispatch) if operation.reads else _change(operation, dispatch)
    return Endpoint(method=operation.method, path=path or PREFIX + operation.path, handler=handler, need=operation.need)


def _read(operation: Operation[Any, Any], dispatch: Dispatch) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        if operation.answer is not Download:
            check_accept(request.headers)
        call = await dispatch.open(operation, caller=request[CALLER], org=request[ORG_NAMED])
        answer = await operation.run(call, asked(operation, {**_query(operation, request), **request.match_info}))
        if isinstance(answer, Download):
            return await _stream(request, answer)
        text = answer.model_dump_json()
        headers = {**_ASK_AGAIN, "ETag": etag(text)}
        if is_known(headers["ETag"], request.headers):
            return web.Response(status=304, headers=headers)
        return web.Response(text=text, status=operation.status, content_type=JSON, charset="utf-8", headers=headers)

    return handle


def _change(operation: Operation[Any, Any], dispatch: Dispatch) -> Any:
    in_query = operation.method == "DELETE" or operation.upload

    async def handle(request: web.Request) -> web.StreamResponse:
        key = _checked(operation, request)
        body = bodies.pieces(request) if operation.upload else None
        call = await dispatch.open(operation, caller=request[CALLER], org=request[ORG_NAMED], body=body)
        text = b"" if operation.upload else await bodies.read(request)
        if text and not in_query:
            check_json(request.headers)
        words = _query(operation, request) if in_query else bodies.words(text)
        ask = asked(operation, {**words, **request.match_info})
        if operation.answer is Download:
            return await _stream(request, await operation.run(call, ask))
        if key is None:
            return _said(await _run(operation, call, ask))
        named = seal(credential=credential(request), key=key, method=operation.method, target=request.raw_path, body=text)
        return _said(await once(dispatch.repeats, named, lambda: _run(operation, call, ask)))

    return handle


def _checked(operation: Operation[Any, Any], request: web.Request) -> str | None:
    """The Idempotency-Key. Raises what the request's header fields deserve."""
    if operation.answer is not Download:
        check_accept(request.headers)
    check_encoding(request.headers)
    check_no_tag(request.headers)
    key = idempotency_key(request.headers)
    if key is not None and (operation.upload or operation.answer is Download):
        raise IdempotencyKeyFaulty("files take no Idempotency-Key: sent again, they are the same")
    return key


async def _run(operation: Operation[Any, Any], call: Call, ask: Any) -> Answer:
    return Answer(operation.status, (await operation.run(call, ask)).model_dump_json())


def _said(answer: Answer) -> web.Response:
    headers = {**NO_STORE, "Idempotency-Replayed": "true"} if answer.again else NO_STORE
    return web.Response(text=answer.text, status=answer.status, content_type=JSON, charset="utf-8", headers=headers)


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


async def _stream(request: web.Request, file: Download) -> web.StreamResponse:
    """A fault after the first byte ends the connection: what came is not all."""
    response = web.StreamResponse(
        headers={**NO_STORE, "Content-Type": file.content_type, "Content-Disposition": f'attachment; filename="{file.filename}"'}
    )
    await response.prepare(request)
    if request.method != "HEAD":
        async for piece in file.pieces:
            await response.write(piece)
    await response.write_eof()
    return response
