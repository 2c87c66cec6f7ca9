"""Numbers with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...intervals import Interval
from .style import MARKERS, MUTED, SERIES, Drawing, drawn, legend, panel, short, styled

MOST_LINES = 25
"""Lines of a figure; a table holds the others."""


@dataclass(frozen=True)
class Line:
    """One line of the figure.

    Args:
        name: What stands beside the axis.
        values: By series, the number with its interval.
    """

    name: str
    values: Mapping[str, Interval]


@dataclass(frozen=True)
class Scale:
    """The axis of numbers.

    Args:
        label: What is measured.
        zero: Draw a line at 0, where nothing is gained.
        limits: Ends of the axis; by default those of the numbers.
    """

    label: str
    zero: bool = False
    limits: tuple[float, float] | None = None


def draw_intervals(lines: Sequence[Line], scale: Scale, name: str, title: str, finding: str) -> Drawing:
    """Draw lines of numbers with intervals, the first on top.

    Args:
        lines: At least one; the first :data:`MOST_LINES` are drawn.
        scale: The axis.
        name: Prefix of ids.
        title: What is shown.
        finding: What it shows, in sentences.
    """
    lines = lines[:MOST_LINES]
    series = list(dict.fromkeys(which for line in lines for which in line.values))
    with styled():
        figure, axes = panel(0.9 + (0.22 + 0.17 * len(series)) * len(lines))
        for number, which in enumerate(series):
            shift = 0.0 if len(series) == 1 else (number / (len(series) - 1) - 0.5) * 0.36
            drawn_lines = [(at + shift, line.values[which]) for at, line in enumerate(lines) if which in line.values]
            axes.errorbar(
                [interval.value for _, interval in drawn_lines],
                [at for at, _ in drawn_lines],
                # A percentile interval of few rows need not hold its number.
                xerr=[
                    [max(0.0, interval.value - interval.low) for _, interval in drawn_lines],
                    [max(0.0, interval.high - interval.value) for _, interval in drawn_lines],
                ],
                fmt=MARKERS[number],
                color=SERIES[number],
                label=which,
                elinewidth=1.6,
                capsize=3,
            )
        if scale.zero:
            axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(lines)), [short(line.name) for line in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel=scale.label, xlim=scale.limits)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        if len(series) > 1:
            legend(figure, axes)
        return drawn(figure, name, title, finding)
