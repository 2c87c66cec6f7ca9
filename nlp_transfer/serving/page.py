"""The page for people: a text, its answer, why, and what the source-only twin says. It loads nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from .settings import ServiceLimits

if TYPE_CHECKING:
    from jinja2 import Environment

PATHS = ("/", "/page.css", "/page.js")

HEADERS = {
    # Nothing but what this service itself answers, and in nobody's frame.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(service: Any, limits: ServiceLimits, protected: bool) -> APIRouter:
    """Return the paths of the page, its style and its script.

    Args:
        service: What is served; see :class:`~nlp_transfer.serving.app.Service`.
        limits: Limits of the service.
        protected: A token is needed: the page asks for it, and says nothing of the model before.
    """
    router = APIRouter(include_in_schema=False)
    values = {
        "name": None if protected else service.name,
        "labels": [] if protected else list(service.labels),
        "protected": protected,
        "twin": service.twin is not None,
        "explains": service.explain is not None,
        "limits": limits,
    }
    kinds = {
        "/": ("page.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
    }
    for path, (template, media_type) in kinds.items():
        router.add_api_route(path, _shown(render(template, **values), media_type), methods=["GET"])
    return router


def render(template: str, **values: Any) -> str:
    """Return a page, a style sheet or a script."""
    return _environment().get_template(f"{template}.j2").render(**values)


def _shown(text: str, media_type: str) -> Any:
    async def show() -> Response:
        return Response(text, media_type=media_type, headers=HEADERS)

    return show


@cache
def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    # The style of the reports is this page's, too.
    loader = ChoiceLoader([PackageLoader("nlp_transfer.serving"), PackageLoader("nlp_transfer.report")])
    return Environment(
        loader=loader,
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
