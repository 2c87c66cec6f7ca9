"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..curves import Curve, Training
from .style import DASHES, MARKERS, MUTED, SERIES, Drawing, drawn, legend, panel, styled

WIDE = 30
"""Ratio of the largest and the smallest value of a figure from which on its axis is logarithmic."""


def draw_losses(training: Training, name: str) -> Drawing:
    """Draw the named losses of a stage over its steps.

    Args:
        training: Curves of the stage, at least one loss among them.
        name: Prefix of ids.
    """
    with styled():
        figure, axes = panel(2.6 + 0.12 * len(training.losses))
        for number, curve in enumerate(training.losses):
            axes.plot(curve.steps, curve.values, label=curve.name.lstrip("_"), **_look(number))
        values = [value for curve in training.losses for value in curve.values]
        if min(values) > 0 and max(values) > WIDE * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        for bound in training.bounds:
            axes.axvline(bound, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(xlabel="optimizer step", ylabel="loss")
        axes.grid(axis="y")
        legend(figure, axes)
        return drawn(figure, name, f"Losses of stage {training.stage}", f"{_told(training.losses)}{_rounds(training)}")


def draw_scores(trainings: Sequence[Training], kind: str, selected: Mapping[str, int], name: str) -> Drawing:
    """Draw a score of each evaluation over the steps of the stages.

    Args:
        trainings: The stages that were evaluated.
        kind: Which of their scores, such as ``accuracy``.
        selected: By stage, the step whose checkpoint was selected; stages of several rounds have none.
        name: Prefix of ids.
    """
    curves = {one.stage: curve for one in trainings for curve in one.scores if curve.name == kind}
    with styled():
        figure, axes = panel(2.9)
        for number, (stage, curve) in enumerate(curves.items()):
            axes.plot(curve.steps, curve.values, label=stage, **_look(number))
            if selected.get(stage) in curve.steps:
                at = curve.steps.index(selected[stage])
                axes.plot(
                    curve.steps[at],
                    curve.values[at],
                    marker="o",
                    markersize=12,
                    fillstyle="none",
                    color=SERIES[number % len(SERIES)],
                )
        axes.set(xlabel="optimizer step", ylabel=kind)
        axes.grid(axis="y")
        legend(figure, axes)
        told = " ".join(_best(stage, curve, selected.get(stage)) for stage, curve in curves.items())
        return drawn(figure, name, f"Evaluations, {kind}", told)


def _look(number: int) -> dict[str, Any]:
    """Return colour, line style and marker; when the colours begin anew, they meet other styles and markers."""
    cycle = number // len(SERIES)
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[(number + cycle) % len(DASHES)],
        "marker": MARKERS[(number + 2 * cycle) % len(MARKERS)],
        "markevery": 0.12,
    }


def _told(curves: Sequence[Curve]) -> str:
    return " ".join(
        f"{curve.name}: {curve.values[0]:.3g} at first, {curve.values[-1]:.3g} at step {curve.steps[-1]}."
        for curve in curves
    )


def _rounds(training: Training) -> str:
    return f" Rounds end at steps {', '.join(map(str, training.bounds))}." if training.bounds else ""


def _best(stage: str, curve: Curve, step: int | None) -> str:
    told = f"{stage}: {curve.values[0]:.3f} at step {curve.steps[0]}, {curve.values[-1]:.3f} at step {curve.steps[-1]}"
    if step not in curve.steps:
        return f"{told}."
    return f"{told}; selected is step {step} with {curve.values[curve.steps.index(step)]:.3f}."
