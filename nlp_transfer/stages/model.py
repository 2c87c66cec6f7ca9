"""The model that a stage trains: base weights, label names, dropout, tuning, and the encoder of an earlier stage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .. import finding, models, parts
from ..errors import ModelError
from ..heads import head_change, renew_head, with_labels
from ..last_layer import read_first_token
from ..model_files import has_adapter, label_config
from ..recipe.schema import TrainSpec
from ..units import Sizes
from ..vocabulary.extend import grow
from ..workspace import Workspace


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
        (train.dropout, ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout")),
        (train.attention_dropout, ("attention_probs_dropout_prob", "attention_dropout")),
    )
    return {key: rate for rate, keys in wanted if rate is not None for key in keys if hasattr(config, key)}


def adopt_encoder(model: Any, folder: Path) -> None:
    """Give a model the encoder (or the adapters) that a pretrain stage has trained.

    The rest of the model stays as its base checkpoint has it: a masked-LM checkpoint holds no pooler, and reading the
    whole model from it would replace a trained pooler by a random one.

    Args:
        model: A model with a task head, after tuning.
        folder: Output model of the stage.

    Raises:
        ModelError: The folder's weights do not belong to this encoder.
    """
    adapter = has_adapter(folder)
    weights = load_file(folder / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    if adapter:
        own = {_saved_name(name): parameter for name, parameter in model.named_parameters() if _adapts(name)}
        wanted = {key: value for key, value in weights.items() if _adapts(key)}
    else:
        prefix = models.encoder_prefix(model)
        own = {name: parameter for name, parameter in model.named_parameters() if name.startswith(prefix)}
        wanted = {key: value for key, value in weights.items() if key.startswith(prefix)}
    missing = [name for name in own if name not in wanted and ".pooler." not in name]
    if missing or not wanted:
        raise ModelError(f"{folder} does not hold the weights of this encoder: {missing[:3]} …")
    with torch.no_grad():
        for key, value in wanted.items():
            if key in own:
                own[key].copy_(value)


def take_encoder(model: Any, other: Any) -> None:
    """Give a plain model the encoder of another one, with its adapters merged if it has any.

    Args:
        model: A model of the same architecture, whatever its head.
        other: The model whose encoder is copied; it stays as it is.
    """
    plain = copy.deepcopy(other).merge_and_unload() if hasattr(other, "peft_config") else other
    missing, _ = models.encoder_of(model).load_state_dict(models.encoder_of(plain).state_dict(), strict=False)
    assert not missing, missing


def continue_from(model: Any, folder: Path) -> None:
    """Give a masked-LM model everything that an earlier pretrain stage of the same recipe has trained, head included.

    Args:
        model: The masked-LM model of the base, after the same tuning.
        folder: Output model of the earlier stage.

    Raises:
        ModelError: The folder holds weights that this model has no place for.
    """
    outcome: Any
    if has_adapter(folder):
        from peft import set_peft_model_state_dict

        with models.quiet():
            outcome = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    else:
        # Tied decoders are not saved: they follow the embeddings, which are loaded in place.
        outcome = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if outcome.unexpected_keys:
        raise ModelError(f"{folder} does not hold the weights of this model: {outcome.unexpected_keys[:3]} …")


def adopt_model(model: Any, folder: Path) -> None:
    """Give a model all weights that a task stage of the same recipe has saved, head included.

    Args:
        model: A model with a task head, after tuning.
        folder: Output model of the stage.
    """
    if has_adapter(folder):
        weights = load_file(folder / "adapter_model.safetensors")
        own = {_saved_name(name).replace(".modules_to_save", ""): name for name in model.state_dict()}
    else:
        weights = load_file(folder / "model.safetensors")
        own = {name: name for name in model.state_dict()}
    unknown = [key for key in weights if key not in own]
    assert not unknown, f"{folder}: {unknown[:3]}"
    model.load_state_dict({own[key]: value for key, value in weights.items()}, strict=False)


def _adapts(name: str) -> bool:
    """Whether a parameter under PEFT belongs to the encoder's adapters, or to its rows for new tokens."""
    return "lora_" in name or "trainable_tokens_" in name


def _saved_name(name: str) -> str:
    """Return the key under which PEFT saves a parameter: without the adapter's name (DoRA's also without `.weight`)."""
    magnitude = "lora_magnitude_vector" in name
    return name.replace(".default.weight" if magnitude else ".default", "")
