"""Learning curves from ``log.jsonl``: every named loss of every stage, and the scores that it was judged by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_POINTS = 200
"""Points of a curve that are drawn."""

Line = Mapping[str, Any]

_ROUND = re.compile(r"(?<=^self_train) \d+$")
"""What tells the rounds of self-training apart."""


@dataclass(frozen=True)
class Curve:
    """Values over optimizer steps.

    Args:
        name: What is measured.
        steps: Optimizer steps, rising.
        values: One for each step.
    """

    name: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Training:
    """The curves of one stage; rounds of self-training, and pretrain stages that follow each other, are joined.

    Args:
        stage: Name of the stage.
        losses: Its named losses, as they are before they are weighted; ``total`` is what was minimised.
        scores: What was measured at each evaluation: the headline score on source dev and, where another one selects,
            that one.
        bounds: Steps at which the joined trainings end, but the last; empty where there is one.
    """

    stage: str
    losses: list[Curve]
    scores: list[Curve]
    bounds: list[int] = field(default_factory=list)


def trainings(log: Iterable[Line], headline: str, stages: Sequence[str]) -> list[Training]:
    """Gather the curves of all stages that the log holds, in the order of training.

    Args:
        log: Lines of ``log.jsonl``.
        headline: Name of the score.
        stages: Names of the recipe's stages; one may be there twice.
    """
    parts: dict[str, list[list[Line]]] = {}
    for line in log:
        _add(parts.setdefault(line["stage"], []), line)
    joined: dict[str, list[list[Line]]] = {}
    for title, found in parts.items():
        times = max(1, stages.count(title.split()[0]))
        # Of a stage that was trained to the end and then begun anew, the last training counts.
        joined.setdefault(_ROUND.sub("", title), []).extend(found[-times:])
    return [_training(title, found, headline) for title, found in joined.items()]


def _add(parts: list[list[Line]], line: Line) -> None:
    """Append a line to the last training of a stage, or begin the next one.

    A training that was stopped and resumed has logged some steps twice: what is logged at a step makes void what was
    logged at later ones. After its last line (with ``train_runtime``) another training begins.
    """
    if not parts or ("train_runtime" in parts[-1][-1] and line["step"] < parts[-1][-1]["step"]):
        parts.append([])
    while parts[-1] and parts[-1][-1]["step"] > line["step"]:
        parts[-1].pop()
    parts[-1].append(line)


def _training(stage: str, rounds: Sequence[Sequence[Line]], headline: str) -> Training:
    found: dict[str, dict[int, float]] = {}
    done, ends = 0, []
    for lines in rounds:
        for line in lines:
            for key, value in line.items():
                if isinstance(value, (int, float)) and _is_curve(key, headline):
                    found.setdefault(key, {})[done + line["step"]] = float(value)
        done += max(line["step"] for line in lines)
        ends.append(done)
    losses = {key: found[key] for key in sorted(found) if key.startswith("loss")}
    if len(losses) == 2:
        # The only named loss is all that was minimised.
        del losses["loss"]
    return Training(
        stage,
        [_curve(_loss_name(key), points) for key, points in losses.items()],
        [_curve(key.removeprefix("eval_"), points) for key, points in found.items() if key.startswith("eval_")],
        ends[:-1],
    )


def _is_curve(key: str, headline: str) -> bool:
    return key == "loss" or key.startswith(("loss_", "eval_target_", "eval_oracle_")) or key == f"eval_{headline}"


def _loss_name(key: str) -> str:
    return "total" if key == "loss" else key.removeprefix("loss_")


def _curve(name: str, points: Mapping[int, float]) -> Curve:
    """Return a curve of at most :data:`MOST_POINTS` points, the first and the last among them."""
    steps = sorted(points)
    if len(steps) > MOST_POINTS:
        last = len(steps) - 1
        steps = [steps[round(at * last / (MOST_POINTS - 1))] for at in range(MOST_POINTS)]
    return Curve(name, steps, [points[step] for step in steps])
