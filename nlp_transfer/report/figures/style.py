"""How figures look, and how matplotlib's SVG becomes a part of a page.

Colours are names of CSS variables, so that one drawing serves light and dark screens and paper. Nothing is told by
colour alone: each series has a marker and a line style of its own.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6
"""Inches. Narrow, so that text is large enough on a phone."""
LONGEST_NAME = 22

INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ["#050501", "#050502", "#050503", "#050504", "#050505", "#050506"]
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)
}
"""Colours that stand for CSS variables: nothing else in a drawing has them."""

MARKERS = ["o", "^", "s", "D", "v", "P"]
DASHES = ["-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1, 3, 1))]

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nlp_transfer",
    "text.parse_math": False,
    "font.size": 11.5,
    "font.family": ["DejaVu Sans"],
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "patch.linewidth": 0,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_FONT = re.compile(r"font: (?:\w+ )*?([\d.]+px) '[^;]*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Drawing:
    """A figure as it stands in a page.

    Args:
        svg: An ``svg`` element with a title and a description.
        title: What it is.
        finding: What it shows, in sentences.
    """

    svg: str
    title: str
    finding: str


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of reports inside the block, whatever the user's own settings of matplotlib are."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's fonts draw the text; those that lay it out need not have its glyphs.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def panel(height: float) -> tuple[Figure, Axes]:
    """Return a figure of the width of a phone with one pair of axes, inside :func:`styled`.

    Args:
        height: Inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(figure: Figure, axes: Axes) -> None:
    """Write the names of the series above the axes."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, [short(name) for name in names], loc="outside upper left", ncols=2, handlelength=2.6)


def short(name: str) -> str:
    """Return a name that fits beside an axis, without what cannot be printed."""
    printable = "".join(letter for letter in name if letter.isprintable())
    return printable if len(printable) <= LONGEST_NAME else f"{printable[: LONGEST_NAME - 1]}…"


def drawn(figure: Figure, name: str, title: str, finding: str) -> Drawing:
    """Return a figure as an ``svg`` element that can stand in a page, inside :func:`styled`.

    Args:
        figure: The figure.
        name: Prefix of its ids, which must be its own in the page.
        title: What it is.
        finding: What it shows, in sentences.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(text.getvalue())
    _plain_names(root)
    _own_ids(root, name)
    for element in root.iter():
        if "style" in element.attrib:
            element.set("style", _with_variables(_FONT.sub(r"font-size: \1", element.attrib["style"])))
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-desc",
    }
    for at, (tag, words) in enumerate((("title", title), ("desc", finding))):
        label = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        label.text = words
        root.insert(at, label)
    return Drawing(ElementTree.tostring(root, encoding="unicode"), title, finding)


def _plain_names(root: ElementTree.Element) -> None:
    """Drop namespaces, which an HTML page has no need of, and style sheets, which would hold for the whole page."""
    for parent in list(root.iter()):
        parent.tag = parent.tag.removeprefix(_SVG)
        parent.attrib = {key.replace(_XLINK, ""): value for key, value in parent.attrib.items()}
        for child in list(parent):
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)


def _own_ids(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, under names that no other figure has."""
    used = {value[1:] for element in root.iter() for key, value in element.attrib.items() if key == "href"}
    used |= {
        found for element in root.iter() for value in element.attrib.values() for found in _REFERENCE.findall(value)
    }
    new: dict[str, str] = {}
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in used:
            new[old] = f"{name}-{len(new)}"
            element.set("id", new[old])
    for element in root.iter():
        if "href" in element.attrib:
            element.set("href", f"#{new[element.attrib['href'][1:]]}")
        for key, value in element.attrib.items():
            element.set(key, _REFERENCE.sub(lambda found: f"url(#{new[found[1]]})", value))


def _with_variables(style: str) -> str:
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, f"var(--{variable})")
    return style
