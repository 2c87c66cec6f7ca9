"""The scores of a run: every selected model on source dev and on the labelled target splits, each once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import runfolder
from .calibration import reliability
from .card.origins import made_of_oracles
from .chosen import LAST_STEP, told
from .data.load import ORIGIN, Split
from .evidence import without_vote
from .guard import ADAPTED, TWIN, Candidate, Decision, called, decide, own_role
from .hardware import is_main_process
from .inference import load_resolved
from .intervals import Interval, paired_difference
from .outputs import sample_rows, units_of
from .predictions import file_of, write_target
from .predictor import Predictor, text_answer, token_answer
from .recipe.schema import Recipe
from .recipe.trust import GuardSpec
from .selecting import selection_of
from .selection import SCORES, score
from .sequence import Outcome
from .settings import write_settings
from .stages.base import StageResult
from .stages.model import output_of
from .tasks.base import Score, Task
from .tasks.ner import Ner
from .verdict import JUDGES, rows_that_differ, verdict
from .workspace import Workspace

SAMPLE = 0
"""Seed of the rows that models are compared on without labels."""


def write_prediction_settings(space: Workspace, outcome: Outcome) -> None:
    """Write the prediction settings beside each task model."""
    for result in outcome.named().values():
        if "task" in result.facts:
            # Thresholds belong to the model that they were tuned for.
            space.task.restore(result.facts["task"])
            recipe = space.recipe
            write_settings(result.model, space.task, space.limits, recipe.task.polarity, recipe.data.target.label_map)


def evaluate_models(space: Workspace, outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Score the selected checkpoints on source dev and on the labelled target splits, each once; let the guard decide.

    Of several source domains, the dev rows of each are a score of their own, too: ``source.<name>.dev``.

    Args:
        space: The workspace.
        outcome: What the stages left.
        folder: The run folder; predictions go to ``predictions/``.

    Returns:
        The content of ``metrics.json``.
    """
    recipe = space.recipe
    roles = {ADAPTED if recipe.adapts else TWIN: outcome.final}
    if outcome.twin is not None:
        roles[TWIN] = outcome.twin
    judged = recipe.evaluate.label_free or (isinstance(recipe.guard, GuardSpec) and outcome.twin is not None)
    found = {role: _scored(space, role, result, folder, judged) for role, result in roles.items()}
    scores = {role: model.scores for role, model in found.items()}
    candidates = {role: model.candidate for role, model in found.items() if model.candidate is not None}
    metrics = _metrics(recipe, space.task.headline, scores) | _target_labels(space) | made_of_oracles(recipe, scores)
    metrics["calibration"] = {role: model.calibration for role, model in found.items()}
    if outcome.twin is not None:
        metrics["steps"] = outcome.steps
    if recipe.evaluate.label_free:
        metrics["label_free"] = {role: label_free(candidate) for role, candidate in candidates.items()}
        if is_main_process():
            for role, candidate in candidates.items():
                write_target(folder, role, candidate.target.probabilities_DUC)
    if isinstance(recipe.guard, GuardSpec) and len(candidates) > 1:
        metrics |= _guarded(space, recipe.guard, candidates, Interval(**metrics["gain"]["source.dev"]))
    return metrics


@dataclass(frozen=True)
class _Scored:
    """What is known of a model once it has answered.

    Args:
        scores: Of each split.
        calibration: Reliability on these, and the temperature of source dev.
        candidate: What guard and label-free scores look at, where they are asked for.
    """

    scores: dict[str, Score]
    calibration: dict[str, Any] | None
    candidate: Candidate | None


def _scored(space: Workspace, role: str, result: StageResult, folder: Path, judged: bool) -> _Scored:
    """Let a model answer all labelled splits; write its predictions."""
    recipe = space.recipe
    source = output_of(space, result.model)
    predictor = load_resolved(source, batch_tokens=recipe.evaluate.batch_tokens, precision=recipe.train.precision)
    splits: dict[str, Split] = {"source.dev": space.splits.dev, **space.splits.scored}
    logits = {name: predictor.logits(split.rows, shared=True) for name, split in splits.items()}
    scores: dict[str, Score] = {}
    for name, split in splits.items():
        found, rows = _score(predictor.task, name, split, logits[name], space)
        scores |= found
        if is_main_process():
            runfolder.write_lines(file_of(folder, role, name), rows)
    candidate = _candidate(predictor, space, scores["source.dev"]) if judged else None
    return _Scored(scores, _calibration(predictor.task, splits, logits), candidate)


def _guarded(
    space: Workspace, spec: GuardSpec, candidates: Mapping[str, Candidate], source_gain: Interval
) -> dict[str, Any]:
    """Let the guard choose, and say what it found; return what ``metrics.json`` keeps of it."""
    recipe = space.recipe
    words = recipe.task.labels_words
    # The twin's is source dev's wherever that can judge the training.
    blind = selection_of(recipe, space.splits, recipe.finetunes[-1], twin=True) == LAST_STEP
    decision = decide(
        candidates[ADAPTED],
        candidates[TWIN],
        space.task.labels,
        spec,
        source_gain,
        without_vote(recipe.selection.name, words, blind),
        "blind" if blind else "evidence" if words else "fault",
    )
    _say(decision, space)
    return {"kept": decision.kept, "guard": decision.to_dict()}


