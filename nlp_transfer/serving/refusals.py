"""From what went wrong to a status and one line of JSON. Nothing of a text is quoted."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from .batching import Failed, Overloaded
from .explaining import NotExplained

SHOWN = 5


def add_handlers(app: FastAPI) -> None:
    """Let an application answer its errors."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        if any(problem["type"] == "json_invalid" for problem in problems):
            return refuse(400, "The body is no valid JSON.")
        told = [f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems[:SHOWN]]
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        return refuse(422, "; ".join(told) + more)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return refuse(error.status_code, error.detail, error.headers)

    @app.exception_handler(NotExplained)
    async def not_explained(request: Request, error: NotExplained) -> Response:
        return refuse(422, str(error))

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> Response:
        text = f"Too much is waiting. Ask again in {error.retry_after} s."
        return refuse(503, text, {"Retry-After": str(error.retry_after)})

    @app.exception_handler(TimeoutError)
    async def too_late(request: Request, error: TimeoutError) -> Response:
        return refuse(504, "There was no answer in time.")

    @app.exception_handler(Failed)
    async def failed(request: Request, error: Failed) -> Response:
        return refuse(500, "The model failed on this request.")


def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal."""
    return JSONResponse({"error": message}, status, dict(headers or {}))


def _place(where: tuple[int | str, ...]) -> str:
    """Return a place in the body: ``texts.3``; unknown keys are the client's words, and cut short."""
    return ".".join(str(part)[:40] for part in where[1:]) or "body"
