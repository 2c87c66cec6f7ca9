"""Teacher and student side by side: scores of the same rows, size and speed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import RunError
from ..inference import load_predictor
from ..intervals import Interval, paired_difference
from ..predictions import answer_of, read_answers
from ..predictor import Predictor
from ..recipe.schema import EvaluateSpec
from ..report.record import Record
from ..running import RunResult

TIMED_TEXTS, ROUNDS = 200, 3


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Args:
        scores: Headline score by split.
        parameters: Number of weights.
        texts_per_second: Speed of prediction on this machine: the best of three rounds.
    """

    scores: dict[str, float]
    parameters: int
    texts_per_second: float


@dataclass(frozen=True)
class Distilled:
    """What distillation gave.

    Args:
        run: The student's run.
        teacher: The teacher.
        student: The student.
        gain: Student − teacher by split, with intervals over the same rows.
    """

    run: RunResult
    teacher: Side
    student: Side
    gain: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        sides = {"teacher": asdict(self.teacher), "student": asdict(self.student)}
        return sides | {"gain": {name: interval.to_dict() for name, interval in self.gain.items()}}


def weigh(teacher: Record, student: RunResult, level: EvaluateSpec) -> Distilled:
    """Compare the kept models of two runs on the rows that both have scored.

    Args:
        teacher: The teacher's run.
        student: The student's run.
        level: Of the intervals.

    Raises:
        RunError: The rows are not the same: the data have changed since the teacher's run.
    """
    models = [load_predictor(folder) for folder in (teacher.folder, student.folder)]
    kept = [(teacher.folder, teacher.metrics["kept"]), (student.folder, student.metrics["kept"])]
    shared = [name for name in student.metrics["scores"][kept[1][1]] if name in teacher.metrics["scores"][kept[0][1]]]
    scores: list[dict[str, float]] = [{}, {}]
    gain = {}
    for split in (name for name in shared if name in ("source.dev", "target.dev", "target.test")):
        rows = [read_answers(folder, role, split) for folder, role in kept]
        gold = [row["gold"] for row in rows[0]]
        if gold != [row["gold"] for row in rows[1]]:
            raise RunError(
                f"{split} has changed since the teacher '{teacher.folder}' was scored; run its recipe again."
            )
        of_teacher, of_student = (
            models[1].task.score(gold, [answer_of(row) for row in answers], level.confidence, 1) for answers in rows
        )
        counts = of_student.counts_NK, of_teacher.counts_NK
        gain[split] = paired_difference(*counts, of_student.statistic, level.confidence, level.resamples)
        for side, score in zip(scores, (of_teacher, of_student), strict=True):
            side[split] = score.interval.value
    texts = [row["text"] for row in read_answers(*kept[0], "source.dev")][:TIMED_TEXTS]
    old, new = (
        Side(found, sum(weight.numel() for weight in model.model.parameters()), speed)
        for found, model, speed in zip(scores, models, _speeds(models, texts), strict=True)
    )
    return Distilled(student, old, new, gain)


def _speeds(models: list[Predictor], texts: list[str]) -> list[float]:
    """Texts a second of each model; they take turns, so that what else the machine does meets all of them."""
    best = [float("inf")] * len(models)
    for _ in range(ROUNDS):
        for number, model in enumerate(models):
            begun = time.perf_counter()
            model(texts)
            best[number] = min(best[number], time.perf_counter() - begun)
    return [len(texts) / seconds for seconds in best]