def _candidate(predictor: Predictor, space: Workspace, source_dev: Score) -> Candidate:
    """What a model says of a sample of unlabelled target text and of source dev; target labels are not at hand here.

    The sample is the same for every seed, so that runs can be compared row by row.
    """
    unlabelled = space.splits.unlabelled
    assert unlabelled is not None
    judged, guard = space.recipe.evaluate, space.recipe.guard
    most = guard.max_rows if isinstance(guard, GuardSpec) and not judged.label_free else judged.label_free_rows
    target, source = (
        units_of(
            predictor.model,
            predictor.task,
            predictor.task.encode(sample_rows(rows, most, SAMPLE), predictor.tokenizer, predictor.limits, labelled),
            predictor.tokenizer.pad_token_id,
            most=most,
            batch_tokens=predictor.batch_tokens,
            autocast=predictor.bf16,
        )
        for rows, labelled in ((unlabelled.rows, False), (space.splits.dev.rows, True))
    )
    return Candidate(target, source, source_dev.interval.value)


def label_free(candidate: Candidate) -> dict[str, float | None]:
    """Return every score that needs no target labels, None for those that are not numbers."""
    found = {"source_dev": candidate.source_dev} | {
        name: score(name, candidate.target, candidate.source) for name in SCORES
    }
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found.items()}


def _target_labels(space: Workspace) -> dict[str, Any]:
    """What selected the checkpoint, and which labelled target rows were trained on, if any."""
    recipe, splits = space.recipe, space.splits
    found: dict[str, Any] = {"selection": told(selection_of(recipe, splits, recipe.finetunes[-1]))}
    if recipe.uses_target_labels and splits.target_train is not None:
        stages = [stage.on for stage in recipe.finetunes]
        found["target_labels"] = {"rows": len(splits.target_train), "stages": stages}
    return found


def _say(decision: Decision, space: Workspace) -> None:
    kept = called(decision.kept, space.recipe.uses_target_labels)
    text = f"guard: the {kept} model is kept. {' '.join(decision.reasons)}"
    if decision.kept == TWIN:
        space.reporter.warn(f"{text} With guard: false the adapted one is kept whatever happens.")
    else:
        space.reporter.say(text)


def _calibration(task: Task, splits: dict[str, Split], logits: dict[str, list[np.ndarray]]) -> dict[str, Any] | None:
    """How far confidence is from the share of right answers, as it is and under the temperature of source dev.

    None of a model whose outputs are not finite numbers.
    """
    if not all(np.isfinite(row).all() for rows in logits.values() for row in rows):
        return None
    temperature = task.temperature(splits["source.dev"].rows, logits["source.dev"])
    found: dict[str, Any] = {"temperature": round(temperature, 4), "splits": {}}
    for name, split in splits.items():
        answers, gold = task.answer(logits[name]), task.gold(split.rows)
        found["splits"][name] = {
            kind: reliability(*task.confidences(gold, answers, logits[name], divisor)).to_dict()
            for kind, divisor in (("plain", 1.0), ("scaled", temperature))
        }
    return found


def _score(
    task: Task, name: str, split: Split, logits: list[np.ndarray], space: Workspace
) -> tuple[dict[str, Score], list[dict[str, Any]]]:
    """Return the scores of a split (of several source domains also each one's) and its predictions."""
    settings = space.recipe.evaluate
    answers, gold = task.answer(logits), task.gold(split.rows)
    sources = _sources_of_rows(split, space)
    parts = {name: range(len(split))} | {
        f"source.{source}.dev": [row for row, of in enumerate(sources) if of == source]
        for source in dict.fromkeys(sources)
    }
    scores = {
        part: task.score(
            [gold[row] for row in rows], [answers[row] for row in rows], settings.confidence, settings.resamples
        )
        for part, rows in parts.items()
    }
    lines = []
    for number, row in enumerate(split.rows):
        if isinstance(task, Ner):
            given = token_answer(task, row["text"], row["words"], row["starts"], answers[number], logits[number])
        else:
            given = text_answer(task, row["text"], answers[number], logits[number])
        place = {"row": number} | ({"source": sources[number]} if sources else {})
        lines.append({**place, "gold": gold[number], **given})
    return scores, lines


def _sources_of_rows(split: Split, space: Workspace) -> list[str]:
    """Return the name of the source domain of each row; nothing for rows of one domain."""
    if ORIGIN not in split.rows.column_names:
        return []
    return [space.splits.sources[number].name for number in split.rows[ORIGIN]]


def _metrics(recipe: Recipe, headline: str, scores: dict[str, dict[str, Score]]) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "headline": headline,
        "confidence": recipe.evaluate.confidence,
        "kept": own_role(scores),
        "scores": {
            role: {name: {"interval": score.interval.to_dict(), **score.metrics} for name, score in by_split.items()}
            for role, by_split in scores.items()
        },
    }
    if {ADAPTED, TWIN} <= set(scores):
        gain = {
            name: paired_difference(
                scores[ADAPTED][name].counts_NK,
                scores[TWIN][name].counts_NK,
                scores[TWIN][name].statistic,
                confidence=recipe.evaluate.confidence,
                resamples=recipe.evaluate.resamples,
            )
            for name in scores[TWIN]
        }
        metrics["gain"] = {name: interval.to_dict() for name, interval in gain.items()}
        judged = [name for name in JUDGES if name in gain]
        if judged:
            judge = judged[0]
            differing = rows_that_differ(scores[ADAPTED][judge].counts_NK, scores[TWIN][judge].counts_NK)
            metrics["verdict"] = {
                "split": judge,
                "verdict": verdict(gain[judge], differing, recipe.evaluate.confidence),
                "rows_that_differ": differing,
                **metrics["gain"][judge],
            }
    return metrics
