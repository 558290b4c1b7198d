"""GraphQL over HTTP: POST with a JSON body; GET for queries. A request that cannot be read is answered by problem+json.

Who accepts application/graphql-response+json gets 400 for a document that is not carried out; others get 200, as clients of old expect.
Subscriptions are streams (streams.py).
"""

import json
import logging
from collections.abc import Mapping
from inspect import isawaitable
from typing import Any, TypeVar

from aiohttp import web
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
    parse,
    subscribe,
    validate,
)
from graphql.language import DocumentNode

from billing.api.doors import CALLER, ORG_NAMED, Endpoint
from billing.api.graphql import guard, streams
from billing.api.graphql.context import Context
from billing.api.graphql.resolvers import executable
from billing.model.token import Scope
from billing.operations.dispatch import Dispatch
from billing.operations.problem import problem
from metering.model.errors import BadInput, WeighbridgeError

log = logging.getLogger(__name__)

PATH = "/graphql"
_MODERN = "application/graphql-response+json"
T = TypeVar("T")


class NotJsonMedia(WeighbridgeError):
    """The body is application/json, and says so in Content-Type."""

    code, http_status = "unsupported_media_type", 415


class MutationByGet(WeighbridgeError):
    """GET carries queries only: send a mutation by POST."""

    code, http_status = "method_not_allowed", 405


class Invalid(WeighbridgeError):
    """The document is not one of this schema."""

    code, http_status = "graphql_invalid", 400


def endpoints(dispatch: Dispatch) -> list[Endpoint]:
    server = Server(dispatch, executable())
    return [
        Endpoint(method="GET", path=PATH, handler=server.get, need=Scope.READ),
        Endpoint(method="POST", path=PATH, handler=server.post, need=Scope.READ),
    ]


class Server:
    """Answers documents over one schema."""

    def __init__(self, dispatch: Dispatch, schema: GraphQLSchema) -> None:
        self._dispatch, self._schema, self._streams = dispatch, schema, streams.Streams()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Raises BadInput, MutationByGet."""
        query = request.query
        if any(len(query.getall(name, [])) > 1 for name in ("query", "variables", "operationName")):
            raise BadInput("query, variables and operationName are given once")
        said = {"query": query.get("query"), "operationName": query.get("operationName") or None}
        if query.get("variables"):
            said["variables"] = _json(query["variables"], "variables")
        return await self._answer(request, said, by_get=True)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Raises BadInput, NotJsonMedia."""
        if request.content_type != "application/json":
            raise NotJsonMedia
        said = _json(await request.read(), "the body")
        if not isinstance(said, dict):
            raise BadInput("the body is one JSON object with query, variables, operationName; several at once are not taken")
        return await self._answer(request, said, by_get=False)

    async def _answer(self, request: web.Request, said: Mapping[str, Any], *, by_get: bool) -> web.StreamResponse:
        query, variables, name = _said(said, "query", str), _said(said, "variables", dict) or {}, _said(said, "operationName", str)
        if not query:
            raise BadInput("query is missing: the document to carry out")
        context = Context(self._dispatch, request[CALLER], request[ORG_NAMED], lambda: streams.listening(request))
        try:
            read = self._read(query, variables, name)
            if isinstance(read, ExecutionResult):
                return _whole(request, read)
            document, operation = read
            if by_get and operation.operation is OperationType.MUTATION:
                raise MutationByGet
            words: dict[str, Any] = {"variable_values": variables, "operation_name": name, "context_value": context}
            if operation.operation is OperationType.SUBSCRIPTION:
                return await self._stream(request, subscribe(self._schema, document, **words))
            result = execute(self._schema, document, **words)
            return _whole(request, await result if isawaitable(result) else result)
        except RecursionError:
            return _whole(request, _refused([_costly("this is nested too deep")]))

    def _read(
        self, query: str, variables: dict[str, Any], name: str | None
    ) -> ExecutionResult | tuple[DocumentNode, OperationDefinitionNode]:
        """What is to be carried out, or why it is not. Raises RecursionError."""
        if len(query) > guard.LONGEST:
            return _refused([_costly(f"the document has more than {guard.LONGEST:,} characters")])
        try:
            document = parse(query, max_tokens=guard.MOST_TOKENS)
        except GraphQLError as exc:
            return _refused([exc])
        if faults := validate(self._schema, document, max_errors=20):
            return _refused(faults)
        operation = get_operation_ast(document, name)
        if not isinstance(operation, OperationDefinitionNode):
            return _refused([GraphQLError("operationName names none of the document's operations, or is missing where there are several")])
        try:
            guard.check_cost(document, operation, variables)
        except guard.TooCostly as exc:
            return _refused([_costly(str(exc))])
        return document, operation

    async def _stream(self, request: web.Request, begun: Any) -> web.StreamResponse:
        """Raises NotAcceptable, TooManyStreams."""
        streams.check_accepted(request)
        found = await begun if isawaitable(begun) else begun
        if isinstance(found, ExecutionResult):
            return _whole(request, found)
        return await self._streams.send(request, found, lambda result: json.dumps(_formatted(result)))


def _whole(request: web.Request, result: ExecutionResult) -> web.Response:
    modern = _MODERN in request.headers.get("Accept", "")
    return web.Response(
        text=json.dumps(_formatted(result)), content_type=_MODERN if modern else "application/json", charset="utf-8",
        status=400 if modern and result.data is None and not any(error.path for error in result.errors or ()) else 200,
        headers={"Cache-Control": "no-store"},
    )  # fmt: skip


def _costly(said: str) -> GraphQLError:
    return GraphQLError(said, original_error=guard.TooCostly(said))


def _refused(errors: list[GraphQLError]) -> ExecutionResult:
    return ExecutionResult(data=None, errors=errors)


def _json(text: str | bytes, what: str) -> Any:
    """Raises BadInput."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{what} cannot be read as JSON: {exc}") from None


def _said(said: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """Raises BadInput."""
    value = said.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadInput(f"{name} is {'an object' if kind is dict else 'text'}")
    return value


def _formatted(result: ExecutionResult) -> dict[str, Any]:
    """`data` is left out where nothing was carried out."""
    errors = [_error(error) for error in result.errors or ()]
    if result.data is None and errors and not any("path" in error for error in errors):
        return {"errors": errors}
    return {"data": result.data, **({"errors": errors} if errors else {})}


def _error(error: GraphQLError) -> dict[str, Any]:
    """With our code, status and details in `extensions`. What nobody foresaw is logged whole and told in three words."""
    cause = error.original_error
    if isinstance(cause, WeighbridgeError):
        known = cause
    elif cause is None or isinstance(cause, GraphQLError):
        known = Invalid(error.message)
    else:
        log.error("nobody foresaw this, answering GraphQL", exc_info=cause)
        known = WeighbridgeError()
    told = problem(known)
    shown: dict[str, Any] = {"message": told.detail, "extensions": {"code": told.code, "status": told.status, "details": told.details}}
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        shown["path"] = error.path
    return shown
