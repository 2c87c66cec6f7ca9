"""Bodies of requests: no larger than allowed, and there in time, so that no request can hold much for long."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE = {"Connection": "close"}


class BodyLimits:
    """Refuse requests whose body is too large (413), or not there in time (408).

    Args:
        app: The application.
        most: Largest body in bytes.
        seconds: From the request's headers to the end of its body.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.seconds
        declared = Headers(scope=scope).get("content-length", "")
        size = 0
        complete = False

        async def receive_within_limits() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                text = f"The request's body did not arrive within {self.seconds:g} s."
                raise HTTPException(408, text, CLOSE) from None
            complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > self.most or (declared.isdecimal() and int(declared) > self.most):
                # Who is cut off while sending sees a broken connection instead of the reason.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        while not complete:
                            complete = not (await receive()).get("more_body", False)
                raise HTTPException(413, f"The request's body is larger than {self.most} bytes.", CLOSE)
            return message

        await self.app(scope, receive_within_limits, send)
