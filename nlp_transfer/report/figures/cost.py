"""What strategies cost."""

from __future__ import annotations

from collections.abc import Mapping

from .style import SERIES, Drawing, drawn, panel, short, styled


def draw_costs(seconds: Mapping[str, float], labels: Mapping[str, str], name: str, finding: str) -> Drawing:
    """Draw a bar of training time for each strategy.

    Args:
        seconds: By strategy, mean training time of a run.
        labels: By strategy, what is written beside its bar.
        name: Prefix of ids.
        finding: What it shows, in sentences.
    """
    with styled():
        figure, axes = panel(0.8 + 0.36 * len(seconds))
        names = list(seconds)
        bars = axes.barh(range(len(names)), [seconds[one] for one in names], height=0.6, color=SERIES[0])
        axes.bar_label(bars, [labels[one] for one in names], padding=3, fontsize=9.5)
        axes.set_yticks(range(len(names)), [short(one) for one in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, max([*seconds.values(), 1e-9]) * 1.35)
        axes.set_xlabel("seconds of training, mean of the seeds")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return drawn(figure, name, "Training time of each strategy", finding)
