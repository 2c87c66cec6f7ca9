"""Only who sends the token gets in: checked before anything of a request's body is read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .paths import route_path


class BearerToken:
    """Refuse requests without the token (401; RFC 6750).

    Args:
        app: What is protected.
        expected: :func:`digest` of the token.
        open_paths: Which paths need no token; every other one does.
    """

    def __init__(self, app: ASGIApp, expected: bytes, open_paths: Collection[str]):
        self.app = app
        self.open_paths = frozenset(open_paths)
        self._expected = expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        # The path as routes see it, who know nothing of the one that the application is mounted below.
        if scope["type"] != "http" or route_path(scope) in self.open_paths or self._knows(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        answer = {"error": "A valid token is needed: send the header 'Authorization: Bearer TOKEN'."}
        await JSONResponse(answer, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Digests have one length, so that the time of the comparison tells nothing, not even the token's length.
        return hmac.compare_digest(digest(given.strip()), self._expected) and scheme.lower() == "bearer"


def digest(token: str) -> bytes:
    """Return what a token is compared by; nothing that shows it would show the token."""
    return hashlib.sha256(token.encode("utf8")).digest()
