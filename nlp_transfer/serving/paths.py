"""Paths as the service knows them, wherever another application has mounted it."""

from __future__ import annotations

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request below the prefix that the service is mounted at (``root_path`` of ASGI)."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
