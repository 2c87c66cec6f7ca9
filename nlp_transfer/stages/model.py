"""The model that a stage trains: base weights, label names, dropout, tuning, and the encoder of an earlier stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import finding, models, parts
from ..errors import ModelError
from ..heads import head_change, renew_head, with_labels
from ..last_layer import read_first_token
from ..model_files import has_adapter, label_config
from ..recipe.schema import TrainSpec
from ..units import Sizes
from ..vocabulary.extend import grow
from ..workspace import Workspace
from .weights import adopt_encoder

HEAD_DROPOUTS = (
    *("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout"),
    *("pooler_dropout", "cls_dropout"),
)
"""What architectures call the dropout of the head, and of what pools for it."""


def task_model(space: Workspace, train: TrainSpec, encoder: Path | None, title: str | None) -> Any:
    """Return the model for the task, tuned, ready to be trained.

    Where the base model has a head of its own for other labels, the rows of the labels that both have are kept.

    Args:
        space: The run's workspace.
        train: Training settings, resolved.
        encoder: Output model of an earlier stage, whose encoder is taken, or None for that of the base model.
        title: Name of the stage in what the run says of the head; None: nothing is said, as its weights are about to be
            replaced.
    """
    model = parts.build_tuning(space.recipe.tuning).apply(_with_head(space, train, title), space.task.peft_type)
    if encoder is not None:
        adopt_encoder(model, encoder)
    return model


def _with_head(space: Workspace, train: TrainSpec, title: str | None) -> models.Loaded:
    """Load the base model with a head for the task's labels."""
    task, config = space.task, task_config(space, train, space.task.labels)
    old, same_kind = models.label_names(space.base), models.has_head(space.base, space.task.auto_class)
    if old is None or (same_kind and old == task.labels):
        return load_base(space, task.auto_class, config)
    change = head_change(old if same_kind else [], task.labels)
    if title is not None:
        space.reporter.say(f"{title}: {change}")
    if not change.kept:
        return renew_head(load_base(space, task.auto_class, config))
    return with_labels(load_base(space, task.auto_class, task_config(space, train, old)), old, task.labels)


def output_of(space: Workspace, folder: Path) -> finding.ResolvedModel:
    """Return where the weights of a finished stage are: its own folder, or its adapter on the run's base."""
    adapter = has_adapter(folder)
    return replace(space.base, adapter=folder) if adapter else finding.ResolvedModel(str(folder), None, folder)


def finished_model(space: Workspace, train: TrainSpec, folder: Path) -> Any:
    """Return the task model that an earlier stage of this run has finished, with its adapter merged if it has one.

    Args:
        space: The run's workspace.
        train: Training settings of that stage.
        folder: Its output model.
    """
    base = output_of(space, folder)
    config = task_config(replace(space, base=base), train, space.task.labels)
    model = models.load_model(space.task.auto_class, base, config).model
    read_first_token(model)
    return model


def other_model(space: Workspace, place: str) -> Any:
    """Return a task model that another run has left, with its adapter merged if it has one; see :func:`alike`."""
    source, task = alike(space, place), space.task
    model = models.load_model(task.auto_class, source, models.read_config(source, **label_config(task.labels))).model
    read_first_token(model)
    return model


def alike(space: Workspace, place: str) -> finding.ResolvedModel:
    """Find a task model that another run has left, and make sure that the run's own goes with it.

    Args:
        space: The run's workspace.
        place: Its folder or hub id.

    Raises:
        ModelError: It is not found, has other labels, or cuts texts into other tokens.
    """
    source, task = finding.resolve(place), space.task
    labels = models.label_names(source)
    if labels != task.labels:
        raise ModelError(f"'{place}' has the labels {labels}, but those of this run are {task.labels}.")
    if models.load_tokenizer(source).get_vocab() != space.tokenizer.get_vocab():
        raise ModelError(
            f"'{place}' cuts texts into other tokens than '{space.base.id}', so that the two cannot be compared token "
            "by token. Take models with the same vocabulary; for a student, fewer layers of its teacher."
        )
    return source


def load_base(space: Workspace, auto_class: str, config: Any) -> models.Loaded:
    """Load the base model with one kind of head, and with rows for the tokens that its vocabulary was extended by."""
    loaded = models.load_model(auto_class, space.base, config)
    if not space.new_tokens:
        return loaded
    return replace(loaded, new_rows=tuple(grow(loaded.model, space.tokenizer, space.new_tokens)))


def task_config(space: Workspace, train: TrainSpec, labels: Sequence[str]) -> Any:
    """Return the model configuration for the task: label names, problem type, dropout."""
    task = space.task
    changes = label_config(labels)
    if task.problem_type is not None:
        changes["problem_type"] = task.problem_type
    return models.read_config(space.base, **changes, **dropouts(train, models.read_config(space.base)))


def unit_sizes(space: Workspace, model: Any) -> Sizes:
    """Return what methods need to know to build their layers."""
    return Sizes(
        hidden=model.config.hidden_size,
        labels=len(space.task.labels),
        multi_label=space.task.row_kind == "multi_label",
        sources=len(space.splits.sources),
    )


def dropouts(train: TrainSpec, config: Any) -> dict[str, float]:
    """Return the configuration values that set dropout, by the names the architecture uses."""
    wanted = (
        (train.dropout, ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout", *HEAD_DROPOUTS)),
        (train.attention_dropout, ("attention_probs_dropout_prob", "attention_dropout")),
    )
    return {key: rate for rate, keys in wanted if rate is not None for key in keys if hasattr(config, key)}
