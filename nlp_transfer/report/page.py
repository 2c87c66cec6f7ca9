"""From values to HTML: the templates, and how they write numbers. All text is escaped."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

REPORT = "report.html"

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that no page may hold; data may."""


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: Name of a template, such as ``run.html``.
        values: What it shows. A value that it names and that is missing is an error.
    """
    return _UNREADABLE.sub("\ufffd", _environment().get_template(f"{template}.j2").render(**values))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("nlp_transfer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "signed": signed, "percent": percent, "breakable": breakable, "svg": Markup}
    return made


def number(value: float) -> str:
    """Return ``0.912``."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Return ``+0.012``, or ``−0.012`` with a minus that is read out as one."""
    return f"{value:+.3f}".replace("-", "−")


def percent(value: float) -> str:
    """Return ``91%``."""
    return f"{value:.0%}"


def breakable(name: str) -> Markup:
    """Return a name that may be broken after a period: ``target.`` ``test``."""
    from markupsafe import Markup, escape

    return Markup(".<wbr>").join(escape(part) for part in name.split("."))
