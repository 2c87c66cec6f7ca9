"""Training the task on source rows, with or without adaptation methods."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from transformers.trainer_utils import set_seed

from .. import jobs, models, parts
from ..caching import cached_encoder
from ..data.pairs import PairedDomains, RowOrder
from ..forward import window_logits
from ..hardware import default_device
from ..jobs import Job
from ..methods.base import Method
from ..objectives import TaskObjective
from ..recipe.schema import TrainSpec
from ..selecting import selector
from ..tasks.base import Encoded
from ..workspace import Workspace
from . import base
from .frozen import read_once
from .masked import masked_copies
from .model import finished_model, task_model, unit_sizes


def finetune(
    space: Workspace, train: TrainSpec, folder: Path, fingerprint: str, before: base.Before, *, adapt: bool
) -> base.StageResult:
    """Train the task on source rows.

    Args:
        space: The run's workspace.
        train: Training settings, resolved.
        folder: The stage's folder.
        fingerprint: Hash of everything that determines the result.
        before: What earlier stages left; the twin starts from the base model whatever that is.
        adapt: Use the recipe's methods. The source-only twin does not.

    Returns:
        The result; ``model/`` loads with plain ``transformers`` or ``peft``.
    """
    done = base.finished(folder, fingerprint)
    if done is not None:
        return done
    base.begin(space, folder, fingerprint)
    recipe, task = space.recipe, space.task
    title = "finetune" if adapt else "source-only"
    set_seed(recipe.seed)
    model = task_model(space, train, before.encoder if adapt else None, title)
    task.mean_pooling = models.pools_by_mean(model.config)
    methods = parts.build_methods(recipe.methods, unit_sizes(space, model), space.methods) if adapt else {}
    source = task.encode(space.splits.train.rows, space.tokenizer, space.limits, labelled=True)
    dev = task.encode(space.splits.dev.rows, space.tokenizer, space.limits, labelled=False)
    _say_long_rows(space, title, source)
    target = _target(space, methods)
    masked = masked_copies(space, train, folder, before.encoder, methods, model, target)
    if any(method.needs_teacher for method in methods.values()):
        assert before.twin is not None
        source, target = _taught(space, train, before.twin, source, target)
    chosen_by = selector(space) if adapt else None
    with contextlib.ExitStack() as stack:
        if not parts.TUNINGS[recipe.tuning.name].moves_features:
            sides = [*([] if target is None else [target]), *([] if chosen_by is None else chosen_by.sides)]
            states, (source, dev, *others) = read_once(space, model, source, dev, *sides)
            stack.enter_context(cached_encoder(model, states))
            target = None if target is None else others.pop(0)
            chosen_by = None if chosen_by is None else chosen_by.reading(*others)
        reads_rows = any(method.needs_target and method.masking is None for method in methods.values())
        data = PairedDomains(source.features, target.features if target is not None and reads_rows else None, masked)
        job = Job(
            space,
            train,
            folder,
            title,
            TaskObjective(task, methods),
            data,
            RowOrder(source.lengths, None if target is None else target.lengths, source.mixture()),
            dev,
            chosen_by,
        )
        facts = jobs.train(job, model)
        task.tune(space.splits.dev.rows, jobs.dev_logits(space, model, dev))
    if methods:
        del model.adaptation
    facts |= {"source_rows": source.rows, "long_rows": source.long_rows, "task": task.settings()}
    return base.finish(space, folder, fingerprint, model, facts)


def _target(space: Workspace, methods: Mapping[str, Method]) -> Encoded | None:
    """Return the encoded target rows, where a method needs them."""
    unlabelled = space.splits.unlabelled
    if unlabelled is None or not any(method.needs_target for method in methods.values()):
        return None
    return space.task.encode(unlabelled.rows, space.tokenizer, space.limits, labelled=False)


def _say_long_rows(space: Workspace, title: str, source: Encoded) -> None:
    if source.long_rows:
        fate = "cut off there (data.long_texts)" if space.limits.truncate else "read in overlapping windows"
        space.reporter.say(
            f"{title}: {source.long_rows} of {source.rows} source texts are longer than {space.limits.max_length} "
            f"tokens: {fate}."
        )


def _taught(
    space: Workspace, train: TrainSpec, twin: Path, source: Encoded, target: Encoded | None
) -> tuple[Encoded, Encoded | None]:
    """Give all rows the twin's logits, so that no step has to run it."""
    windows = source.windows + ([] if target is None else target.windows)
    teacher = finished_model(space, train, twin).to(default_device())
    with space.reporter.bar("answers of the source-only twin", len(windows)) as advance:
        logits = window_logits(
            teacher,
            windows,
            space.tokenizer.pad_token_id,
            space.recipe.evaluate.batch_tokens,
            advance,
            autocast=space.precision.bf16,
            shared=True,
        )
    first = len(source.windows)
    return source.with_teacher(logits[:first]), None if target is None else target.with_teacher(logits[first:])
