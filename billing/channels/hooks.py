"""Events on their way out, by HTTPS: one POST, no redirect followed, no proxy asked, a short answer, a short time."""

import asyncio
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver

from billing.model.hook import Post
from billing.model.hook_delivery import Reply
from metering.model.clock import Clock, to_ms
from metering.model.outward import Forbidden, Reach
from metering.outgoing import guarded

_ANSWER_WITHIN_SECONDS = 15.0
_SHOWN = 200  # characters of an answer that says no


class HttpHookChannel:
    """`reach` is how far an endpoint's URL may lead; `resolver` None is the machine's."""

    def __init__(
        self, reach: Reach, clock: Clock, resolver: Callable[[], AbstractResolver] | None = None,
        answer_within_seconds: float = _ANSWER_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        self._reach, self._clock, self._resolver, self._within = reach, clock, resolver, answer_within_seconds

    async def post(self, post: Post) -> Reply:
        try:
            async with asyncio.timeout(self._within):
                return await self._post(post)
        except TimeoutError:
            return Reply(status=None, reason=f"no answer within {self._within:g} seconds")
        except Forbidden as forbidden:
            return Reply(status=None, reason=str(forbidden))
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            return Reply(status=None, reason=_plain(str(fault) or type(fault).__name__))

    async def _post(self, post: Post) -> Reply:
        connector = guarded(post.url, self._reach, self._resolver() if self._resolver else None)
        async with (
            aiohttp.ClientSession(
                connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.post(post.url, data=post.body, headers=post.headers, allow_redirects=False) as answer,
        ):
            if 200 <= answer.status < 300:
                return Reply(status=answer.status)
            said = _plain((await answer.content.read(_SHOWN * 4)).decode(errors="replace"))
            reason = f"answered {answer.status}" + (f": {said}" if said else "")
            return Reply(status=answer.status, reason=reason, retry_after_ms=self._retry_after_ms(answer.headers.get("Retry-After", "")))

    def _retry_after_ms(self, text: str) -> int | None:
        """Seconds or a date (RFC 9110, 10.2.3)."""
        if text.isascii() and text.isdigit():
            return int(text[:9]) * 1000
        try:
            return max(0, to_ms(parsedate_to_datetime(text)) - self._clock.now_ms())
        except (ValueError, TypeError):
            return None


def _plain(text: str) -> str:
    """One line that is fit for a log and a table: NUL, which Postgres keeps in no text, is among what goes."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:_SHOWN]
