"""Training the task on labelled rows, with or without adaptation methods."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_utils import set_seed

from .. import jobs, parts
from ..caching import cached_encoder
from ..chosen import told
from ..jobs import Job
from ..last_layer import read_first_token
from ..objectives import TaskObjective
from ..preparation import preparing
from ..recipe.schema import TrainSpec
from ..recipe.stages import FinetuneStage
from ..selecting import selection_of, selector
from ..workspace import Workspace
from . import base
from .frozen import read_once
from .masked import masked_copies
from .model import task_model, unit_sizes
from .rows import Rows, fit_task, labelled_rows, with_unlabelled
from .teacher import taught
from .weights import adopt_model


def finetune(
    space: Workspace,
    stage: FinetuneStage,
    folder: Path,
    fingerprint: str,
    before: base.Before,
    *,
    title: str,
    twin: bool = False,
) -> base.StageResult:
    """Train the task on labelled rows.

    Args:
        space: The run's workspace.
        stage: The stage's settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left; the twin's first stage starts from the base model whatever that is.
        title: Name of the stage in progress bars and the log.
        twin: Without the recipe's methods and selection.

    Returns:
        The result; ``model/`` loads with plain ``transformers`` or ``peft``.
    """
    done = base.resumed(space, folder, fingerprint)
    if done is not None:
        return done
    recipe, task, train = space.recipe, space.task, TrainSpec.model_validate(stage.train)
    set_seed(recipe.seed)
    model = _starting_model(space, train, before, title)
    named = [] if twin or not stage.adapt else recipe.methods
    methods = parts.build_methods(named, unit_sizes(space, model), space.methods)
    chosen_by = selection_of(recipe, space.splits, stage, twin)
    rows = labelled_rows(space, stage)
    fit_task(space, stage, rows)
    rows = replace(with_unlabelled(space, rows, stage, named), selector=selector(space, chosen_by))
    _say_long_rows(space, title, rows)
    continued = before.model is not None
    masked = masked_copies(space, train, folder, before.encoder, methods, model, rows.target, continued)
    if masked is None:  # Masked copies are predicted from the states of all tokens.
        read_first_token(model)
    for method in methods.values():
        if method.needs_teacher:
            with preparing(folder, "teacher"):
                rows = taught(space, train, method, before.twin, rows)
    with contextlib.ExitStack() as stack:
        if not parts.TUNINGS[recipe.tuning.name].moves_features:
            with preparing(folder, "features"):
                states, rows = read_once(space, model, rows)
            stack.enter_context(cached_encoder(model, states))
        reads_target = any(
            space.methods[part.name].reads_target(part.settings) and methods[part.name].masking is None
            for part in named
        )
        data, dev = rows.pairs(masked, reads_target), base.judged(space, title, train, chosen_by, rows.dev)
        objective = TaskObjective(task, methods)
        job = Job(space, train, folder, title, objective, data, rows.order, dev, rows.selector)
        facts = jobs.train(job, model)
        task.tune(space.splits.dev.rows, jobs.dev_logits(space, model, rows.dev))
    if methods:
        del model.adaptation
    facts |= {"on": stage.on, "selection": told(chosen_by), "task": task.settings()}
    return base.finish(space, folder, fingerprint, model, facts | _counts(rows))


def _starting_model(space: Workspace, train: TrainSpec, before: base.Before, title: str) -> Any:
    """Return the base model with a head for the task, or the model of the stage before.

    Its head goes on as it is, with the rows of labels that no stage before had examples of: these were trained to be
    given to nothing. Drawn anew they are no better, and worse after few steps (CoNLL-2003, then 200 sentences of
    CrossNER's politics with five new types; MiniLM, one seed, entity F1 after 20, 60 and 200 steps: 0.434, 0.547 and
    0.622 as they are, 0.411, 0.549 and 0.624 anew; with one rate for head and encoder 0.355 and 0.519 against 0.333
    and 0.504).
    """
    if before.model is None:
        return task_model(space, train, before.encoder, title)
    model = task_model(space, train, None, None)
    adopt_model(model, before.model)
    return model


def _counts(rows: Rows) -> dict[str, int]:
    """Return how many rows of each side were trained on, and how many did not fit into one window."""
    labelled, target = rows.labelled, rows.target_labels
    return {"source_rows": labelled.rows - target, "target_rows": target, "long_rows": labelled.long_rows}


def _say_long_rows(space: Workspace, title: str, rows: Rows) -> None:
    labelled = rows.labelled
    if labelled.long_rows and not space.limits.truncate:
        side = "labelled" if rows.target_labels else "source"
        space.reporter.say(
            f"{title}: {labelled.long_rows} of {labelled.rows} {side} texts are longer than {space.limits.max_length} "
            "tokens: read in overlapping windows."
        )
