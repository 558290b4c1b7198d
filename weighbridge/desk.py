"""Operations for the command line: straight to the database on the server, or by a token through control. The answers are the same."""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, TypeVar

import aiohttp

from billing.api.rest import PREFIX
from billing.model.token import Scope
from billing.operations.dispatch import Dispatch
from billing.operations.operation import About, Download, Model, Operation
from billing.operations.orgs import list_all
from billing.operations.pages import AskPage
from billing.operations.problem import Problem
from billing.services.access import Caller
from metering.model.errors import BadInput, DependencyUnavailable, WeighbridgeError

A = TypeVar("A", bound=Model)
R = TypeVar("R")

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_PIECE = 256 * 1024
_NAMED = 10


class Refused(WeighbridgeError):
    """The control API refused."""

    code, http_status = "refused", 502


class Desk(Protocol):
    async def call(self, operation: Operation[A, R], ask: A, *, org: str | None = None, body: AsyncIterator[bytes] | None = None) -> R:
        """`org` is an id or slug; where it is None and the operation is about one, the only one there is."""
        ...


class LocalDesk:
    """On behalf of the operator `who`, who may do everything."""

    def __init__(self, dispatch: Dispatch, who: str) -> None:
        self._dispatch, self._caller = dispatch, Caller(name=who, org_id=None, scopes=(Scope.ADMIN,))

    async def call(self, operation: Operation[A, R], ask: A, *, org: str | None = None, body: AsyncIterator[bytes] | None = None) -> R:
        if operation.about is About.ORG and org is None:
            org = await self._only()
        return await self._dispatch.perform(operation, ask, caller=self._caller, org=org, body=body)

    async def _only(self) -> str:
        found = (await self._dispatch.perform(list_all, AskPage(limit=_NAMED + 1), caller=self._caller)).orgs
        if len(found) != 1:
            slugs = ", ".join(org.slug for org in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
            raise BadInput(
                f"say which organization with --org; there are: {slugs}"
                if found
                else "there is no organization yet: weighbridge org create"
            )
        return found[0].slug


class RemoteDesk:
    """At a control server, with a token; an organization that is not named is the token's own."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session, self._url, self._headers = session, url.rstrip("/"), {"Authorization": f"Bearer {token}"}

    async def call(self, operation: Operation[A, R], ask: A, *, org: str | None = None, body: AsyncIterator[bytes] | None = None) -> R:
        """Raises Refused with the server's sentence, DependencyUnavailable where it does not answer."""
        path, query, said = _spread(operation, ask)
        if org is not None:
            query["org"] = org
        try:
            response = await self._session.request(
                operation.method, self._url + path, params=query, json=said, data=body, headers=self._headers, timeout=_TIMEOUT
            )
            if response.status >= 400:
                raise _refusal(response.status, await response.read())
            if operation.answer is Download:
                return _download(response)  # type: ignore[return-value]
            async with response:
                answer: R = operation.answer.model_validate_json(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise DependencyUnavailable(f"control at {self._url} cannot be used: {_why(exc)}. Is WEIGHBRIDGE_CONTROL_URL right?") from exc


def _spread(operation: Operation[A, Any], ask: A) -> tuple[str, dict[str, Any], Mapping[str, Any] | None]:
    """(path, query, body) of the request. What is not as it is by default is said, in a body a null too; a query has no word for one."""
    words = ask.model_dump(mode="json", exclude_defaults=True)
    path = PREFIX + operation.path
    for name in list(words):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", _quoted(str(words.pop(name))))
    if operation.method in ("GET", "DELETE") or operation.upload:
        return path, {name: _plain(value) for name, value in words.items() if value is not None}, None
    return path, {}, words


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and (number := error.os_error.errno):
        return os.strerror(number) if number > 0 else str(error.os_error.strerror)  # below 0 the resolver speaks
    return str(error) or type(error).__name__


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _refusal(status: int, text: bytes) -> WeighbridgeError:
    try:
        problem = Problem.model_validate_json(text)
    except ValueError:
        return Refused(f"control answered {status}: {text[:200].decode(errors='replace')}")
    return Refused(problem.detail, **problem.details)


def _download(response: aiohttp.ClientResponse) -> Download:
    async def pieces() -> AsyncIterator[bytes]:
        async with response:
            try:
                async for piece in response.content.iter_chunked(_PIECE):
                    yield piece
            except (aiohttp.ClientError, TimeoutError) as exc:
                raise DependencyUnavailable(f"the file broke off: {exc or type(exc).__name__}; what came is not all of it") from exc

    named = response.content_disposition.filename if response.content_disposition else None
    return Download(pieces(), content_type=response.content_type, filename=named or "download")
