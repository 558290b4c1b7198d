"""Subscriptions over server-sent events, in the form of graphql-sse's distinct connections: `next` with an answer each, then `complete`."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web
from graphql import ExecutionResult, GraphQLError

from metering.model.errors import WeighbridgeError

MOST = 50
_MEDIA = "text/event-stream"


class NotAcceptable(WeighbridgeError):
    """A subscription is answered by server-sent events: send Accept: text/event-stream."""

    code, http_status = "not_acceptable", 406


class TooManyStreams(WeighbridgeError):
    """As many streams as there may be are open: try again later."""

    code, http_status, retryable = "too_many_streams", 503, True


def check_accepted(request: web.Request) -> None:
    """Raises NotAcceptable."""
    if _MEDIA not in request.headers.get("Accept", ""):
        raise NotAcceptable


def listening(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


class Streams:
    """Those that are open on this server."""

    def __init__(self) -> None:
        self._open = 0

    async def send(
        self, request: web.Request, answers: AsyncIterator[ExecutionResult], say: Callable[[ExecutionResult], str]
    ) -> web.StreamResponse:
        """Each as it comes; ends with them, or with who listens. Raises TooManyStreams."""
        if self._open >= MOST:
            raise TooManyStreams
        self._open += 1
        response = web.StreamResponse(
            headers={"Content-Type": f"{_MEDIA}; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            async for text in _said(answers, say):
                await response.write(f"event: next\ndata: {text}\n\n".encode())
            await response.write(b"event: complete\ndata:\n\n")
            await response.write_eof()
        except ConnectionError:
            pass  # nobody listens any more
        finally:
            self._open -= 1
        return response


async def _said(answers: AsyncIterator[ExecutionResult], say: Callable[[ExecutionResult], str]) -> AsyncIterator[str]:
    """What is refused while the stream runs is its last answer."""
    try:
        async for answer in answers:
            yield say(answer)
    except WeighbridgeError as exc:
        yield say(ExecutionResult(data=None, errors=[GraphQLError(str(exc), original_error=exc)]))
