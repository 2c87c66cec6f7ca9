"""Reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...calibration import Reliability
from .style import DASHES, MARKERS, MUTED, SERIES, Drawing, drawn, legend, panel, styled

LARGEST = 300
"""Area of the marker that stands for all answers, in square points."""


def draw_reliability(found: Mapping[str, Reliability], name: str, title: str, finding: str) -> Drawing:
    """Draw the share of right answers over the confidence of the model; the diagonal is where the two are equal.

    Args:
        found: By what the series is called; answers that are bins of the diagram.
        name: Prefix of ids.
        title: What is shown.
        finding: What it shows, in sentences.
    """
    with styled():
        figure, axes = panel(3.9)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for number, (which, one) in enumerate(found.items()):
            sure, right = ([getattr(box, key) for box in one.bins] for key in ("confidence", "accuracy"))
            look: dict[str, Any] = {"color": SERIES[number], "marker": MARKERS[number]}
            axes.plot(sure, right, linestyle=DASHES[number], markersize=4, label=which, **look)
            axes.scatter(sure, right, [LARGEST * box.count / one.count for box in one.bins], alpha=0.5, **look)
        axes.set(xlabel="confidence", ylabel="share of answers that are right", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.set_aspect("equal")
        axes.grid()
        legend(figure, axes)
        return drawn(figure, name, title, finding)
