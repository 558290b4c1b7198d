"""Sessions of pages: a token that is given once stands in a cookie that no script can read; and what changes something by it must prove
that a page of ours sent it.

The cookie ends with the browser's session, after eight hours, and with the token itself, which is looked up at every request. The proof
is derived from the token, told only in answers that other sites cannot read, and sent back as a header, which other sites cannot set.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from billing.services.access import Caller
from metering.model.errors import WeighbridgeError

COOKIE, PROOF = "weighbridge_session", "X-CSRF-Token"
LIVES_SECONDS = 8 * 3_600
_SAFE = ("GET", "HEAD", "OPTIONS")
_OURS = (None, "same-origin", "none")  # Sec-Fetch-Site; older browsers do not send it
_LABEL = b"weighbridge csrf"


class NotOurPage(WeighbridgeError):
    """This request is authenticated by a cookie, and no page of ours sent it."""

    code, http_status = "csrf", 403


def proof(credential: str) -> str:
    return hmac.new(credential.encode(), _LABEL, hashlib.sha256).hexdigest()


def credential_of(request: web.Request) -> str | None:
    """What the cookie holds; None: there is none. Raises NotOurPage for a change without its proof."""
    credential = request.cookies.get(COOKIE)
    if not credential:
        return None
    if request.method not in _SAFE:
        given = request.headers.get(PROOF, "")
        if not _from_us(request) or not hmac.compare_digest(given.encode(), proof(credential).encode()):
            raise NotOurPage(f"send {PROOF} with what GET /api/v1/session says, from a page of this server")
    return credential


def _from_us(request: web.Request) -> bool:
    return request.headers.get("Sec-Fetch-Site") in _OURS


class Sessions:
    """`known` finds who presents a credential, as the doors do."""

    def __init__(self, known: Callable[[web.Request, str], Awaitable[Caller]]) -> None:
        self._known = known

    async def begin(self, request: web.Request, token: str) -> web.Response:
        """Raises Unauthorized, NotOurPage: nobody is signed in from another site."""
        if not _from_us(request):
            raise NotOurPage("a session is begun from a page of this server")
        caller = await self._known(request, token)
        response = _told(caller, proof(token))
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(COOKIE, token, max_age=LIVES_SECONDS, path="/", httponly=True, samesite="Strict", secure=secure)
        return response

    async def show(self, request: web.Request, caller: Caller) -> web.Response:
        """The proof is for who has the cookie."""
        credential = request.cookies.get(COOKIE)
        return _told(caller, proof(credential) if credential else None)

    async def end(self, _request: web.Request) -> web.Response:
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response


def _told(caller: Caller, csrf: str | None) -> web.Response:
    said = {"name": caller.name, "org_id": caller.org_id, "scopes": [scope.value for scope in caller.scopes], "csrf": csrf}
    return web.json_response(said, headers={"Cache-Control": "no-store"})
