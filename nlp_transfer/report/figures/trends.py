"""Shares of labels, and confidence, window by window."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .style import DASHES, MARKERS, MUTED, SERIES, Drawing, drawn, legend, panel, styled


@dataclass(frozen=True)
class Point:
    """One window.

    Args:
        window: Its number.
        shares: Share of texts by label, 0 to 1.
        confidence: Mean confidence, 0 to 1; None where no text has one.
    """

    window: int
    shares: Mapping[str, float]
    confidence: float | None


def draw_shares(points: Sequence[Point], shifted: Collection[int], name: str, topic: str) -> Drawing:
    """Draw the shares of the labels that vary most, a line each.

    Args:
        points: At least one window, in order.
        shifted: Windows that differ from the reference; a vertical line marks each.
        name: Prefix of ids.
        topic: Whose windows they are.
    """
    labels = sorted({label for point in points for label in point.shares})
    values = {label: [point.shares.get(label, 0.0) for point in points] for label in labels}
    chosen = sorted(sorted(labels, key=lambda label: min(values[label]) - max(values[label]))[: len(SERIES)])
    ranges = [f"{label}: {min(values[label]):.0%} to {max(values[label]):.0%}." for label in chosen]
    left_out = len(labels) - len(chosen)
    told = " ".join([*ranges, *([f"{left_out} labels that vary less are left out."] if left_out else [])])
    lines = {label: values[label] for label in chosen}
    return _draw(points, lines, shifted, "share of texts", name, f"Labels, {topic}", told)


def draw_confidence(
    points: Sequence[Point], reference: float | None, shifted: Collection[int], name: str, topic: str
) -> Drawing:
    """Draw the mean confidence; see :func:`draw_shares`.

    Args:
        points: Windows; those without a confidence are passed over.
        reference: Mean confidence of the reference, told in words.
        shifted: Windows that differ from the reference.
        name: Prefix of ids.
        topic: Whose windows they are.
    """
    rated = [point for point in points if point.confidence is not None]
    values = [float(point.confidence or 0.0) for point in rated]
    told = f"Mean confidence {min(values):.3f} to {max(values):.3f}"
    told += "." if reference is None else f"; reference {reference:.3f}."
    return _draw(rated, {"confidence": values}, shifted, "mean confidence", name, f"Confidence, {topic}", told)


def _draw(
    points: Sequence[Point],
    lines: Mapping[str, Sequence[float]],
    shifted: Collection[int],
    axis: str,
    name: str,
    title: str,
    told: str,
) -> Drawing:
    windows = [point.window for point in points]
    inside = [window for window in windows if window in shifted]
    if inside:
        told += f" Shifted (dotted): {len(inside)} windows, the first of them {inside[0]}."
    with styled():
        figure, axes = panel(2.9)
        for number, (label, values) in enumerate(lines.items()):
            look: dict[str, Any] = {"color": SERIES[number], "linestyle": DASHES[number], "marker": MARKERS[number]}
            axes.plot(windows, values, label=label, markevery=0.12, **look)
        for window in inside:
            axes.axvline(window, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
        axes.set(xlabel="window", ylabel=axis)
        if axis == "share of texts":
            axes.set_ylim(-0.02, 1.02)
        axes.locator_params(axis="x", integer=True, nbins=6)
        axes.grid(axis="y")
        if lines:
            legend(figure, axes)
        return drawn(figure, name, title, told)
