"""Source and target texts in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from ..domains import SIDES, View
from .style import MARKERS, SERIES, Drawing, drawn, legend, panel, styled


def draw_points(views: Sequence[View], at: int, name: str, finding: str) -> Drawing:
    """Draw the texts of both domains as one model sees them.

    Args:
        views: What all models see: the pictures share their axes.
        at: Which of them is drawn.
        name: Prefix of ids.
        finding: What it shows, in sentences.
    """
    view = views[at]
    pairs = [pair for one in views for side in one.points.values() for pair in side]
    with styled():
        figure, axes = panel(3.4)
        for number, side in enumerate(SIDES):
            x, y = zip(*view.points[side], strict=True)
            axes.plot(
                x,
                y,
                linestyle="none",
                marker=MARKERS[number],
                markersize=4.5,
                color=SERIES[number],
                fillstyle="none" if number else "full",
                alpha=0.75,
                label=f"{side} ({len(x)})",
            )
        x_ends, y_ends = (_ends(values) for values in zip(*pairs, strict=True))
        axes.set(xlabel="first component", ylabel="second component", xlim=x_ends, ylim=y_ends, xticks=[], yticks=[])
        legend(figure, axes)
        return drawn(figure, name, f"Source and target in the {view.model} model", finding)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
